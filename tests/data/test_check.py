"""`btcchat data check`: every kind of fault is found in its row, and none in a good mixture."""

import json
import re
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from btcchat import cli
from btcchat.clues.store import ClueWriter
from btcchat.data.check.table import KINDS
from btcchat.data.mixture import build_datasets, known_sets, terms
from btcchat.train.training_arguments import TrainingArguments

Q = {"from": "human", "value": "<image>\nWhat is new?"}
A = {"from": "gpt", "value": "a house"}
PLAIN = Q | {"value": "What is new?"}

# kind -> rows that have only this fault
BAD = {
    "row": [
        {"modality": "pair", "images": ["a.png"]},
        {"modality": "pairs"},
        {"modality": "text", "conversations": [Q]},
    ],
    "missing": [{"modality": "pair", "images": ["a.png", "none.png"]}, {"modality": "video", "video": "none.mp4"}],
    "unreadable": [{"modality": "image", "image": "cut.png"}, {"modality": "image", "image": "empty.png"}],
    "keys": [
        {"modality": "pair", "images": ["a.png", "b.png"], "change_flg": 1},
        {
            "modality": "text",
            "independant": True,
            "change_flag": 1,
            "change_flags": 1,
            "place": "Rome",
            "conversations": [PLAIN, A],
        },
    ],
    "sizes": [{"modality": "pair", "images": ["a.png", "wide.png"]}],
    "disagreement": [{"modality": "pair", "images": ["a.png", "b.png"], "change_flag": 0, "captions": ["a house"]}],
    "placeholders": [
        {"modality": "image", "image": "a.png", "conversations": [Q | {"value": "<image><image>\nQ"}, A]},
        {"modality": "series", "images": ["a.png"] * 5, "conversations": [Q | {"value": "<image>" * 3}, A]},
        {"modality": "text"},
        {"modality": "series", "images": ["a.png"] * 3, "conversations": [Q | {"value": "<video>\nQ"}, A]},
    ],
    "answer": [{"modality": "text", "conversations": [Q, A, Q, A | {"value": " "}]}],
    "length": [{"modality": "image", "image": "a.png", "conversations": [Q, A | {"value": "a house is built " * 80}]}],
}
GOOD = [
    {"modality": "pair", "images": ["a.png", "b.png"], "captions": ["a house", "one house"]},
    {"modality": "image", "image": "wide.png"},
    {"modality": "series", "images": ["a.png", "b.png", "a.png"], "dates": ["1", "2", "3"]},
    {"modality": "video", "video": "clip"},
    {"modality": "text", "conversations": [PLAIN, A]},
] * 20


@pytest.fixture
def root(tmp_path, monkeypatch, maker):
    (tmp_path / "clip").mkdir()
    for name, size in {"a": (32, 32), "b": (32, 32), "wide": (64, 32), "clip/0": (16, 16), "clip/1": (16, 16)}.items():
        Image.effect_noise(size, 90).convert("RGB").save(tmp_path / f"{name}.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-400])
    (tmp_path / "empty.png").write_bytes(b"")
    write(tmp_path / "good.jsonl", GOOD)
    write(tmp_path / "bad.jsonl", [row for rows in BAD.values() for row in rows])
    sets = [f"{name}: {{annotation: {name}.jsonl, images: .}}" for name in ("good", "bad", "broken")]
    (tmp_path / "sets.yaml").write_text("\n".join([*sets, "tars: {annotation: 'x-*.tar', images: .}"]))
    monkeypatch.setattr("btcchat.commands.options.load_processor", lambda args: maker)
    return tmp_path


def write(path, rows) -> None:
    path.write_text("\n".join(json.dumps({"conversations": [Q, A]} | row) for row in rows), encoding="utf-8")


def checked(root, mixture: str, *more: str) -> int:
    return cli.main(["data", "check", mixture, "--data_root", str(root), "--mixture_folder", str(root), *more])


def counted(out: str, sets: int) -> dict[str, int]:
    """The column "per epoch" of the first lines of the table."""
    head, *rows = out.splitlines()[: sets + 1]
    assert head.split()[:4] == ["set", "records", "per", "epoch"]
    return {row.split()[0]: int(row.split()[2].replace(",", "")) for row in rows}


@pytest.mark.parametrize(
    "mixture",
    [
        "good@50%*3",
        "good@flatten_list@first:7",
        "good@random:33@flatten_list*2+good@end:4*3",
        "mixed+good@random_choice",
    ],
)
def test_samples_per_epoch_are_those_that_training_sees(root, capsys, mixture):
    with (root / "sets.yaml").open("a") as file:
        file.write("\nmixed: {mixture: good*2 + good@first:3}\n")
    assert checked(root, mixture, "--workers", "0") == 0
    sets = {term.label for term in terms(mixture, known_sets(root))}
    found = counted(capsys.readouterr().out, len(sets) + (len(sets) > 1))
    seen = build_datasets(mixture, dict, data_root=root, folder=root, seed=TrainingArguments.seed)
    assert found.get("total", next(iter(found.values()))) == len(seen)
    assert found.keys() - {"total"} == sets


def test_the_total_of_several_sets_counts_a_shared_image_once(root, capsys):
    assert checked(root, "good@50%*3+good@first:10", "--workers", "0") == 0
    out = capsys.readouterr().out
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["good@50%", "100", "150"],
        ["good@first:10", "10", "10"],
        ["total", "110", "160"],
    ]
    assert " 4  16x16 to 64x32 " in out.splitlines()[3]


def test_a_random_share_is_counted_with_the_seed_of_training(root, capsys):
    rows = [
        {"modality": "text", "conversations": [PLAIN, A], "captions": ["a house"] * number} for number in range(1, 41)
    ]
    write(root / "good.jsonl", rows)
    for seed in (0, 42):
        assert checked(root, "good@random:3@flatten_list", "--workers", "2", "--seed", str(seed)) == 0
        seen = build_datasets("good@random:3@flatten_list", dict, data_root=root, folder=root, seed=seed)
        assert list(counted(capsys.readouterr().out, 1).values()) == [len(seen)]


def test_streamed_samples_are_counted_too(root, capsys):
    with tarfile.open(root / "x-0.tar", "w") as tar:
        for number in range(3):
            row = {"modality": "text", "conversations": [Q | {"value": "What?"}, A], "captions": ["a house"] * 4}
            (root / "record.json").write_text(json.dumps(row))
            tar.add(root / "record.json", f"{number}.json")
    assert checked(root, "tars@flatten_list*2", "--workers", "0") == 0
    assert counted(capsys.readouterr().out, 1) == {"tars@flatten_list": 24}


def test_a_check_into_a_log_prints_its_progress(root, capsys, every_step):
    assert checked(root, "good", "--workers", "0") == 0
    assert "btcchat: 7 of 100 rows (7 %), " in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_good_mixture_is_one_table(root, capsys, workers):
    assert checked(root, "good*2", "--workers", workers) == 0
    head, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert " ".join(head) == "set records per epoch text image pair series video images sizes tokens: min mean max"
    assert " ".join(row[:12]) == "good 100 200 20 20 20 20 20 4 16x16 to 64x32"  # a, b, wide, clip: each counted once
    least, mean, most = map(int, row[12:])
    assert 20 < least < mean < most < 300


def test_every_fault_is_named_with_its_row(root, capsys):
    assert checked(root, "bad+good", "--workers", "0", "--out", str(root / "faults.jsonl")) == 3
    faults = [json.loads(line) for line in (root / "faults.jsonl").open()]
    expected, row = [], 0
    for kind, rows in BAD.items():
        for _ in rows:
            row += 1
            expected.append(("bad", f"bad.jsonl row {row}", kind))
    assert [(fault["set"], fault["where"], fault["kind"]) for fault in faults] == expected
    out = capsys.readouterr().out
    head, bad, good = (line.split()[-len(BAD) :] for line in out.splitlines()[:3])
    assert head == [kind for kind in KINDS if kind != "clue"]
    assert bad == [str(len(rows)) for rows in BAD.values()] and good == ["0"] * len(BAD)
    for words in (
        "none.png' not found",
        "cut.png",
        "32 x 32, 64 x 32",
        "turn 4 is an answer without text",
        "reads 300",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("vidtoken", "'<video>' in turn 1 is not a placeholder here; write <image> for an image"),
        ("vidtoken_video", "'<video>' in turn 1 is not a placeholder here; write <image> for an image"),
        ("text_with_imgtok", "<image> in turn 1, but the record has no image; add its image, or remove it"),
    ],
)
def test_placeholders_that_would_be_learned_as_text_are_a_fault(root, shared, capsys, name, fault):
    case = shared / "cases/11-video-token-stays-text"
    (root / "before.png").write_bytes((root / "a.png").read_bytes())
    (root / "after.png").write_bytes((root / "b.png").read_bytes())
    (root / "case.yaml").write_text(f"case: {{annotation: {case / name}.jsonl, images: {root}}}")
    assert checked(root, str(root / "case.yaml"), "--workers", "0") == 3
    assert f"  case: {name}.jsonl row 1: {fault}" in capsys.readouterr().out


def test_flag_captions_and_mask_are_compared(root, shared, tmp_path, capsys):
    src = shared / "cases/12-flag-mask-captions-disagree/mci"
    assert cli.main(["data", "convert", "levir_mci", str(src), str(tmp_path / "out")]) == 0
    (root / "case.yaml").write_text(f"case: {{annotation: {tmp_path}/out/train.jsonl, images: {src}}}")
    check = [str(root / "case.yaml"), "--workers", "0"]
    assert checked(root, *check) == 0  # published sets have them
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[-1] == "disagreement" and out.splitlines()[1].split()[-1] == "2"
    assert out.splitlines()[2:] == [
        "disagreement: a pair whose change_flag, captions and mask contradict each other (2)",
        "  case: train.jsonl row 1: changed according to mask, unchanged according to change_flag and captions",
        "  case: train.jsonl row 2: changed according to change_flag and captions, unchanged according to mask",
    ]
    assert checked(root, *check, "--disagreement", "stop") == 3
    assert checked(root, *check, "--disagreement", "stop", "--allow", "disagreement") == 0


def test_a_mask_that_cannot_be_read_is_a_fault(root, capsys):
    write(root / "bad.jsonl", [GOOD[0] | {"mask": mask} for mask in ("none.png", "cut.png", 7)])
    assert checked(root, "bad", "--workers", "0") == 3
    out = capsys.readouterr().out
    assert f"row 1: mask '{root}/./none.png' not found" in out and "row 2: image '" in out
    assert "row 3: 7 in 'mask', expected a path" in out


def test_the_first_faults_of_a_kind_are_named_and_the_rest_counted(root, capsys):
    assert checked(root, "bad", "--workers", "0", "--faults", "1") == 3
    out = capsys.readouterr().out
    assert "row: a row that does not follow the schema (3)" in out and "  and 2 more (--out FILE has all)" in out


def test_kinds_that_are_allowed_do_not_count(root, capsys):
    write(root / "bad.jsonl", BAD["sizes"] + BAD["length"])
    assert checked(root, "bad", "--workers", "0", "--allow", "sizes") == 3
    assert checked(root, "bad", "--workers", "0", "--allow", "sizes", "length") == 0
    assert checked(root, "bad", "--allow", "size") == 2
    assert "unknown kind of fault 'size' (did you mean 'sizes'?)" in capsys.readouterr().err


def test_a_broken_file_is_a_fault_and_the_rows_before_the_break_are_checked(root, capsys):
    lines = (root / "good.jsonl").read_text().splitlines()
    (root / "broken.json").write_text(f'[{",".join(lines)}, {{"modality": "pa', encoding="utf-8")
    (root / "sets.yaml").write_text("broken: {annotation: broken.json}")
    assert checked(root, "broken", "--workers", "0") == 3
    out = capsys.readouterr().out
    assert "  broken: broken.json row 101: not JSON" in out and "the rest was not read" in out
    assert out.splitlines()[1].split()[:2] == ["broken", "101"]


def test_a_line_that_is_not_json_is_a_fault_and_the_lines_after_it_are_checked(root, capsys):
    lines = (root / "good.jsonl").read_text().splitlines()
    (root / "broken.jsonl").write_text("\n".join(['{"modality": "pa', *lines, "{}"]), encoding="utf-8")
    assert checked(root, "broken", "--workers", "0", "--out", str(root / "faults.jsonl")) == 3
    faults = [json.loads(line) for line in (root / "faults.jsonl").open()]
    assert [(fault["where"], fault["fault"][:8]) for fault in faults] == [
        ("broken.jsonl row 1", "not JSON"),
        ("broken.jsonl row 102", "no 'modal"[:8]),
    ]
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["broken", "102"]


def test_a_share_that_training_would_refuse_is_refused(root, capsys):
    Image.new("RGB", (8, 8)).save(root / "x.png")
    with tarfile.open(root / "x-0.tar", "w") as tar:
        tar.add(root / "x.png", "x.png")
    for mixture, said in {
        "good@random:0": "sampling 'random:0' needs 0 records, but it has 100",
        "good@200%": "sampling '200%' needs 200 records, but it has 100",
        "good@0%": "sampling '0%' needs 0 records",
        "tars@first:2": "data set 'tars' is streamed and cannot be counted; leave out @first:2",
    }.items():
        assert checked(root, mixture) == 2
        assert said in capsys.readouterr().err


def test_the_longest_caption_counts_if_each_is_used(root, capsys):
    row = {"modality": "pair", "images": ["a.png", "b.png"], "captions": ["a house", "a house is built " * 80]}
    write(root / "bad.jsonl", [row])
    assert checked(root, "bad", "--workers", "0") == 0
    assert checked(root, "bad@flatten_list", "--workers", "0") == 3
    assert "length: " in capsys.readouterr().out


def test_captions_that_are_not_an_answer_are_a_fault_if_they_are_used(root, capsys):
    write(root / "bad.jsonl", [GOOD[0], GOOD[4] | {"captions": ["b house"]}, GOOD[4]])
    assert checked(root, "bad", "--workers", "0") == 0
    for way in ("random_choice", "flatten_list"):
        assert checked(root, f"bad@{way}", "--workers", "0") == 3
        out = capsys.readouterr().out
        assert f"  bad@{way}: bad.jsonl row 2: no answer is one of its 'captions'" in out
        assert out.splitlines()[-3].split()[1:3] == ["3", "4" if way == "flatten_list" else "3"]


def test_clues_are_checked_and_counted(root, capsys):
    rows = [GOOD[0], {"modality": "pair", "images": ["b.png", "a.png"]}, GOOD[4]]
    write(root / "bad.jsonl", rows)
    with ClueWriter(root / "clues", {"model": "base", "identity": "0", "questions": {}}) as writer:
        writer.add([("pair", [str(root / "a.png"), str(root / "b.png")], "a house is built " * 80)])
    clues = ["--clues", str(root / "clues"), "--workers", "0"]
    assert checked(root, "bad", "--workers", "0") == 0
    assert checked(root, "bad", *clues, "--out", str(root / "faults.jsonl")) == 3
    faults = [json.loads(line) for line in (root / "faults.jsonl").open()]
    said = [(fault["where"], fault["kind"]) for fault in faults]
    assert said == [("bad.jsonl row 1", "length"), ("bad.jsonl row 2", "clue")]
    assert faults[1]["fault"].startswith("no clue for ")


def test_shards_are_checked_too(root, capsys):
    bad = [BAD["row"][0], BAD["answer"][0], BAD["unreadable"][0]]
    for number, rows in enumerate((GOOD[:2], [*bad, GOOD[1]], [GOOD[1]])):
        with tarfile.open(root / f"x-{number}.tar", "w") as tar:
            for i, row in enumerate(rows):
                (root / "record.json").write_text(json.dumps({"conversations": [Q, A]} | row))
                tar.add(root / "record.json", f"{i}.json")
                for name in row.get("images", [row["image"]] if "image" in row else []):
                    tar.add(root / name, f"{i}.{name}")
    (root / "x-2.tar").write_bytes((root / "x-2.tar").read_bytes()[:1100])
    assert checked(root, "tars", "--workers", "0", "--out", str(root / "faults.jsonl")) == 3
    faults = [json.loads(line) for line in (root / "faults.jsonl").open()]
    assert [(fault["where"].split("/")[-1], fault["kind"]) for fault in faults] == [
        ("x-1.tar sample 0", "row"),
        ("x-1.tar sample 1", "answer"),
        ("x-1.tar sample 2", "unreadable"),
        ("x-*.tar shard 3", "row"),
    ]
    assert "the rest was not read" in faults[3]["fault"]
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["tars", "7"]


def test_a_mixture_that_cannot_be_checked_is_an_error(root, capsys):
    (root / "taken").mkdir()
    for words, said in (
        (["clouds"], "unknown data set 'clouds'"),
        (["broken"], "does not exist"),
        (["good", "--out", str(root / "none" / "f.jsonl")], "--out"),
        (["good", "--out", str(root / "taken")], "taken cannot be written: give a file in an existing folder"),
        (["good", "--workers", "-1"], "expected a whole number of at least 0"),
    ):
        assert checked(root, *words) == 2
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_documented_table_is_what_the_command_prints(shared, tmp_path, capsys):
    docs = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    command, table = re.search(r"`btcchat data check (\S+ --version v1)`:\n\n```\n(.+?)```", docs, re.DOTALL).groups()
    (tmp_path / "LEVIR-CC").symlink_to(shared / "data" / "levir_cc_subset")
    convert = ["convert", "levir_cc", str(tmp_path / "LEVIR-CC"), str(tmp_path / "annotations" / "levir_cc")]
    assert cli.main(["data", *convert]) == 0
    capsys.readouterr()
    assert cli.main(["data", "check", *command.split(), "--data_root", str(tmp_path), "--workers", "0"]) == 0
    assert capsys.readouterr().out == table


def test_the_list_of_faults_does_not_replace_other_files(root, capsys):
    before = (root / "bad.jsonl").read_bytes()
    for _ in range(2):
        assert checked(root, "bad", "--workers", "0", "--out", str(root / "bad.jsonl")) == 2
        assert "bad.jsonl already exists, and btcchat did not write it; give another file" in capsys.readouterr().err
        assert (root / "bad.jsonl").read_bytes() == before
    for _ in range(2):  # a file of ours is overwritten
        assert checked(root, "bad", "--workers", "0", "--out", str(root / "faults.jsonl")) == 3
    assert checked(root, "good@first:5", "--workers", "0", "--out", str(root / "faults.jsonl")) == 0
    assert checked(root, "bad", "--workers", "0", "--out", str(root / "faults.jsonl")) == 3
