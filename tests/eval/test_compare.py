"""`btcchat compare`: different ids, answers made under different conditions, and differences without a p."""

import gzip
import json
import os
from pathlib import Path

import pytest

from btcchat.cli import main
from btcchat.eval.captions.bootstrap import signed
from btcchat.eval.captions.changes import SAME

HOUSES = ["many houses are built along the road", "some houses appear"]
A = [
    {"id": "a1", "prediction": "many houses are built", "references": HOUSES},
    {"id": "a2", "prediction": "a road appears", "references": HOUSES},
    {"id": "a3", "prediction": SAME, "references": [SAME, "no change"]},
]


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its paraphrase table, which takes seconds to read."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture
def files(write) -> list[str]:
    """A and B; B has the same pairs in another order, with ids of its own."""
    b = [{**row, "id": f"b{row['id'][1]}", "prediction": "some houses are built"} for row in reversed(A)]
    return [write("a.jsonl", A), write("b.jsonl", b)]


@pytest.mark.parametrize("text", ["a1,b1\na2,b2\na3,b3\n", "\ufeffid in A;id in B\r\na1;b1\r\na3;b3\r\n\r\na2;b2\r\n"])
def test_files_whose_ids_differ_are_compared_by_a_map(files, write, tmp_path, capsys, text):
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    assert main(["compare", *files, "--ids", str(tmp_path / "map.csv"), "--json"]) == 0
    mapped = json.loads(capsys.readouterr().out)["parts"]
    same_ids = [{**row, "prediction": "some houses are built"} for row in A]
    assert main(["compare", files[0], write("same.jsonl", same_ids), "--json"]) == 0
    assert mapped == json.loads(capsys.readouterr().out)["parts"]
    assert main(["compare", *files]) == 2


def test_references_in_a_file_have_the_ids_of_the_first_file(write, tmp_path, capsys):
    plain = [{"id": row["id"], "prediction": row["prediction"]} for row in A]
    first = write("a.jsonl", plain)
    second = write("b.jsonl", [{**row, "id": row["id"].replace("a", "b")} for row in plain])
    references = write("r.jsonl", [{"id": row["id"], "references": row["references"]} for row in A])
    (tmp_path / "map.csv").write_text("a1,b1\na2,b2\na3,b3\n")
    assert main(["compare", first, second, "--references", references, "--ids", str(tmp_path / "map.csv")]) == 0
    assert "all, 3 pairs" in capsys.readouterr().out


def test_a_map_with_faults_is_a_line_for_each_kind(files, tmp_path, capsys):
    path = tmp_path / "map.csv"
    path.write_text("a1,b1\na1,b2\nx,b3\na2,y\n")
    assert main(["compare", *files, "--ids", str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"btcchat: error: {path}: 2 ids 'x' of A (row 3), 'y' of B (row 4) in the map but not in the predictions",
        f"btcchat: error: {path}: 1 id 'a1' of A (2 rows) in more than one row",
        f"btcchat: error: {path}: 1 id 'a3' of A in the predictions but not in the map",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a1,b1,c\n", "map.csv row 1: 3 columns, expected 2 (id in A, id in B)"),
        ('"a1,b1\n', "map.csv row 1: not CSV (unexpected end of data)"),
        ("<FIFO>", "map.csv cannot be read: not a regular file"),
        (None, "map.csv cannot be read"),
        ("", "map.csv: 6 ids 'a1' of A, 'a2' of A"),
    ],
)
def test_a_map_that_cannot_be_read_is_one_line(files, tmp_path, capsys, text, message):
    if text == "<FIFO>":
        os.mkfifo(tmp_path / "map.csv")
    elif text is not None:
        (tmp_path / "map.csv").write_text(text)
    assert main(["compare", *files, "--ids", str(tmp_path / "map.csv")]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_folder_that_is_no_run_is_named(files, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    for command in (["compare", files[0], str(tmp_path / "model")], ["score", str(tmp_path / "model")]):
        assert main(command) == 2
        assert "model is not a run of btcchat eval, since it has no run.json; give a" in capsys.readouterr().err


def test_a_difference_of_almost_0_has_no_minus():
    assert [signed(value) for value in (-0.001, 0, -0.006, 2.345)] == ["+0.00", "+0.00", "-0.01", "+2.35"]


def test_a_score_that_is_0_for_both_has_no_p(write, capsys):
    rows = [{"id": n, "prediction": f"grey sky {n}", "references": HOUSES} for n in range(3)]
    other = [{**row, "prediction": "blue"} for row in rows]
    paths = [write("a.jsonl", rows), write("b.jsonl", other)]
    assert main(["compare", *paths, "--json"]) == 0
    part = json.loads(capsys.readouterr().out)["parts"]["all"]
    assert part["CIDEr-D"]["scores"] == [0, 0] and part["CIDEr-D"]["p"] is None
    assert main(["compare", *paths]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "CIDEr-D" in line)
    assert line.split()[-1] == "-" and "none if both are 0" in out
    perfect = [{**row, "prediction": HOUSES[0]} for row in rows]  # 0 for one of them alone is a difference
    assert main(["compare", paths[0], write("c.jsonl", perfect), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]["all"]["BLEU-4"]["p"] < 0.05


# -- runs answered in different ways ---------------------------------------------------------------------------------

OPTIONS = {"max_new_tokens": 128, "temperature": 0.0, "seed": 0, "num_beams": 1, "batch_size": 16, "cc_head": None}
OPTIONS |= {"device": "cpu", "dtype": "float32"}
PROMPTS = {"conv_version": "v1", "caption_question": "What changed?", "pair_prompt": ""}


def run_folder(path: Path, options: dict, prompts: dict | None) -> str:
    """A finished run of captions, as far as it is compared."""
    path.mkdir()
    run = {"options": OPTIONS | options} | ({} if prompts is None else {"prompts": PROMPTS | prompts})
    (path / "run.json").write_text(json.dumps(run))
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in A))
    return str(path)


@pytest.mark.parametrize(
    ("options", "prompts", "warnings"),
    [
        ({}, {}, []),
        ({"seed": 7}, {}, []),  # which decides nothing: both are greedy
        ({"batch_size": 8}, {}, ["answered with different batch_size: A 16, B 8"]),
        ({"dtype": "bfloat16"}, {}, ["answered with different dtype: A float32, B bfloat16"]),
        ({"temperature": 1.0, "seed": 7}, {}, ["answered with different temperature: A 0.0, B 1.0"]),
        (
            {"prompt_augmentation": "cached, base (0)"},
            {"caption_question": "What is new?"},
            [
                'answered with different prompt_augmentation: A not set, B "cached, base (0)"',
                'answered with different caption_question: A "What changed?", B "What is new?"',
            ],
        ),
        ({}, {"pair_prompt": "<image> <image>"}, ['answered with different pair_prompt: A "", B "<image> <image>"']),
        ({}, None, ["the wording of the prompts is not recorded in B (an older version), and may differ"]),
    ],
)
def test_runs_answered_in_different_ways_are_compared_with_a_warning(tmp_path, capsys, options, prompts, warnings):
    runs = [run_folder(tmp_path / "a", {}, {}), run_folder(tmp_path / "b", options, prompts)]
    assert main(["compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["warnings"]
    assert found == warnings
    assert main(["compare", *runs]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert shown == [f"warning: {warning}" for warning in found]


def test_sampled_answers_of_another_seed_are_compared_with_a_warning(tmp_path, capsys):
    runs = [run_folder(tmp_path / str(seed), {"temperature": 1.0, "seed": seed}, {}) for seed in (1, 2)]
    assert main(["compare", *runs]) == 0
    assert "warning: answered with different seed: A 1, B 2\n" in capsys.readouterr().out


def test_a_run_and_a_file_are_compared_without_a_warning(tmp_path, files, capsys):
    assert main(["compare", run_folder(tmp_path / "a", {}, {}), files[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
