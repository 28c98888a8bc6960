"""A fresh difference_aware change encoder on a checkpoint without one, as CCExpert starts from LLaVA-OneVision."""

import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from btcchat import BTCChat
from btcchat.change_encoder import CHANGE_ENCODERS, CHG_TYPES
from btcchat.cli import main
from btcchat.data.mixture import build_datasets
from btcchat.errors import BTCChatError
from btcchat.prompt import TEMPLATES
from btcchat.train.arguments import DataArguments, ModelArguments
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import expand
from tests.layouts import ccexpert, levir_cc

INTRO = "This is the Image1 <image>. This is the second Image2 <image>.\n"


def test_depths_and_change_encoder_are_those_of_the_flags_and_are_saved(run, tmp_path):
    from tests.tiny import tiny_model

    mlp = {"mm_projector_type": "mlp2x_gelu"}
    tiny_model(tmp_path, change_encoder=None, llm="qwen2", mm_projector=mlp).save_pretrained(tmp_path / "onevision")
    flags = {"model_name_or_path": tmp_path / "onevision", "from_origin": True, "chg_type": "cc_expert"}
    flags |= {"mm_vision_select_layer": "[-2,-1]", "cc_expert_args": '{"per_expert_depth": 1}'}
    trainer = run(tune_mm_projector=True, version="qwen_1_5", pair_prompt=INTRO, caption_question="What?", **flags)
    model = BTCChat.from_pretrained(trainer.args.output_dir, device="cpu")
    options = {"per_expert_depth": 1, "mlp_dim": None, "downsample_ratio": 1}  # the last two are defaults
    assert model.config.change_encoder == {"change_encoder_type": "difference_aware", **options}
    assert model.vision_tower.num_depths == 2
    assert (model.config.pair_prompt, model.config.caption_question) == (INTRO, "What?")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mm_vision_select_layer": "-2,-1"}, "mm_vision_select_layer is '-2,-1', expected one layer such as -2 or a"),
        ({"cc_expert_args": "{depth: 2}"}, "--cc_expert_args is {depth: 2}, expected a JSON object"),
    ],
)
def test_a_flag_that_cannot_be_read_is_an_error_of_one_line(flags, message):
    with pytest.raises(BTCChatError, match=message):
        ModelArguments("model", **flags)


def test_help_names_every_template_and_change_encoder():
    help_texts = {field.name: field.metadata["help"] for field in (*fields(ModelArguments), *fields(DataArguments))}
    assert [name for name in TEMPLATES if name not in help_texts["version"]] == []
    assert [name for name in (*CHG_TYPES, *CHANGE_ENCODERS) if name not in help_texts["chg_type"]] == []
    assert "LLaVA-OneVision" in help_texts["from_origin"]


def test_llava_nexts_names_of_parts_select_ours(run, tmp_path):
    from btcchat.train.arguments import TrainingArguments
    from btcchat.train.flags import read_tunable_parts

    args = TrainingArguments(str(tmp_path), use_cpu=True, mm_tunable_parts="mm_mlp_adapter, mm_vision_resampler")
    read_tunable_parts(args)
    assert (args.tune_single_projector, args.tune_cc_projector) == (True, True)
    assert not args.tune_language_model and not args.tune_vision_tower
    with pytest.raises(
        BTCChatError, match="--mm_tunable_parts and --tune_language_model both select the trained parts"
    ):
        run(mm_tunable_parts="mm_mlp_adapter", tune_language_model=True)
    with pytest.raises(BTCChatError, match="unknown part in --mm_tunable_parts 'mm_projector'.*mm_language_model, mm_"):
        run(mm_tunable_parts="mm_projector")


@pytest.mark.parametrize(
    ("parts", "trained"),
    [
        ("mm_mlp_adapter,mm_vision_resampler", ["change_encoder", "mm_projector"]),
        ("mm_language_model", ["llm"]),
        ("mm_vision_tower,mm_vision_resampler", ["vision_tower", "change_encoder"]),
    ],
)
def test_the_table_at_the_start_shows_what_mm_tunable_parts_trains(parts, trained, run, capsys):
    run(mm_tunable_parts=parts, max_steps=1)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    start = table.index(["module", "parameters", "trainable", "lr"])
    rows = {row[0]: row[2:] for row in table[start + 1 : start + 5]}
    assert list(rows) == ["vision_tower", "change_encoder", "mm_projector", "llm"]
    assert {name: row for name, row in rows.items() if row[0] == "yes"} == dict.fromkeys(trained, ["yes", "0.001"])


DOCS = Path(__file__).parents[2] / "docs" / "systems.md"
NEEDED = ["--model_name_or_path", "model", "--data_mixture", "mine", "--output_dir", "out"]


def test_the_training_flags_in_the_docs_parse(monkeypatch):
    for gpu in ("bf16_gpu", "tf32"):
        monkeypatch.setattr(f"btcchat.train.hardware.is_torch_{gpu}_available", lambda: True)
    text = DOCS.read_text(encoding="utf-8")
    commands = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("btcchat train ")]
    assert len(commands) == 6 and sum("--smoke" in words for words in commands) == 3
    for words in commands:  # without --smoke, which writes a model
        parse_arguments(expand(["--preset", *(word for word in words if word != "--smoke")]))
    given = re.findall(r"`(--[a-z]+_[^`]*)`", text)  # only the training flags have underscores
    assert len(given) == 9
    for flags in given:
        parse_arguments([*NEEDED, *shlex.split(flags)])


def test_the_data_step_of_the_docs_works_as_it_stands(tmp_path, monkeypatch, capsys):
    text = DOCS.read_text(encoding="utf-8")
    commands = [line.split() for line in text.splitlines() if line.startswith("btcchat data ")]
    assert [words[2] for words in commands] == ["convert", "convert", "check"]
    levir_cc(tmp_path / "LEVIR-CC")
    ccexpert(tmp_path / "CC-Foundation")
    (tmp_path / "CC-Foundation" / "SUB").mkdir()
    for file in (tmp_path / "CC-Foundation").glob("*.json"):
        file.rename(file.parent / "SUB" / file.name)
    (tmp_path / "mine.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BTCCHAT_DATA", str(tmp_path))
    assert [main(words[1:]) for words in commands] == [0, 0, 0]
    assert "cc_foundation_levir_cc@flatten_list" in capsys.readouterr().out
    assert len(build_datasets("mine.yaml", dict)) == 6 * 4  # 2 pairs with 2 captions
    assert len(build_datasets("levir_cc:val", dict)) == 1


@pytest.mark.slow
def test_three_stages_in_a_row_end_in_scored_captions(tmp_path, capsys):
    """The smoke versions of CCExpert's stages, each starting from the last, and `btcchat eval` of the best epoch."""
    start = []
    for stage in ("1_cpt", "2_cpt", "3_sft"):
        command = ["train", f"ccexpert/0.5b/{stage}", "--smoke", "--gradient_checkpointing", "False"]
        assert main([*command, "--output_dir", str(tmp_path / stage), *start]) == 0
        start = ["--model_name_or_path", str(tmp_path / stage)]
    best, run = tmp_path / "3_sft" / "best", tmp_path / "run"
    model = BTCChat.from_pretrained(best, device="cpu")
    assert model.config.change_encoder["change_encoder_type"] == "difference_aware"
    assert (model.config.pair_prompt, model.vision_tower.num_depths) == (INTRO, 4)
    chosen = json.loads((best / "selection.json").read_text())
    assert (chosen["metric"], chosen["sets"], chosen["test splits"]) == ("S*m", ["synthetic_pair"], [])

    data = str(tmp_path / "3_sft" / "smoke" / "data")
    capsys.readouterr()
    words = ["eval", str(best), "synthetic_pair", "--data-root", data, "--format", "ccexpert", "--out", str(run)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "this checkpoint was chosen by S*m on synthetic_pair" in out and "CIDEr-D" in out
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"uid", "pred", "change_caption"}] * 4
    metrics = json.loads((run / "metrics.json").read_text())["sets"]["synthetic_pair"]
    assert main(["score", str(run / "predictions.jsonl"), "--baseline", "--intervals", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert all(card[name] == metrics[name] for name in ("scores", "factuality"))
    for flags, truth in ((card, "read from the references"), (metrics, "the flags of the data")):
        assert flags["changed_or_unchanged"].pop("truth") == truth  # CCExpert's rows do not have it
    assert card["changed_or_unchanged"] == metrics["changed_or_unchanged"]
