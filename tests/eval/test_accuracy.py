"""Runs of questions and classes: intervals, `btcchat score RUN` and `btcchat compare A B`."""

import gzip
import json

import numpy as np
import pytest

from btcchat.cli import main
from btcchat.data.convert.base import CHANGE_QUESTION, conversation
from btcchat.eval.answers.accuracy import accuracies, differences, intervals
from btcchat.eval.answers.answers import question_scores
from btcchat.eval.runs.evaluate import ccexpert_row
from tests.eval.runs import SETS, make_run, write_rows

TYPES = ("presence", "comp", "count")


@pytest.fixture
def root(tmp_path):
    """Sixty questions without images, of three types, answered yes or 5; four clips of two classes."""
    answers = [(TYPES[number % 3], "5" if number % 3 == 2 else "yes") for number in range(60)]
    row = {"modality": "image", "image": "0.png"}
    rows = [
        row | {"id": n, "question_type": t, "conversations": conversation("?", a)} for n, (t, a) in enumerate(answers)
    ]
    write_rows(tmp_path / "questions.jsonl", rows)
    row = {"modality": "video", "video": ["0.png"]}
    labels = ["Fire", "Flood", "Fire", "Fire"]
    rows = [row | {"id": n, "label": a, "conversations": conversation("?", a)} for n, a in enumerate(labels)]
    write_rows(tmp_path / "clips.jsonl", rows)
    (tmp_path / "sets.yaml").write_text(SETS)
    return tmp_path


def right_until(number: int):
    """Answers of which only the first ones are right."""

    def answer(sample) -> str:
        return sample.references[0] if sample.index < number else "nonsense"

    return answer


def test_an_interval_is_as_wide_as_theory_says_and_the_score_is_the_measured_one():
    rng = np.random.default_rng(3)
    types = rng.choice(["a", "count"], size=2000, p=[0.8, 0.2]).tolist()
    right = (rng.random(2000) < 0.7).tolist()
    measured = question_scores(["x" if ok else "y" for ok in right], ["x"] * 2000, types)
    drawn, ends = accuracies([right], types), intervals(right, types)
    assert drawn.keys() == measured.keys() and "overall without count" in ends
    for name, row in measured.items():
        assert drawn[name][0, 0] == pytest.approx(row["accuracy"])
    for name, count in (("overall", 2000), ("count", types.count("count"))):
        share = measured[name]["accuracy"] / 100
        half = 196 * np.sqrt(share * (1 - share) / count)
        assert ends[name] == pytest.approx([100 * share - half, 100 * share + half], abs=0.15 * half)


def test_a_comparison_is_paired():
    """If two runs agree on almost all questions, a difference is significant that otherwise would not be."""
    right = [number % 2 == 0 for number in range(400)]
    better = [ok or number % 40 == 1 for number, ok in enumerate(right)]
    row = differences(right, better, ["a"] * 400)["overall"]
    assert row["scores"] == [50.0, 52.5] and row["difference"] == 2.5 and row["questions"] == 400
    assert row["p"] < 0.01 and 0 < row["95 %"][0] < 2.5 < row["95 %"][1]
    shuffled = np.random.default_rng(0).permutation(better).tolist()
    assert differences(right, shuffled, ["a"] * 400)["overall"]["p"] > 0.1
    assert differences(right, right, ["a"] * 400)["overall"]["p"] == 1


def test_a_type_with_one_question_has_numbers_too():
    row = differences([True, False], [True, True], ["a", "b"])["b"]
    assert row["difference"] == 100 and row["95 %"] == [100, 100]


def test_score_of_a_run_of_questions_is_that_of_its_evaluation(root, tmp_path, capsys):
    run = make_run(root, "questions", right_until(40), tmp_path / "run", row_of=ccexpert_row)
    capsys.readouterr()
    assert main(["score", str(run), "--intervals", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["sets"]["questions"]["scores"]
    kept = json.loads((run / "metrics.json").read_text())["sets"]["questions"]["scores"]
    assert scores == kept and set(scores) >= {"presence", "comparison", "count", "overall", "average without count"}
    low, high = scores["overall"]["95 %"]
    assert scores["overall"]["accuracy"] == pytest.approx(100 * 40 / 60) and low < 66 < high
    assert main(["score", str(run)]) == 0
    out = capsys.readouterr().out
    assert "questions, 60 samples" in out and "95 %" not in out and "in the range of the correct" in out


def test_compare_of_runs_of_questions_and_classes_is_by_type(root, tmp_path, capsys):
    runs = [make_run(root, "questions+clips", right_until(number), tmp_path / str(number)) for number in (2, 50)]
    capsys.readouterr()
    assert main(["compare", *map(str, runs)]) == 0
    out = capsys.readouterr().out
    for word in ("presence", "overall without count", "clips, accuracy in percent", "paired bootstrap over 1000 draws"):
        assert word in out
    assert main(["compare", *map(str, runs), "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert sets["questions"]["accuracy"]["overall"]["difference"] == pytest.approx(80)
    assert sets["questions"]["accuracy"]["count"]["p"] < 0.01
    assert list(sets["clips"]["accuracy"]) == ["overall"]
    assert sets["clips"]["accuracy"]["overall"]["scores"] == [50, 100]


def test_a_run_of_captions_and_questions_is_scored_and_compared_set_by_set(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )
    row = {"modality": "pair", "images": ["0.png", "1.png"]}
    talk = conversation(CHANGE_QUESTION, "a house")
    rows = [row | {"id": n, "captions": ["a house", f"{n} houses"], "conversations": talk} for n in range(3)]
    write_rows(tmp_path / "pairs_val.jsonl", rows)
    runs = [make_run(root, "pairs+questions", right_until(n), tmp_path / str(n)) for n in (1, 3)]
    capsys.readouterr()
    assert main(["score", str(runs[0]), "--preset", "raw", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert sets["pairs:val"]["preset"] == "raw" and sets["pairs:val"]["scores"]["all"]["pairs"] == 3
    assert sets["questions"]["scores"]["overall"]["questions"] == 60
    assert main(["compare", *map(str, runs), "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    first, second = sets["pairs:val"]["parts"]["all"]["ROUGE-L"]["scores"]
    assert 0 < first < second and sets["questions"]["accuracy"]["overall"]["difference"] == pytest.approx(200 / 60)
    assert main(["compare", *map(str, runs)]) == 0
    assert "preset levir-cc" in capsys.readouterr().out


def test_several_sets_of_captions_are_scored_and_compared_each_by_itself(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )
    talk = conversation(CHANGE_QUESTION, "a house")
    for split, word in (("val", "houses"), ("test", "trees")):
        row = {"modality": "pair", "images": ["0.png", "1.png"], "conversations": talk}
        rows = [row | {"id": n, "captions": [f"{n} {word} appear", f"{word} in row {n}"]} for n in range(3)]
        write_rows(tmp_path / f"pairs_{split}.jsonl", rows)
    chosen = {"metric": "S*m", "value": 1.0, "step": 5, "sets": ["pairs:test"], "test splits": ["pairs:test"]}
    runs = [
        make_run(root, "pairs:val+pairs:test", right_until(2), tmp_path / "a", selected=chosen),
        make_run(root, "pairs:val+pairs:test", right_until(1), tmp_path / "b"),
    ]
    kept = json.loads((runs[0] / "metrics.json").read_text())["sets"]
    capsys.readouterr()
    assert main(["score", str(runs[0]), "--baseline", "--intervals", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sets"]
    assert list(found) == ["pairs:val", "pairs:test"]
    assert {name: one["scores"] for name, one in found.items()} == {name: one["scores"] for name, one in kept.items()}
    assert main(["compare", *map(str, runs), "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert [one["parts"]["all"]["pairs"] for one in sets.values()] == [3, 3]
    line = "this checkpoint was chosen by S*m on pairs:test (A TEST SPLIT)"
    assert main(["score", str(runs[0])]) == 0 and capsys.readouterr().out.startswith(line)
    assert main(["compare", *map(str, runs)]) == 0
    assert capsys.readouterr().out.startswith(f"A: {runs[0]}\n   {line}\nB: {runs[1]}\n\n")
    assert main(["score", str(runs[0]), "--id-field", "id"]) == 2
    assert "pairs:val is one of several sets; leave it out" in capsys.readouterr().err
    one = make_run(root, "pairs", right_until(2), tmp_path / "one", selected=chosen)
    capsys.readouterr()
    assert main(["score", str(one)]) == 0 and capsys.readouterr().out.startswith(f"{line}\n\npreset levir-cc")
    assert main(["compare", str(one), str(one)]) == 0 and capsys.readouterr().out.count(line) == 2


def test_files_that_cannot_be_scored_or_compared_are_one_line_errors(root, tmp_path, capsys):
    run = make_run(root, "questions", right_until(9), tmp_path / "run")
    other = make_run(root, "clips", right_until(9), tmp_path / "other")
    write_rows(tmp_path / "captions.jsonl", [{"id": 1, "prediction": "a", "references": ["a"]}])
    faults = {
        "--baseline is only for files of captions, but questions has questions": ["score", str(run), "--baseline"],
        "--id-field is only for files of captions": ["compare", str(run), str(run), "--id-field", "x"],
        "is of questions,": ["compare", str(run), str(other)],
        "captions.jsonl is a file; only runs": ["compare", str(run), str(tmp_path / "captions.jsonl")],
    }
    file = run / "predictions.jsonl"
    capsys.readouterr()
    for message, words in faults.items():
        assert main(words) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert main(["score", str(run)]) == 2
    assert "has 59 rows, but metrics.json next to it is for 60" in capsys.readouterr().err
