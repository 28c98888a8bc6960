import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from btcchat import cli
from btcchat.commands import options
from btcchat.media import Reading
from tests.fake_model import FakeModel


@pytest.fixture
def model(monkeypatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(options, "load_model", lambda args: fake)
    return fake


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a pair of images: a.png is 20 x 10, b.png 30 x 10."""
    monkeypatch.chdir(tmp_path)
    for name, width in (("a.png", 20), ("b.png", 30)):
        Image.new("RGB", (width, 10)).save(name)
    return tmp_path


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_list(folder, count: int, name: str = "list.csv") -> None:
    for i in range(count):
        Image.new("RGB", (10 + i, 8)).save(folder / f"before{i}.png")
        Image.new("RGB", (50 + i, 8)).save(folder / f"after{i}.png")
    lines = [f"before{i}.png,after{i}.png,site {i}" for i in range(count)]
    (folder / name).write_text("\n".join(["before,after,id", *lines]) + "\n")


# -- the command itself ----------------------------------------------------------------------------------------------


HELP = [
    ["--help"],
    ["--version"],
    ["caption", "--help"],
    ["data", "convert", "--help"],
    ["augment", "--help"],
    ["check", "--help"],
    [],
]


@pytest.mark.parametrize("words", HELP)
def test_help_imports_nothing_heavy(words):
    code = "import sys\nfrom btcchat.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    "
    heavy = {"torch", "numpy", "PIL", "transformers", "rasterio", "av", "pydantic"}
    code += f"assert not stop.code\nassert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "btcchat" in done.stdout


def test_python_dash_m_runs_the_command():
    done = subprocess.run([sys.executable, "-m", "btcchat", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("btcchat 0.") and done.returncode == 0


@pytest.mark.parametrize("words", [["captoin"], ["caption", "--devise", "cpu"], ["caption", "--device", "gpu"]])
def test_a_mistyped_command_or_option_is_an_error_of_one_line(capsys, words):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("btcchat: error: ") and err.count("\n") == 1


def test_caption_without_arguments_prints_its_usage(capsys, model):
    assert cli.main(["caption"]) == 2
    err = capsys.readouterr().err
    assert "usage: btcchat caption" in err and "before,after[,id]" in err
    assert err.splitlines()[-1].startswith("btcchat: error: caption needs BEFORE AFTER")


# -- one answer ------------------------------------------------------------------------------------------------------


def test_caption_prints_the_caption_and_nothing_else(folder, model, capsys):
    Image.new("RGB", (30, 10)).save("a.png")
    assert cli.main(["caption", "a.png", "b.png"]) == 0
    assert capsys.readouterr() == ("caption: pair 30x10 30x10\n", "")


def test_decoding_is_greedy_by_default(folder, model):
    cli.main(["caption", "a.png", "b.png"])
    cli.main(["caption", "a.png", "b.png", "--temperature", "0.5", "--seed", "7", "--max-new-tokens", "5"])
    first, second = model.calls
    assert (first["max_new_tokens"], first["temperature"], first["seed"]) == (128, 0.0, None)
    assert (second["max_new_tokens"], second["temperature"], second["seed"]) == (5, 0.5, 7)


def test_dates_of_different_sizes_print_one_line_on_stderr(folder, model, capsys):
    assert cli.main(["caption", "a.png", "b.png"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "differ in size (20 x 10, 30 x 10)" in err


def test_json_output_is_one_object(folder, model, capsys):
    assert cli.main(["caption", "a.png", "b.png", "--json", "--model", "some/model"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "some/model", "before": "a.png", "after": "b.png", "caption": "caption: pair 20x10 30x10",
        "bands": None, "stretch": "shared", "nodata": None,
    }  # fmt: skip
    reading = ["--stretch", "0,3000", "--bands", "4,3,2", "--nodata", "-9999"]
    assert cli.main(["ask", "Was wächst?", "--image", "a.png", "--json", *reading]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "model": "tiny", "question": "Was wächst?", "image": "a.png", "answer": "Was wächst?: image 20x10",
        "bands": "4,3,2", "stretch": "0,3000", "nodata": "-9999.0",
    }  # fmt: skip
    assert "wächst" in out


@pytest.mark.parametrize(
    "words, answer",
    [
        (["--image", "a.png"], "Q: image 20x10"),
        (["--pair", "a.png", "b.png"], "Q: pair 20x10 30x10"),
        (["--series", "a.png", "b.png", "a.png"], "Q: series 20x10 30x10 20x10"),
        (["--series", "."], "Q: series 20x10 30x10"),
        (["--video", "."], "Q: video 20x10 30x10"),
    ],
)
def test_ask_passes_files_with_their_modality(folder, model, capsys, words, answer):
    assert cli.main(["ask", "Q", *words]) == 0
    assert capsys.readouterr().out == answer + "\n"


def test_an_unknown_argument_names_the_help_of_its_command(folder, model, capsys):
    assert cli.main(["ask", "What", "changed?", "--pair", "a.png", "b.png"]) == 2
    assert capsys.readouterr().err == "btcchat: error: unrecognized arguments: changed? (see btcchat ask --help)\n"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["ask", "Q", "a.png"], "--image a.png"),
        (["ask", "Q", "a.png", "b.png"], "--pair a.png b.png"),
        (["ask", "Q", "a.png", "--seed", "1", "b.png"], "--pair a.png b.png"),
        (["ask", "Q", "--image", "a.png", "gone.tif"], "--pair a.png gone.tif"),
        (["ask", "Q", "a.png", "b.png", "with space.png"], "--series a.png b.png 'with space.png'"),
        (["chat", "clip.mp4"], "--video clip.mp4"),
        (["chat", "a.png", "b.png"], "--pair a.png b.png"),
    ],
)
def test_images_without_their_option_are_an_error_that_shows_it(folder, model, capsys, words, way_out):
    assert cli.main(words) == 2
    says = f"; write {way_out} (see btcchat {words[0]} --help)\n"
    err = capsys.readouterr().err
    assert err.startswith("btcchat: error: images follow an option, but ") and err.endswith(says)


def test_dates_reach_the_model(folder, model):
    assert cli.main(["ask", "Q", "--series", "a.png", "b.png", "--dates", "2010", "2014"]) == 0
    assert model.calls[0]["dates"] == ["2010", "2014"]


def test_the_options_for_the_model_reach_it(folder, monkeypatch):
    import btcchat

    given = {}

    class Model(FakeModel):
        @classmethod
        def from_pretrained(cls, path, **options):
            given.update(options, path=path)
            return cls()

    monkeypatch.setattr(btcchat, "BTCChat", Model, raising=False)
    assert cli.main(["caption", "a.png", "b.png"]) == 0
    assert given == {"path": None, "device": "auto", "dtype": "auto", "reading": Reading()}
    options = ["--model", "m", "--device", "cpu", "--dtype", "bfloat16", "--cc_head", "4", "--num-video-frames", "3"]
    options += ["--stretch", "per-date", "--bands", "3"]
    assert cli.main(["ask", "Q", "--image", "a.png", *options]) == 0
    expected = {"path": "m", "device": "cpu", "dtype": "bfloat16", "cc_head": 4, "num_video_frames": 3}
    assert given == expected | {"reading": Reading(bands=(3,), stretch="per-date")}


def test_the_libraries_are_silent_by_default(folder, monkeypatch, capsys):
    def load(args):
        warnings.warn("torch.utils._pytree._register_pytree_node is deprecated", FutureWarning, stacklevel=1)
        logging.getLogger("btcchat.model").info("attention: sdpa")
        logging.getLogger("btcchat.model").warning("something odd")
        return FakeModel()

    monkeypatch.setattr(options, "load_model", load)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cli.main(["ask", "Q", "--image", "a.png"])
        assert capsys.readouterr().err == "btcchat: something odd\n"
        cli.main(["ask", "Q", "--image", "a.png", "-v"])
        assert capsys.readouterr().err == "btcchat: attention: sdpa\nbtcchat: something odd\n"
    assert not seen
    assert not logging.getLogger("btcchat").handlers


# -- many pairs ------------------------------------------------------------------------------------------------------


def test_a_list_is_captioned_in_batches_and_in_order(folder, model, capsys):
    make_list(folder, 5)
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl", "--batch-size", "2"]) == 0
    assert model.batches == [2, 2, 1]
    assert rows(folder / "out.jsonl")[1] == {
        "id": "site 1", "before": "before1.png", "after": "after1.png", "caption": "11 to 51", "model": "tiny",
    }  # fmt: skip
    assert [row["id"] for row in rows(folder / "out.jsonl")] == [f"site {i}" for i in range(5)]
    out, err = capsys.readouterr()
    assert out == "" and err == "btcchat: 5 captions written to out.jsonl\n"


def test_paths_are_relative_to_the_list(folder, model):
    (folder / "deep").mkdir()
    make_list(folder / "deep", 2)
    assert cli.main(["caption", "--pairs", "deep/list.csv", "--out", "out.jsonl"]) == 0
    assert len(rows(folder / "out.jsonl")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffBefore;After\nbefore0.png;after0.png\n",  # as Excel writes it in Europe
        "after\tbefore\nafter0.png\tbefore0.png\n",
        "id,before,after\n\n,before0.png,after0.png\r\n",
    ],
)
def test_lists_saved_by_spreadsheets_are_read(folder, model, text):
    make_list(folder, 1)
    (folder / "list.csv").write_text(text, encoding="utf-8")
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl"]) == 0
    assert rows(folder / "out.jsonl") == [
        {"before": "before0.png", "after": "after0.png", "caption": "10 to 50", "model": "tiny"}
    ]


def test_a_folder_with_a_and_b_is_a_list_of_pairs(folder, model):
    for side, width in (("A", 10), ("B", 50)):
        (folder / "site" / side).mkdir(parents=True)
        for i in (1, 2, 10):
            Image.new("RGB", (width + i, 8)).save(folder / "site" / side / f"{i}.png")
    assert cli.main(["caption", "--pairs", "site", "--out", "out.jsonl"]) == 0
    assert [(row["id"], row["before"], row["caption"]) for row in rows(folder / "out.jsonl")] == [
        ("1", "A/1.png", "11 to 51"), ("2", "A/2.png", "12 to 52"), ("10", "A/10.png", "20 to 60"),
    ]  # fmt: skip


def test_a_stopped_run_resumes_where_it_ended(folder, monkeypatch, capsys):
    make_list(folder, 7)
    words = ["caption", "--pairs", "list.csv", "--out", "out.jsonl", "--batch-size", "2"]
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel(stop_after=2))
    assert cli.main(words) == 130
    assert "Run the same command again to resume" in capsys.readouterr().err
    assert len(rows(folder / "out.jsonl")) == 4
    second = FakeModel()
    monkeypatch.setattr(options, "load_model", lambda args: second)
    assert cli.main(words) == 0
    assert second.batches == [2, 1]
    assert [row["id"] for row in rows(folder / "out.jsonl")] == [f"site {i}" for i in range(7)]
    assert "3 captions written to out.jsonl, 4 already there" in capsys.readouterr().err


def test_a_finished_list_needs_no_model(folder, model, monkeypatch):
    make_list(folder, 2)
    words = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    assert cli.main(words) == 0
    before = (folder / "out.jsonl").read_bytes()
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded for nothing"))
    assert cli.main(words) == 0
    assert (folder / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("cut", [1, 2, 30, -1])
def test_a_line_truncated_by_a_kill_is_answered_again(folder, model, capsys, cut):
    make_list(folder, 3)
    words = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    assert cli.main(words) == 0
    whole = (folder / "out.jsonl").read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    (folder / "out.jsonl").write_bytes(whole[:cut] if cut < 0 else whole[: last + cut])
    capsys.readouterr()
    assert cli.main(words) == 0
    assert (folder / "out.jsonl").read_bytes() == whole
    assert "cut short" in capsys.readouterr().err


def test_a_killed_process_leaves_complete_batches(folder):
    """A real kill: SIGKILL between two batches."""
    make_list(folder, 6)
    code = (
        "import os, sys\nfrom btcchat import cli\nfrom btcchat.commands import options\n"
        "from tests.fake_model import FakeModel\n"
        "class Killed(FakeModel):\n"
        "    def answer(self, records, options):\n"
        "        if len(self.batches) == 2: os.kill(os.getpid(), 9)\n"
        "        return super().answer(records, options)\n"
        "options.load_model = lambda args: Killed()\n"
        "cli.main(['caption', '--pairs', 'list.csv', '--out', 'out.jsonl', '--batch-size', '2'])\n"
    )
    path = [entry for entry in sys.path if entry]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"], capture_output=True)
    assert done.returncode == -9
    assert [row["id"] for row in rows(folder / "out.jsonl")] == [f"site {i}" for i in range(4)]


def test_fixed_rows_are_added_and_nothing_is_duplicated(folder, model, capsys):
    make_list(folder, 3)
    text = (folder / "list.csv").read_text()
    (folder / "list.csv").write_text(text.replace("after1.png", "gone.png"))
    words = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    assert cli.main(words) == 3
    assert "list.csv row 3: image 'gone.png' not found" in capsys.readouterr().err
    assert [row["id"] for row in rows(folder / "out.jsonl")] == ["site 0", "site 2"]
    (folder / "list.csv").write_text(text)
    assert cli.main(words) == 0
    assert [row["id"] for row in rows(folder / "out.jsonl")] == ["site 0", "site 2", "site 1"]


def test_captioning_into_a_log_prints_its_progress(folder, model, capsys, every_step):
    make_list(folder, 5)
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl"]) == 0
    assert "btcchat: 1 of 5 pairs (20 %), " in capsys.readouterr().err


def test_the_json_output_for_many_pairs_is_a_summary(folder, model, capsys):
    make_list(folder, 3)
    (folder / "after2.png").write_bytes(b"no image")
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl", "--json"]) == 3
    out, err = capsys.readouterr()
    counts = {"answered": 2, "already_there": 0, "failed": 1}
    assert json.loads(out) == {"out": "out.jsonl", **counts, "bands": None, "stretch": "shared", "nodata": None}
    assert err.count("\n") == 1 and "list.csv row 4: " in err and "not an image" in err


def test_captions_made_with_different_stretches_are_not_mixed(folder, model, capsys):
    make_list(folder, 1)
    command = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    assert cli.main([*command, "--stretch", "per-date"]) == 0
    assert json.loads((folder / "out.jsonl").read_text())["stretch"] == "per-date"
    assert cli.main(command) == 2
    assert "another --bands, --stretch or --nodata" in capsys.readouterr().err


def test_captions_made_with_different_answer_flags_are_not_mixed(folder, model, capsys):
    make_list(folder, 1)
    command = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    sampled = [*command, "--temperature", "0.5", "--max-new-tokens", "16"]
    assert cli.main(sampled) == 0 and cli.main(sampled) == 0
    assert json.loads((folder / "out.jsonl").read_text())["options"] == {"max_new_tokens": 16, "temperature": 0.5}
    capsys.readouterr()
    for words in (command, [*command, "--temperature", "0.5"], [*sampled, "--seed", "3"]):
        assert cli.main(words) == 2
        err = capsys.readouterr().err
        assert "out.jsonl was written with other answer options" in err and err.endswith(", or choose another --out\n")
    assert "(--seed)" in err and len(rows(folder / "out.jsonl")) == 1


def test_a_list_with_clues_is_not_mixed_with_one_without(folder, model, capsys, monkeypatch):
    make_list(folder, 1)
    monkeypatch.setattr("btcchat.commands.caption.clue_source", lambda args, model: None)
    command = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    assert cli.main([*command, "--prompt-augmentation", "online", "--clue-model", "self"]) == 0
    assert cli.main(command) == 2
    assert "other answer options (--clue-model, --prompt-augmentation)" in capsys.readouterr().err


def test_the_real_pairs_are_listed(shared):
    from btcchat.data.pairs import read_pairs

    pairs, faults = read_pairs(shared / "data" / "samples" / "joplin_tornado")
    assert [pair.id for pair in pairs] == ["0", "1", "2", "3"] and not faults


def test_a_reader_that_stops_early_gets_no_traceback():
    command = f"{sys.executable} -m btcchat data list | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and done.stdout.count("\n") == 1


# -- existing files --------------------------------------------------------------------------------------------------


def test_a_change_map_replaces_neither_an_input_nor_another_image(folder, monkeypatch, capsys):
    import numpy as np

    drawn = type("Drawn", (FakeModel,), {"change_map": lambda self, before, after: np.zeros(after.size[::-1])})
    monkeypatch.setattr(options, "load_model", lambda args, path=None: drawn())
    Image.new("RGB", (20, 10)).save("mine.png")
    before = {name: Path(name).read_bytes() for name in ("a.png", "b.png", "mine.png")}
    for name in before:
        assert cli.main(["caption", "a.png", "b.png", "--change-map", name]) == 2
        assert "--change-map" in capsys.readouterr().err
    assert before == {name: Path(name).read_bytes() for name in before}
    for _ in range(2):  # our own map is replaced
        assert cli.main(["caption", "a.png", "b.png", "--change-map", "map.png"]) == 0
    assert cli.main(["caption", "a.png", "map.png", "--change-map", "map.png"]) == 2
    assert "--change-map map.png is the input map.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b'{"id": 1, "text": "mine"}', b'{"a": 1}\n', b"notes", b'{"id": 1, "te', b"before,after\n"]
)
def test_captions_are_not_appended_to_a_different_file(folder, model, capsys, content):
    make_list(folder, 2)
    (folder / "mine").write_bytes(content)
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "mine"]) == 2
    assert (folder / "mine").read_bytes() == content and capsys.readouterr().err.count("\n") == 1
    assert not list(folder.glob(".*"))


def test_two_runs_do_not_write_the_same_rows_twice(folder, model, capsys):
    from btcchat.serve.batch import Answers

    make_list(folder, 2)
    words = ["caption", "--pairs", "list.csv", "--out", "out.jsonl"]
    with Answers("out.jsonl", model="tiny"):
        assert cli.main(words) == 2
    assert f"--out out.jsonl is being written by process {os.getpid()} on " in capsys.readouterr().err
    assert cli.main(words) == 0 and len(rows(folder / "out.jsonl")) == 2
