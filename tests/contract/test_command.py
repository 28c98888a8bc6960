"""``btcchat check``: the same checks as when a model is built, and a table of them."""

import json
import re
import sys

import pytest

from btcchat import cli
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.contract.findings import run_checks
from btcchat.multimodal_projector.contract import Sizes, projector_checks
from tests.contract.encoders import FINDINGS
from tests.contract.parts import OfNine

HERE = "tests.contract.encoders"


def rows(out: str) -> dict[str, tuple[str, str]]:
    """check -> (result, found) of a printed table."""
    head, *lines, _ = out.splitlines()
    start = head.index("found")
    column = head.index("result")
    return {line[:column].strip(): (line[column:start].strip(), line[start:]) for line in lines}


@pytest.mark.parametrize("name", [*CHANGE_ENCODERS, "Chg2Cap", f"{HERE}:Difference"])
def test_an_encoder_that_fulfils_its_contract_exits_with_0(name, capsys):
    assert cli.main(["check", "change_encoder", name]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "16 checks: 16 pass" and err == ""
    assert list(rows(out))[-3:] == ["distance", "save and load", "gradients"]


@pytest.mark.parametrize("part", FINDINGS, ids=lambda part: part.__name__)
def test_the_table_has_the_line_of_the_broken_check_and_a_failure_exits_with_3(part, capsys):
    check, result, words = FINDINGS[part]
    assert cli.main(["check", "change_encoder", f"{HERE}:{part.__name__}"]) == (3 if result == "fail" else 0)
    out = capsys.readouterr().out
    assert rows(out)[check][0] == result
    assert re.search(words, rows(out)[check][1]), out
    assert out.splitlines()[-1].endswith(f"1 {result}")


def test_json_has_the_same_results(capsys):
    assert cli.main(["check", "change_encoder", f"{HERE}:OrderIgnored", "--option", "gain=2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["kind"], result["options"], result["passed"]) == ("change_encoder", {"gain": 2}, True)
    assert [row["check"] for row in result["checks"] if row["result"] == "warn"] == ["dates"]
    assert cli.main(["check", "change_encoder", f"{HERE}:NaN", "--json"]) == 3
    assert not json.loads(capsys.readouterr().out)["passed"]


WRONG = {
    "nosuch:MyEncoder": "there is no module 'nosuch'; install it, add its folder to PYTHONPATH, or run the command in",
    "my_encoder.py:MyEncoder": "the module 'my_encoder.py' is not the name of a module; name it as Python imports it",
    f"{HERE}:Diference": "(did you mean 'Difference'?)",
    "attentiv": "unknown change encoder 'attentiv' (did you mean 'attentive'?)",
    f"{HERE}:Difference --option gian=1": "unknown option 'gian' of change encoder 'tests.contract.encoders",
    f"{HERE}:Difference --option gain": "--option gain: expected NAME=VALUE",
    "attentive --option cc_head=7": "cc_head 7 does not divide the attention width of 512",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_class_that_cannot_be_imported_or_a_wrong_option_exits_with_2(words, capsys):
    assert cli.main(["check", "change_encoder", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and WRONG[words] in err, err


def test_a_module_of_the_current_folder_is_found_and_comes_after_installed_ones(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_encoder.py").write_text(
        f"import colorsys\n\nfrom {HERE} import Difference\n\n\nclass Mine(Difference):\n    pass\n"
    )
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not the installed one')\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        assert cli.main(["check", "change_encoder", "my_encoder:Mine"]) == 0
        (tmp_path / "broken_module.py").write_text("import math\n\n1 / 0\n")
        assert cli.main(["check", "change_encoder", "broken_module:Mine"]) == 2
        (tmp_path / "misspelt_module.py").write_text("improt math\n")
        assert cli.main(["check", "change_encoder", "misspelt_module:Mine"]) == 2
    finally:
        sys.modules.pop("my_encoder", None)
    assert sys.path == before
    err = capsys.readouterr().err
    assert "'broken_module' cannot be imported: ZeroDivisionError: division by zero (broken_module.py line 3)" in err
    assert err.endswith(": SyntaxError: invalid syntax (misspelt_module.py, line 1)\n")


def test_the_sizes_of_a_tower_may_be_given(capsys):
    assert cli.main(["check", "change_encoder", f"{HERE}:Pooling"]) == 0
    capsys.readouterr()
    assert cli.main(["check", "change_encoder", f"{HERE}:Pooling", "--grid", "9"]) == 3
    assert "expected an even grid and one depth, got 9 and 1" in rows(capsys.readouterr().out)["constructor"][1]


@pytest.mark.parametrize(
    "name", ["mlp_downsample", "mlp2x_gelu", "linear", "identity", "tests.contract.parts:Projector"]
)
def test_projectors_are_checked_too(name, capsys):
    assert cli.main(["check", "projector", name]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "13 checks: 13 pass"


def test_a_projector_for_an_unusual_number_of_tokens_is_checked_with_that_number(capsys):
    checks = projector_checks(OfNine, Sizes(32, 48, counts=(9,)), saved=True)
    assert [finding.result for finding in run_checks(checks)] == ["pass"] * 13
    assert cli.main(["check", "projector", "tests.contract.parts:OfNine"]) == 3
    found = rows(capsys.readouterr().out)
    assert found["constructor"][1] == "in_features 32, out_features 48"
    assert "16 tokens, expected 3 x 3" in " ".join(found["num_tokens"])


def test_a_projector_is_checked_at_the_first_width_that_it_takes(capsys):
    assert cli.main(["check", "projector", "tests.contract.parts:EvenAndWide"]) == 0
    assert rows(capsys.readouterr().out)["constructor"] == ("pass", "in_features 128, out_features 192")


def test_a_projector_that_breaks_its_contract_exits_with_3(capsys):
    assert cli.main(["check", "projector", "tests.contract.parts:HalfOfThem"]) == 3
    assert rows(capsys.readouterr().out)["output"][0] == "fail"


def test_vision_towers_are_checked_with_the_keys_of_their_config(capsys):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": 24, "patch_size": 8}
    options = [word for name, value in sizes.items() for word in ("--option", f"{name}={value}")]
    assert cli.main(["check", "vision_tower", "siglip", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "11 checks: 11 pass"
    assert cli.main(["check", "vision_tower", "tests.contract.parts:OneTensor", *options]) == 3
    assert "returned (3, 9, 32)" in rows(capsys.readouterr().out)["output"][1]
    assert cli.main(["check", "vision_tower", "siglip", "--option", "hidden_size=31"]) == 2
