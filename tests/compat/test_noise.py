"""Warnings of libraries about their own parts do not reach users."""

import subprocess
import sys
import warnings

from btcchat.compat.noise import ignore_known_warnings
from tests.tiny import tiny_model


def test_an_import_prints_nothing():
    code = "from btcchat import BTCChat; import transformers"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")


def test_known_warnings_are_ignored_and_others_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ignore_known_warnings()
        known = ("`torch.utils._pytree._register_pytree_node` is deprecated.", "`broadcast_buffers` is deprecated. Use")
        for message in (*known, "something else"):
            warnings.warn(message, FutureWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["something else"]


def test_saving_a_model_draws_no_bar(tmp_path, capfd):
    tiny_model(tmp_path).save_pretrained(tmp_path / "saved")
    assert capfd.readouterr().err == ""
