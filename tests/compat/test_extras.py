"""A missing package is reported before anything large is imported or built."""

import subprocess
import sys

import pytest

from btcchat.checkpoint.extras import check_extras as check_checkpoint
from btcchat.cli import main
from btcchat.commands.caption import EXAMPLE
from btcchat.errors import BTCChatError
from btcchat.train.extras import check_extras as check_flags

PEFT = r"needs the package peft, which is not installed; install it with: pip install 'btcchat\[train\]'$"


@pytest.fixture
def lacking(monkeypatch):
    """Pretend that a package is not installed."""
    return lambda name: monkeypatch.setitem(sys.modules, name, None)


def test_an_adapter_folder_without_peft_is_an_error(tmp_path, lacking, capsys):
    (tmp_path / "config.json").write_text('{"base_model": {"path": "x", "fingerprint": "y"}}')
    check_checkpoint(tmp_path)
    lacking("peft")
    with pytest.raises(BTCChatError, match=f"the adapter {tmp_path} {PEFT}"):
        check_checkpoint(tmp_path)
    for path in (None, "tiny", "some/hub-id"):
        check_checkpoint(path)
    assert main(["ask", "Q", "--image", str(EXAMPLE / "before.png"), "--model", str(tmp_path)]) == 2
    assert "needs the package peft" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--lora_enable", "True"], ["--lora-enable=True"], ["--preset", "release/3b/sft_lora"]]
)
def test_lora_without_peft_is_an_error(flags, lacking):
    check_flags(flags)
    lacking("peft")
    with pytest.raises(BTCChatError, match=f"--lora_enable True {PEFT}"):
        check_flags(flags)
    check_flags([*flags, "--lora_enable", "False"])
    check_flags(["--preset", "tiny/1_align"])


def test_deepspeed_that_is_not_installed_is_an_error(lacking):
    lacking("deepspeed")
    with pytest.raises(BTCChatError, match="--deepspeed zero2 needs the package deepspeed, which is not installed"):
        check_flags(["--deepspeed", "zero2"])


def test_bits_without_bitsandbytes_is_an_error(lacking, monkeypatch):
    lacking("bitsandbytes")
    monkeypatch.setattr("shutil.which", lambda name: None)
    check_flags(["--bits", "4"])  # without a GPU, a later check reports that
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(
        BTCChatError, match=r"--bits 4 \(on a CUDA GPU\) needs .* bitsandbytes, .* pip install bitsandbytes$"
    ):
        check_flags(["--bits", "4"])
    check_flags(["--bits", "16"])
    with pytest.raises(BTCChatError, match="bitsandbytes"):
        check_flags(["--preset", "release/3b/sft_qlora"])
    check_flags(["--preset", "release/3b/sft_qlora", "--smoke"])  # which leaves the flag out


def test_a_missing_package_is_reported_before_torch_is_imported():
    """Importing torch and transformers takes seconds; the error should appear within two."""
    code = (
        "import sys; sys.modules['peft'] = None; from btcchat.train.train_mem import main; "
        "code = main(['--preset', 'release/3b/sft_lora', '--smoke']); print(code, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "2 False\n", run.stderr
    assert "--lora_enable True needs the package peft" in run.stderr
