"""``tiny`` names the packaged model."""

import torch
from PIL import Image

from btcchat import BTCChat, Processor
from btcchat.checkpoint.hub import resolve
from btcchat.cli import main


def test_tiny_names_the_packaged_model_in_every_command(tmp_path, capsys):
    assert resolve("tiny") == resolve(None)
    named, default = (BTCChat.from_pretrained(name, device="cpu").state_dict() for name in ("tiny", None))
    assert all(torch.equal(named[key], value) for key, value in default.items())
    assert Processor.from_pretrained("tiny").layout == Processor.from_pretrained().layout
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    words = ["ask", "What is here?", "--image", str(tmp_path / "red.png"), "--max-new-tokens", "4", "--device", "cpu"]
    answers = []
    for model in (["--model", "tiny"], []):
        assert main([*words, *model]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_a_folder_named_tiny_takes_precedence_with_one_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("WARNING"):
        assert [resolve("tiny").resolve() for _ in range(3)] == [tmp_path / "tiny"] * 3
    assert caplog.text.count(f"the model 'tiny' is the local folder {tmp_path / 'tiny'}") == 1
    assert resolve(None) != resolve("tiny")
