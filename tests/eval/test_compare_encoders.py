"""``btcchat compare-encoders``: equal training runs, resuming, the table, and its scores and intervals."""

import gzip
import json
import re

import numpy as np
import pytest

from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.eval.captions.bootstrap import DRAWS, times
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.encoders import compare as comparing
from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan, conditions, differing, identity, val_splits
from btcchat.eval.encoders.runs import trained_seconds
from btcchat.eval.encoders.scores import FLAGS, Score, answer_scores, caption_scores, share
from btcchat.synthetic.write import SampleCounts, write_dataset

SETS = """
scenes: {annotation: "pairs_{split}.jsonl", images: data, splits: [train, val, test]}
asked: {annotation: questions.jsonl, images: data}
"""


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its paraphrase table, which takes seconds to read; its scores are not checked here."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six synthetic pairs for training and four for the comparison, which the tower reads at 32 x 32 pixels."""
    root = tmp_path_factory.mktemp("scenes")
    write_dataset(root / "data", SampleCounts(pairs=10), seed=3)
    rows = [json.loads(line) for line in (root / "data" / "pairs.jsonl").read_text().splitlines()]
    captioned = [row for row in rows if "captions" in row]
    for split, own in (("train", captioned[:6]), ("val", captioned[6:]), ("test", captioned[6:])):
        (root / f"pairs_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    (root / "sets.yaml").write_text(SETS)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("start")
    tiny_model(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def words(scenes, start, tmp_path):
    """The arguments of a comparison that takes seconds: two steps, two seeds."""
    flags = {"data": "scenes", "data-root": scenes, "mixture-folder": scenes, "start": start, "out": tmp_path / "out"}
    flags |= {"seeds": 2, "steps": 2, "repeats": 2}
    more = ["--set", "per_device_train_batch_size=3", "--set", "dataloader_num_workers=0"]
    return [*(word for name, value in flags.items() for word in (f"--{name}", str(value))), *more]


def rows_of(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_ctrl_c_says_that_the_same_command_resumes(words, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt("interrupted; run the same command with --resume True")  # as a training says

    monkeypatch.setattr(comparing, "compare", interrupted)
    assert main(["compare-encoders", "concat", "attentive", *words]) == 130
    line = f"btcchat: interrupted; {tmp_path}/out keeps what is finished. Run the same command again to resume\n"
    assert capsys.readouterr().err == line


@pytest.mark.slow
def test_two_encoders_are_trained_alike_and_a_second_run_trains_nothing(words, tmp_path, capsys, monkeypatch):
    pooled = 'attentive:{"cc_n_layers": 1, "cc_head": 2}'
    assert main(["compare-encoders", "concat", pooled, *words]) == 0
    printed = capsys.readouterr()
    concat, attentive = rows_of(printed.out)
    assert (concat["encoder"], attentive["encoder"]) == ("concat", "attentive cc_n_layers=1 cc_head=2")
    # Width 16: a cross-attention layer and a self-attention layer, counted in the module itself below.
    assert concat["parameters"] == "0" and concat["its GFLOP a pair"] == "0.00"
    assert (concat["tokens a pair"], attentive["tokens a pair"]) == ("8", "4")
    assert concat["minus concat"] == "-" and re.fullmatch(
        r"[+-]\d+\.\d \((p \d\.\d{3}|no p)\)", attentive["minus concat"]
    )
    assert re.search(
        r"4 training runs: about \d+ \w+, not counting the evaluations \(concat 2 steps of",
        printed.err,
    )
    assert "Load average" in printed.out and "scenes:val (4 samples)" in printed.out

    out = tmp_path / "out"
    assert (out / "comparison.md").read_text().strip() == printed.out.strip()
    result = json.loads((out / "comparison.json").read_text())
    assert len(result["encoders"][1]["scores"]["S*m"]["seeds"]) == 2
    flags = [json.loads(file.read_text())["flags"] for file in sorted(out.glob("*/seed-*/model/training.json"))]
    assert len(flags) == 4 and {one["data_seed"] for one in flags} == {0, 1}
    assert all(one["random_batches"] and one["eval_mixture"] is None and one["max_steps"] == 2 for one in flags)
    assert not list(out.glob("*/seed-*/model/best"))

    def none(*arguments):
        raise AssertionError("a training began")

    monkeypatch.setattr("btcchat.eval.encoders.runs.train", none)
    monkeypatch.setattr(comparing, "estimate", none)
    assert main(["compare-encoders", "concat", pooled, *words]) == 0
    again = capsys.readouterr()
    assert "all 4 training runs are already in" in again.err and rows_of(again.out)[1]["S*m"] == attentive["S*m"]
    assert main(["compare-encoders", "concat", pooled, *words, "--set", "learning_rate=5e-4"]) == 1
    told = capsys.readouterr().err
    assert "will be retrained: --learning_rate was 1e-3 and is 5e-4" in told and "a training began" in told


def plan(scenes, start, tmp_path, *encoders: str, **more) -> ComparisonPlan:
    where = {"data_root": str(scenes), "mixture_folder": str(scenes), "start": str(start), "out": tmp_path}
    return ComparisonPlan([*map(ComparedEncoder.parse, encoders)], **{"data": "scenes", **where, **more})


def test_every_encoder_sees_the_same_batches(scenes, start, tmp_path):
    from btcchat.data.batches import Batching
    from btcchat.train.flags import parse_arguments
    from btcchat.train.presets import to_argv
    from btcchat.train.train import train

    batches = {}
    for name in ("attentive", "concat"):
        chosen = plan(scenes, start, tmp_path, name, steps=2, flags={"per_device_train_batch_size": "2"})
        flags = chosen.training(chosen.encoders[0], 7, tmp_path / name) | {"dataloader_num_workers": 0}
        trainer = train(*parse_arguments(to_argv(flags)))
        batches[name] = list(trainer.get_train_dataloader().batch_sampler)
        tokens = trainer.model.layout.lengths("pair", 2)
        assert sum(tokens) == {"attentive": 4, "concat": 8}[name]
    assert batches["attentive"] == batches["concat"] and Batching(2).batch_size == len(batches["concat"][0])


def test_parameters_of_an_encoder_are_its_own(start):
    from btcchat import BTCChat
    from btcchat.eval.encoders.cost import cost

    model = BTCChat.from_pretrained(start)
    model.change_encoder = torch_line()
    pair = [np.zeros((32, 32, 3), np.uint8)] * 2
    found = cost(model, [pair, pair])
    assert found["parameters"] == 2 * 16 * 16 + 16 and found["tokens a pair"] == 4
    assert found["its GFLOP a pair"] == pytest.approx(2 * 16 * (2 * 16) * 16 / 1e9)  # 2 x tokens x in x out
    assert found["GFLOP a pair"] > found["its GFLOP a pair"]


def torch_line():
    """A linear layer over both dates, width 16."""
    import torch
    from torch import nn

    class Line(nn.Module):
        segments = 1

        def __init__(self):
            super().__init__()
            self.fuse = nn.Linear(32, 16)

        def forward(self, features):
            return self.fuse(torch.cat([features[:, 0, -1], features[:, 1, -1]], dim=-1))[:, None]

    return Line()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attentiv", r"unknown change encoder 'attentiv' \(did you mean 'attentive'\?\)"),
        ('attentive:{"gain": 1}', "unknown option 'gain' of change encoder 'attentive'"),
        ("attentive:gain=1", 'expected NAME or NAME:{"option": value}'),
        ("attentive:[1]", 'expected NAME or NAME:{"option": value}'),
    ],
)
def test_an_unknown_encoder_or_option_is_one_line(text, message):
    with pytest.raises(BTCChatError, match=message):
        ComparedEncoder.parse(text)


def test_options_are_in_the_name_of_the_row_and_of_its_folder():
    plain, layers = ComparedEncoder.parse("attentive"), ComparedEncoder.parse('attentive:{"cc_n_layers": 0}')
    depths = ComparedEncoder.parse('difference_aware:{"mm_vision_select_layer": [-2, -1]}')
    assert (plain.label, plain.folder) == ("attentive", "attentive")
    assert layers.label == "attentive cc_n_layers=0" and layers.folder.startswith("attentive_cc_n_layers=0-")
    assert depths.flags()["mm_vision_select_layer"] == "[-2, -1]" and "cc_args" not in depths.flags()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"evaluated": "scenes:test"}, "scenes:test is a test split; .*--i-know-this-is-the-test-split"),
        ({"data": "scenes:val"}, "scenes:val is in --data, and scores on training samples are meaningless"),
        ({"data": "scenes:train", "evaluated": "scenes:train@first:2"}, "scenes:train is in --data"),
        ({"data": "asked"}, "name the samples to evaluate with --eval|asked is in --data"),
        ({"steps": 2, "epochs": 1.0}, "--steps and --epochs both"),
        ({"flags": {"seed": "3"}}, "--set seed: this flag is set by the comparison"),
    ],
)
def test_a_meaningless_comparison_is_refused_before_it_starts(scenes, start, tmp_path, more, message):
    if more.get("data") == "asked":
        (scenes / "questions.jsonl").write_text((scenes / "pairs_val.jsonl").read_text())
    with pytest.raises(BTCChatError, match=message):
        plan(scenes, start, tmp_path, "concat", **more).check()


def test_a_test_split_is_accepted_with_its_flag(scenes, start, tmp_path):
    (one,) = plan(scenes, start, tmp_path, "concat", evaluated="scenes:test", allow_test=True).check()
    assert one.is_test


def test_the_val_splits_of_a_mixture_are_evaluated():
    assert val_splits("levir_cc:train@first:500*2+cdvqa+levir_cc@end:5") == "levir_cc+cdvqa"
    assert val_splits("sets/mine.yaml:scenes:train") == "sets/mine.yaml:scenes"


def test_a_training_differs_by_its_flags_its_data_and_the_code_of_its_encoder(scenes, start, tmp_path, monkeypatch):
    one = plan(scenes, start, tmp_path, "concat")
    shared = conditions(one)
    before = identity(one, one.encoders[0], 0, shared)
    assert differing(before, identity(one, one.encoders[0], 0, conditions(one))) is None
    longer = plan(scenes, start, tmp_path, "concat", epochs=3.0)
    assert differing(before, identity(longer, one.encoders[0], 0, shared)) == "--num_train_epochs was 1 and is 3.0"
    assert differing(before, identity(one, one.encoders[0], 0, shared | {"data": []})) == "data has changed"
    monkeypatch.setattr(ComparedEncoder, "code", lambda self: "new")
    assert differing(before, identity(one, one.encoders[0], 0, shared)) == "encoder's code has changed"


def predictions(texts: list[str]) -> list[Prediction]:
    """Pairs with two references each, every second one changed."""
    return [
        Prediction(str(n), text, (f"{n} houses on the left", "a house"), bool(n % 2), f"row {n + 1}")
        for n, text in enumerate(texts)
    ]


def test_scores_are_means_over_the_seeds_with_the_pairs_drawn_alike():
    good, bad = predictions([f"{n} houses on the left" for n in range(6)]), predictions(["there is no difference"] * 6)
    found = caption_scores({"good": [good, good], "mixed": [good, bad]}, {"none": [row.prediction for row in bad]})
    assert found["good"]["BLEU-1"].mean == pytest.approx(100, abs=1e-3)
    assert found["mixed"]["CIDEr-D"].seeds.tolist() == [found["good"]["CIDEr-D"].mean, found["none"]["CIDEr-D"].mean]
    assert (found["none"][FLAGS].mean, found["mixed"][FLAGS].mean) == (50.0, 50.0)
    half = (found["good"]["CIDEr-D"].draws + found["none"]["CIDEr-D"].draws) / 2
    np.testing.assert_allclose(found["mixed"]["CIDEr-D"].draws, half)
    assert found["good"]["CIDEr-D"].against(found["none"]["CIDEr-D"]).endswith("(p 0.002)")
    assert found["good"]["CIDEr-D"].against(found["good"]["CIDEr-D"]) == "+0.0 (p 1.000)"


def test_intervals_and_differences_are_those_of_a_case_computed_by_hand():
    """With two draws of two samples, the first is drawn 0, 1 or 2 times with probability 1/4, 1/2 and 1/4."""
    drawn = np.array([[0, 2], [1, 1], [1, 1], [2, 0]])
    one, other = share(np.array([[True, False]]), drawn), share(np.array([[False, False], [True, True]]), drawn)
    assert one.seeds.tolist() == [50.0] and one.draws.tolist() == [0, 50, 50, 100]
    assert other.seeds.tolist() == [0.0, 100.0] and other.draws.tolist() == [50, 50, 50, 50]
    assert one.interval == pytest.approx([0 + 50 * 0.075, 100 - 50 * 0.075])  # linear, at 2.5 % of three gaps
    gained = one.minus(other)
    assert gained["difference"] == 0 and gained["95 %"] == pytest.approx([-50 + 3.75, 50 - 3.75])
    assert gained["p"] == 1.0
    high = Score(np.array([90.0]), np.array([80.0, 90, 90, 100]))
    assert high.minus(one)["p"] == pytest.approx(2 * (1 + 1) / 5)  # one of four draws is not above: 100 against 100


def test_stored_files_of_a_training_are_checked_for_their_types(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "settings.json").write_text('{"identity": {}, "seconds": "5"}')
    with pytest.raises(BTCChatError, match="settings.json: seconds is '5', expected a number"):
        trained_seconds(tmp_path)
    (tmp_path / "cost.json").write_text('{"pairs": 0, "cost": {"parameters": 5}}')
    with pytest.raises(BTCChatError, match="cost.json has no 'tokens a pair' in cost"):
        comparing._cost(tmp_path / "model", [])


def test_a_score_that_is_zero_for_both_has_no_p():
    nothing = Score(np.zeros(2), np.zeros(DRAWS))
    assert nothing.minus(nothing)["p"] is None and nothing.against(nothing) == "+0.0 (no p)"


def test_answers_to_questions_have_an_accuracy():
    rows = [
        Prediction(str(n), text, ("yes",), None, f"row {n + 1}", "presence")
        for n, text in enumerate(["Yes.", "no", "yes"])
    ]
    score = answer_scores("questions", {"a": [rows]})["a"]["accuracy"]
    assert score.mean == pytest.approx(200 / 3) and len(score.draws) == DRAWS
    assert times(3, DRAWS, 0).sum(1).tolist() == [3] * DRAWS
