"""Prompt augmentation in training: prompts get clues, a set share gets none, and a missing clue is an error."""

import json
import tarfile

import pytest
import torch

from btcchat.clues.apply import AddClue
from btcchat.clues.ask import describe, records_of, write_clues
from btcchat.clues.store import CLUE_QUESTIONS, Clues, ClueWriter
from btcchat.data.mixture import build_datasets
from btcchat.errors import BTCChatError


@pytest.fixture(scope="module")
def clues(data_root, checkpoint, tmp_path_factory):
    """Clues about pairs and series: the names of their images."""
    folder = tmp_path_factory.mktemp("clues")
    about = {"model": "a base", "identity": "0" * 64, "questions": CLUE_QUESTIONS, "max_new_tokens": 8}
    with ClueWriter(folder / "cached", about) as writer:
        for record in records_of(build_datasets("pairs+series", dict, data_root=data_root, folder=data_root)):
            clue = " ".join(path.rpartition("/")[2].removesuffix(".png") for path in record.sources)
            writer.add([(record.modality, record.sources, clue)])
    return folder / "cached"


def texts(trainer, indices) -> list[str]:
    """The prompts of these samples, as text."""
    tokenizer = trainer.model.tokenizer
    ids = [trainer.train_dataset[index]["input_ids"].tolist() for index in indices]
    return [tokenizer.decode([i for i in one if i >= 0]) for one in ids]


TUNE = {"tune_mm_projector": True, "tune_language_model": True, "max_steps": 1}


def test_cached_clues_appear_in_the_prompts(run, clues):
    trainer = run("pairs+series+texts", prompt_augmentation="cached", clues=clues, **TUNE)
    pair, series, text = texts(trainer, (1, 16, 20))
    assert "[clue: red green] What changed?" in pair
    assert "[vqa] [clue: red red blue] How did it begin?" in series
    assert "clue" not in text
    off = run("pairs+series+texts", **TUNE, overwrite_output_dir=True)
    assert "clue" not in texts(off, [1])[0]
    assert [one.estimate.clue_tokens for one in (trainer, off)] == [8, 0]
    longer = [trainer.estimate("pair", 2, long) - off.estimate("pair", 2, long) for long in range(600)]
    assert sum(longer) / len(longer) == pytest.approx(8, abs=0.5)  # each is a multiple of 16


def test_clue_dropout_is_a_share_that_depends_on_seed_epoch_and_index(data_root, clues):
    mixture = build_datasets("pairs", dict, data_root=data_root, folder=data_root)
    records = list(records_of(mixture))

    def kept(seed: int, epoch: int, dropout: float = 0.5) -> list[bool]:
        add = AddClue(Clues(clues), dropout)
        return [add(record, (seed, epoch, i)).clue is not None for i, record in enumerate(records * 20)]

    assert kept(0, 0) == kept(0, 0)
    assert kept(0, 0) != kept(0, 1) != kept(1, 1)
    assert abs(sum(kept(0, 0)) - len(records) * 10) < 40  # of 320, more than four sigma
    assert all(kept(0, 0, 0.0)) and not any(kept(0, 0, 1.0))


def test_a_record_keeps_its_own_clue(data_root, clues):
    from dataclasses import replace

    record = replace(build_datasets("pairs", dict, data_root=data_root, folder=data_root).record(1), clue="mine")
    assert AddClue(Clues(clues))(record, (0, 0, 1)).clue == "mine"
    assert AddClue(Clues(clues), 1.0)(record, (0, 0, 1)).clue is None


def test_streamed_records_get_their_clues_too(data_root, clues, tmp_path):
    expected = []
    with tarfile.open(tmp_path / "series.tar", "w") as tar:
        for number, line in enumerate((data_root / "series.jsonl").read_text().splitlines()):
            row = json.loads(line)
            names = row.pop("images")
            expected.append(" ".join(name.removesuffix(".png") for name in names))
            (tmp_path / "row.json").write_text(json.dumps(row))
            tar.add(tmp_path / "row.json", f"{number}.json")
            for place, name in enumerate(names):
                tar.add(data_root / name, f"{number}.{place}.png")
    (tmp_path / "sets.yaml").write_text("shards: {annotation: series.tar}")
    mixture = build_datasets("shards", dict, data_root=tmp_path, folder=tmp_path)
    assert [record.clue for record in records_of(mixture)] == [None] * 4
    mixture.augment = AddClue(Clues(clues))
    assert [record.clue for record in records_of(mixture)] == expected
    mixture.augment = AddClue(Clues(clues), 0.5)
    epochs = [[record.clue is None for record in mixture.records(epoch)] for epoch in range(40)]
    assert epochs == [[record.clue is None for record in mixture.records(epoch)] for epoch in range(40)]
    assert 40 < sum(map(sum, epochs)) < 120 and len({tuple(epoch) for epoch in epochs}) > 5


def test_with_online_the_model_writes_the_clues_before_the_first_step(run, checkpoint, tmp_path):
    trainer = run("pairs", prompt_augmentation="online", clue_model="self", clue_dropout=0.5, **TUNE)
    kept = Clues(tmp_path / "out" / "clues")
    assert len(kept) == 16 and kept.about["model"] == str(checkpoint)
    from btcchat import BTCChat

    start = BTCChat.from_pretrained(checkpoint, device="cpu")
    record = trainer.train_dataset.record(1)
    asked = start.ask(CLUE_QUESTIONS["pair"], pair=record.sources, max_new_tokens=64)
    assert kept.of("pair", record.sources) == asked


@pytest.mark.parametrize(("attention", "expected"), [("flash_attention_2", torch.bfloat16), ("sdpa", torch.float32)])
def test_flash_attention_writes_clues_in_the_precision_of_the_training(run, monkeypatch, attention, expected):
    """It does not compute in float32, as the weights are; on a CPU it could not run at all."""
    from btcchat.train import train

    load, seen = train.load_model, []

    def loaded(*given):
        model = load(*given)
        model.llm.config._attn_implementation = attention
        return model

    def write(model, *given, **options):
        model.llm.config._attn_implementation = "sdpa"
        seen.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return write_clues(model, *given, **options)

    monkeypatch.setattr(train, "load_model", loaded)
    monkeypatch.setattr("btcchat.train.clues.write_clues", write)
    run("series", prompt_augmentation="online", clue_model="self", bf16=True, **TUNE)
    assert seen == [expected]


def test_a_resumed_run_does_not_write_its_clues_again(run, tmp_path, monkeypatch):
    online = {"prompt_augmentation": "online", "clue_model": "self", "save_strategy": "steps", "save_steps": 1}
    run("series", **TUNE | online)
    written = (tmp_path / "out/clues/clues.jsonl").read_text()
    monkeypatch.setattr("btcchat.train.clues.write_clues", lambda *a, **k: pytest.fail("asked again"))
    run("series", **TUNE | online | {"resume": True, "max_steps": 2})
    assert (tmp_path / "out/clues/clues.jsonl").read_text() == written


def test_another_model_can_write_the_clues(run, tmp_path):
    from tests.tiny import tiny_model

    tiny_model(tmp_path, seed=5).save_pretrained(tmp_path / "base")
    run("series", prompt_augmentation="online", clue_model=tmp_path / "base", **TUNE)
    assert json.loads((tmp_path / "out/clues/clues.json").read_text())["model"] == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"prompt_augmentation": "onlin"}, r"unknown prompt_augmentation 'onlin' \(did you mean 'online'"),
        ({"prompt_augmentation": "cached"}, "cached needs --clues DIR"),
        ({"prompt_augmentation": "cached", "clues": "nowhere"}, "nowhere is not a folder of clues"),
        ({"clue_dropout": 0.1}, "--clue_dropout 0.1 has no effect with --prompt_augmentation off"),
        ({"prompt_augmentation": "online", "clue_dropout": 1.5}, "--clue_dropout is 1.5, expected 0 to 1"),
        ({"prompt_augmentation": "online"}, "the model has no adapter to switch off; name another checkpoint"),
        ({"prompt_augmentation": "online", "clue_model": "self", "version": "plain"}, "template plain has no room"),
        ({"prompt_augmentation": "online", "clue_model": "self", "from_origin": True}, "already, and from_origin"),
    ],
)
def test_invalid_flags_of_prompt_augmentation_are_errors(run, flags, message):
    with pytest.raises(BTCChatError, match=message):
        run("pairs", **TUNE | flags)


def test_a_model_with_a_fresh_change_encoder_cannot_write_clues(run, tmp_path):
    from tests.tiny import tiny_model

    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "origin")
    flags = {"model_name_or_path": tmp_path / "origin", "from_origin": True, "chg_type": "attentive"}
    with pytest.raises(BTCChatError, match="fresh change encoder, and clues .* name the original checkpoint: --clue_m"):
        run("pairs", prompt_augmentation="online", clue_model="self", **TUNE | flags)


def test_records_without_a_clue_are_counted_before_the_first_step(run, clues):
    with pytest.raises(BTCChatError, match="8 records have no clue: images.jsonl row 1: no clue for .*and 3 more"):
        run("pairs+images+videos", prompt_augmentation="cached", clues=clues, **TUNE)


def test_clues_of_another_model_than_the_flag_says_are_an_error(run, clues, checkpoint):
    with pytest.raises(BTCChatError, match="has clues of the model a base .*, not of .*model"):
        run("pairs", prompt_augmentation="cached", clues=clues, clue_model=checkpoint, **TUNE)


def test_augment_and_training_agree_on_what_a_clue_is(run, data_root, checkpoint, tmp_path):
    from btcchat import BTCChat

    model = BTCChat.from_pretrained(checkpoint, device="cpu", num_video_frames=3)
    mixture = build_datasets("videos+images", dict, data_root=data_root, folder=data_root)
    with ClueWriter(tmp_path / "clues", describe(checkpoint, model, 8)) as writer:
        assert set(write_clues(model, records_of(mixture), writer, batch_size=3, max_new_tokens=8)) == {None}
    run("videos+images", prompt_augmentation="cached", clues=tmp_path / "clues", clue_model=checkpoint, **TUNE)


def test_an_adapter_is_off_while_its_model_writes_clues(run, checkpoint, tmp_path, capsys):
    """Both before the first training step and in serving: the same weights without the adapter, no second model."""
    from btcchat import BTCChat, cli

    flags = {"lora_enable": True, "lora_r": 4, "max_steps": 12, "learning_rate": 0.05, "prompt_augmentation": "online"}
    trainer = run("pairs", **flags)
    record = trainer.train_dataset.record(1)
    question, options = CLUE_QUESTIONS["pair"], {"pair": record.sources, "max_new_tokens": 64}
    start = BTCChat.from_pretrained(checkpoint, device="cpu")
    clue = start.ask(question, **options)
    assert Clues(tmp_path / "out" / "clues").of("pair", record.sources) == clue
    capsys.readouterr()

    tuned = BTCChat.from_pretrained(tmp_path / "out", device="cpu")
    assert tuned.ask(question, **options) != clue
    words = ["caption", *record.sources, "--model", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert cli.main([*words, "--prompt_augmentation", "online"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clue"] == clue
    assert result["caption"] == tuned.caption(*record.sources, clue=clue)
