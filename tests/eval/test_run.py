"""`btcchat eval`: the same answers however it is run, stopped and resumed; errors."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from btcchat.cli import main
from btcchat.data.convert.base import CHANGE_QUESTION, conversation
from btcchat.errors import BTCChatError
from btcchat.eval.captions.changes import SAME
from btcchat.eval.runs.ranks import joined

ROOT = Path(__file__).resolve().parents[2]
SHADES = range(0, 250, 36)  # of 7 pairs
SETS = """
pairs: {annotation: "pairs_{split}.jsonl", images: ., splits: [train, val, test]}
questions: {annotation: questions.jsonl, images: ., kind: rsvqa_lr}
clips: {annotation: clips.jsonl, images: .}
bad: {annotation: bad.jsonl, images: .}
"""


def pair(number: int, **changes) -> dict:
    flag = number % 2
    captions = [f"{number} houses are built .", "some houses appear ."] if flag else [f"{SAME} .", "no change"]
    row = {"id": f"pair_{number}", "modality": "pair", "images": [f"{number}.png", "0.png"], "change_flag": flag}
    row |= {"captions": captions, "conversations": conversation(CHANGE_QUESTION, captions[0])}
    return {key: value for key, value in (row | changes).items() if value is not None}


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data root with a checkpoint in it."""
    from tests.tiny import tiny_model

    root = tmp_path_factory.mktemp("eval")
    for number, shade in enumerate(SHADES):
        Image.new("RGB", (32, 32), (shade, 90, 255 - shade)).save(root / f"{number}.png")
    (root / "sets.yaml").write_text(SETS)
    write_rows(root / "pairs_val.jsonl", [pair(number) for number in range(7)])
    write_rows(root / "pairs_test.jsonl", [pair(number) for number in range(3)])
    write_rows(root / "pairs_train.jsonl", [pair(number, id=f"train_{number}") for number in (6, 5, 4, 2, 1)])
    asked = [("comp", "Is it so?", "yes"), ("count", "How many?", "12"), ("presence", "A road?", "no")]
    write_rows(
        root / "questions.jsonl",
        [
            {"id": n, "modality": "image", "image": "0.png", "question_type": t, "conversations": conversation(q, a)}
            for n, (t, q, a) in enumerate(asked)
        ],
    )
    (root / "clip").mkdir()
    for frame in range(3):
        Image.new("RGB", (32, 32), (frame, 2, 3)).save(root / "clip" / f"{frame}.png")
    clip = {"modality": "video", "video": "clip", "label": "Fire", "conversations": conversation("Which?", "fire")}
    write_rows(root / "clips.jsonl", [{"id": f"clip_{n}", **clip} for n in range(2)])
    tiny_model(root).save_pretrained(root / "model")
    return root


def words(root: Path, mixture: str, out: Path, *options: str, model: str = "model") -> list[str]:
    words = ["eval", str(root / model), mixture, "--out", str(out), "--data-root", str(root), "--mixture-folder"]
    return [*words, str(root), "--device", "cpu", "--batch-size", "2", "--max-new-tokens", "8", *options]


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its paraphrase table, which takes seconds to read; its scores are not checked here."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes below: the order of a sum depends on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def process(command: list[str], **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, text=True, **options)


def torchrun(processes: int, command: list[str]) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "btcchat"]
    done = process([*launcher, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = done.communicate(timeout=280)
    finally:
        if done.poll() is None:
            done.terminate()  # the launcher ends its processes
    assert done.returncode == 0, err
    return out


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def part_lines(run: Path) -> list[dict]:
    return [json.loads(line) for path in sorted((run / "parts").iterdir()) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_gives_the_same_run(root, tmp_path, processes):
    """Sampled, so that answers differ and would depend on their batch."""
    sampled = ["--temperature", "1", "--train", "pairs"]
    assert main(words(root, "pairs:val", tmp_path / "one", *sampled)) == 0
    out = torchrun(processes, words(root, "pairs:val", tmp_path / "many", *sampled))
    assert out.count("nearest in train") == 2  # one process prints: for all, and for the changed ones
    for name in ("predictions.jsonl", "baselines.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert len({line["prediction"] for line in part_lines(tmp_path / "many")}) == 7
    assert len(part_lines(tmp_path / "many")) == 7 and len(list((tmp_path / "many/parts").iterdir())) == processes


@pytest.mark.slow
def test_a_run_killed_by_sigkill_resumes_without_redoing_a_sample(root, tmp_path):
    command = words(root, "pairs:val", tmp_path / "run", "--temperature", "1", "--max-new-tokens", "120")
    killed, part = process(["-m", "btcchat", *command], stderr=subprocess.DEVNULL), tmp_path / "run/parts/0.jsonl"
    deadline = time.monotonic() + 250
    while not (part.is_file() and part.read_bytes().count(b"\n") >= 2):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = part.read_bytes()
    assert before.count(b"\n") < 7
    with part.open("ab") as file:
        file.write(b'{"id": "pair_0", "predic')  # as a kill in the middle of a write leaves it
    assert main(command) == 0
    assert part.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert sorted(line["id"] for line in part_lines(tmp_path / "run")) == [f"pair_{number}" for number in range(7)]
    command[command.index("--out") + 1] = str(tmp_path / "whole")
    assert main(command) == 0
    assert (tmp_path / "run/predictions.jsonl").read_bytes() == (tmp_path / "whole/predictions.jsonl").read_bytes()


def test_a_run_has_its_scores_and_what_was_run(root, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(words(root, "pairs", run, "--split", "val")) == 0  # the baselines are of its own train split
    out = capsys.readouterr().out
    assert "pairs:val, 7 samples" in out and "changed/unchanged accuracy" in out and "direction" in out
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"pair_{number}" for number in range(7)]
    assert [row["changed"] for row in rows] == [0, 1, 0, 1, 0, 1, 0] and rows[1]["references"] == pair(1)["captions"]
    scores = json.loads((run / "metrics.json").read_text())["sets"]["pairs:val"]
    names = {"all", "changed only", "unchanged only", f'"{SAME}" for all', "nearest in train"}
    assert names <= set(scores["scores"]) and scores["scores"]["all"]["pairs"] == 7
    assert any(note.startswith('most frequent in train: "') for note in scores["notes"])
    assert "95 %" in scores["scores"]["changed only"] and set(scores["factuality"]) >= {"objects", "direction"}
    # 4 of its 7 pairs are in the train split by their pixels, and get their own captions
    nearest = json.loads((run / "baselines.json").read_text())
    assert next(iter(nearest.values()))[4:] == [pair(number)["captions"][0] for number in (4, 5, 6)]
    record = json.loads((run / "run.json").read_text())
    assert record["finished"] and record["options"]["max_new_tokens"] == 8 and len(record["model"]["fingerprint"]) == 64
    assert (record["options"]["device"], record["options"]["dtype"]) == ("cpu", "float32")
    assert [record["options"][name] for name in ("bands", "stretch", "nodata")] == [None, "shared", None]
    assert record["prompts"] == {"conv_version": "v1", "caption_question": CHANGE_QUESTION, "pair_prompt": ""}
    check_parts(root / "model", record["model"]["parts"])
    assert main(["score", str(run)]) == 0 and main(["compare", str(run), str(run)]) == 0


def check_parts(path: Path, parts: dict) -> None:
    """run.json describes the model that is loaded."""
    from btcchat import BTCChat

    model = BTCChat.from_pretrained(path, device="cpu")
    encoder = parts["change_encoder"]
    assert encoder["type"] == "attentive" and encoder["options"]["cc_n_layers"] == len(model.change_encoder.selftrans)
    assert encoder["segments"] == model.change_encoder.segments
    assert encoder["tokens_per_pair"] == sum(model.layout.lengths("pair", 2))
    tower = parts["vision_tower"]
    assert (tower["type"], tower["resolution"], tower["width"]) == (
        *("siglip", model.vision_tower.resolution, model.vision_tower.hidden_size),
    )
    assert tower["select_layers"] == model.config.select_layers
    assert parts["mm_projector"] == {"type": "mlp_downsample", "options": {"token_order": "column"}}
    assert (parts["llm"]["type"], parts["llm"]["width"]) == ("llama", model.config.hidden_size)


def test_a_report_names_the_parts_of_the_model(root, tmp_path):
    assert main(words(root, "pairs:val@first:2", tmp_path / "run", "--train", "none")) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "report.html").read_text()
    parts = json.loads((tmp_path / "run" / "run.json").read_text())["model"]["parts"]
    options = ", ".join(f"{name} {value}" for name, value in parts["change_encoder"]["options"].items())
    tokens = parts["change_encoder"]["tokens_per_pair"]
    assert f"<dt>change encoder</dt><dd>attentive ({options}); 1 segment, {tokens} tokens per pair</dd>" in text
    assert "<dt>vision tower</dt><dd>siglip, " in text
    assert "<dt>projector</dt><dd>mlp_downsample (token_order column)</dd>" in text
    assert "<dt>language model</dt><dd>llama, " in text and "conv_version &quot;v1&quot;" in text


def test_an_evaluation_into_a_log_prints_its_progress(root, tmp_path, capsys, every_step):
    assert main(words(root, "pairs:val", tmp_path / "run")) == 0
    err = capsys.readouterr().err
    assert "btcchat: 2 of 7 samples (28 %), " in err
    assert "btcchat: 2 of 5 samples of pairs:train (40 %), " in err


def test_missing_baselines_are_a_note(root, tmp_path, capsys):
    write_rows(root / "alone.jsonl", [pair(0), pair(1)])
    (root / "alone.yaml").write_text(
        "alone: {annotation: alone.jsonl, images: .}\n"
        "half: {annotation: 'half_{split}.jsonl', images: ., splits: [train, val]}\n"
    )
    write_rows(root / "half_val.jsonl", [pair(0), pair(1)])
    try:
        note = "note: no baselines from a train split, since "
        assert main(words(root, "alone", tmp_path / "alone")) == 0
        assert f"{note}none is known; name one with --train MIXTURE" in capsys.readouterr().out
        assert main(words(root, "half:val", tmp_path / "half")) == 0
        out = capsys.readouterr().out
        assert note in out and "half_train.jsonl" in out
    finally:
        (root / "alone.yaml").unlink()
    assert main(words(root, "pairs:val", tmp_path / "none", "--train", "none")) == 0
    out = capsys.readouterr().out
    assert "nearest in train" not in out and note not in out


def test_a_set_of_a_file_named_in_the_mixture_has_its_own_splits(root, tmp_path):
    # another `pairs` is known
    described = "pairs: {annotation: 'mine_{split}.jsonl', images: ., splits: [train, test]}"
    (tmp_path / "mine.yaml").write_text(described)
    write_rows(root / "mine_test.jsonl", [pair(0), pair(1)])
    write_rows(root / "mine_train.jsonl", [pair(3, captions=["a lake dried up ."])])
    assert main(words(root, f"{tmp_path}/mine.yaml:pairs", tmp_path / "run", "--max-new-tokens", "2")) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["sets"]["pairs:test"]
    assert 'most frequent in train: "a lake dried up ." for all' in metrics["notes"]


def test_a_report_finds_a_file_named_in_the_mixture_from_another_folder(root, tmp_path, monkeypatch):
    write_rows(root / "mine_test.jsonl", [pair(0), pair(1)])
    (tmp_path / "mine.yaml").write_text("mine: {annotation: 'mine_{split}.jsonl', images: ., splits: [test]}")
    monkeypatch.chdir(tmp_path)
    few = ["--max-new-tokens", "2", "--train", "none"]
    assert main(words(root, "mine.yaml:mine@first:1", tmp_path / "run", *few)) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["report", str(tmp_path / "run")]) == 0


def test_a_baseline_is_written_as_the_references_are(root, tmp_path):
    write_rows(root / "bad.jsonl", [pair(n, captions=["The scene is the same as before."]) for n in range(2)])
    train = [f"{SAME} .", "The scene is the same as before.", "The scene is the same as before."]
    write_rows(root / "pairs_train.jsonl.spelt", [pair(0, captions=train)])
    (root / "spelt.yaml").write_text("spelt: {annotation: pairs_train.jsonl.spelt, images: .}\n")
    try:
        assert main(words(root, "bad", tmp_path, "--preset", "raw", "--train", "spelt")) == 0
    finally:
        (root / "spelt.yaml").unlink()
    scores = json.loads((tmp_path / "metrics.json").read_text())["sets"]["bad"]["scores"]
    for name in (f'"{SAME}" for all', "most frequent in train"):
        assert scores[name]["BLEU-4"] == pytest.approx(100), name


def test_each_model_and_set_has_a_folder_of_its_own(root, tmp_path, monkeypatch):
    for name in ("one/best", "two/best"):
        shutil.copytree(root / "model", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    runs = [("one/best", "pairs:val"), ("two/best", "pairs:val"), ("one/best", "pairs:val@first:2")]
    for model, mixture in runs:
        command = words(root, mixture, Path("x"), "--train", "none", model=str(tmp_path / model))
        del command[command.index("--out") : command.index("--out") + 2]
        assert main(command) == 0
    found = sorted(str(path.parent.relative_to("runs/eval")) for path in Path("runs").rglob("metrics.json"))
    assert len(found) == 3 and all(name.startswith(("one-best-", "two-best-")) for name in found)
    assert [name.partition("/")[2] for name in found] == ["pairs-val", "pairs-val@first-2", "pairs-val"]


def test_a_run_stopped_before_writing_run_json_can_be_resumed(root, tmp_path, capsys):
    run = tmp_path / "run"
    (run / "parts").mkdir(parents=True)
    (run / ".lock").touch()
    (run / ".run.json.0123.part").write_text('{"model": ')
    assert main(words(root, "pairs:val@first:2", run)) == 0
    assert json.loads((run / "run.json").read_text())["finished"] and not list(run.glob(".*.part"))
    (run / "run.json").unlink()
    assert main(words(root, "pairs:val@first:2", run)) == 2
    assert "contains other files but no run.json" in capsys.readouterr().err


def test_ctrl_c_says_that_the_same_command_resumes(root, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    command = words(root, "pairs:val@first:2", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("btcchat.commands.evaluate.load_model", interrupted)
        assert main(command) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"interrupted; {tmp_path}/run keeps the answers so far. Run the same command again to resume")
    assert main(command) == 0


def test_a_run_resumes_with_the_device_and_dtype_it_was_started_with(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = words(root, "pairs:val@first:2", tmp_path / "run")
    assert main([*command, "--device", "auto", "--dtype", "float32"]) == 0 and main(command) == 0
    assert main([*command, "--dtype", "bfloat16"]) == 2
    assert "was started with --dtype float32, not bfloat16" in capsys.readouterr().err
    began = json.loads((tmp_path / "run/run.json").read_text())
    began["versions"]["torch"] = "1.0"
    (tmp_path / "run/run.json").write_text(json.dumps(began))
    assert main(command) == 0, "nothing is left to answer"
    del began["finished"]
    (tmp_path / "run/run.json").write_text(json.dumps(began))
    assert main(command) == 2 and "was started with torch 1.0, not " in capsys.readouterr().err
    assert main([*words(root, "pairs:val", tmp_path / "gpu"), "--device", "cuda"]) == 2
    assert "device cuda was requested" in capsys.readouterr().err and not (tmp_path / "gpu").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("metrics.json", "{}", "metrics.json has no 'preset'; delete this file, then run btcchat eval again"),
        ("metrics.json", "[" * 100_000, "metrics.json is not JSON (nested too deeply); delete this file"),
        (
            "run.json",
            "[]",
            "run.json holds a list, expected an object {...}; run btcchat eval again with another --out",
        ),
        ("run.json", "{}", "run.json has no 'model'; run btcchat eval again with another --out"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(tmp_path, capsys, name, content, words):
    row = {"id": 1, "prediction": "a", "references": ["a"]}
    scores = {"kind": "captions", "samples": 1, "test split": False, "data kind": None}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "metrics.json").write_text(json.dumps({"preset": "levir-cc", "sets": {"a": scores}}))
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / name).write_text(content)
    for command in (["score", str(tmp_path)], ["report", str(tmp_path)]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_a_checkpoint_chosen_on_a_test_split_is_reported_before_the_scores(root, tmp_path, capsys):
    chosen = {"metric": "S*m", "value": 1.0, "step": 5, "sets": ["pairs:test"], "test splits": ["pairs:test"]}
    model = shutil.copytree(root / "model", tmp_path / "model")
    (model / "selection.json").write_text(json.dumps(chosen))
    assert main(words(root, "pairs:val@first:2", tmp_path / "run", model=str(model))) == 0
    line = "this checkpoint was chosen by S*m on pairs:test (A TEST SPLIT)"
    assert capsys.readouterr().out.startswith(f"{line}\n\n")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["selected"] == chosen
    assert main(["score", str(tmp_path / "run")]) == 0 and capsys.readouterr().out.startswith(line)


def test_a_finished_run_is_scored_again_without_the_model(root, tmp_path, capsys, monkeypatch):
    assert main(words(root, "pairs:val", tmp_path)) == 0
    first = (tmp_path / "metrics.json").read_bytes()
    monkeypatch.setattr("btcchat.commands.evaluate.load_model", None)
    assert main(words(root, "pairs:val", tmp_path, "--format", "ccexpert")) == 0
    assert (tmp_path / "metrics.json").read_bytes() == first
    row = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])
    assert set(row) == {"uid", "pred", "change_caption"}


def test_questions_and_classes_have_their_own_scores(root, tmp_path, capsys):
    assert main(words(root, "questions+clips", tmp_path, "--num-beams", "2")) == 0
    out = capsys.readouterr().out
    assert "comparison" in out and "overall without count" in out and "overall accuracy" in out
    scores = json.loads((tmp_path / "metrics.json").read_text())["sets"]
    assert scores["questions"]["scores"]["count"]["questions"] == 1 and scores["questions"]["in ranges"] == "count"
    assert scores["clips"]["confusion"]["fire"]["(no class)"] == 2
    ids = [json.loads(line)["id"] for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert ids == ["questions/0", "questions/1", "questions/2", "clips/clip_0", "clips/clip_1"]


def test_a_batch_gets_the_same_answers_as_one_by_one(root, tmp_path):
    for size in ("1", "7"):
        assert main(words(root, "pairs:val", tmp_path / size, "--batch-size", size)) == 0
    assert (tmp_path / "1/predictions.jsonl").read_text() == (tmp_path / "7/predictions.jsonl").read_text()


def test_a_sampled_answer_depends_on_the_seed_and_the_sample_not_on_the_batch(root, tmp_path):
    twice = [pair(3, id="one"), pair(3, id="two"), pair(1), pair(2), pair(4)]
    write_rows(root / "bad.jsonl", twice)
    said = {}
    for size, seed in (("1", "5"), ("4", "5"), ("4", "6")):
        run = tmp_path / f"{size} {seed}"
        options = ["--temperature", "1", "--seed", seed, "--batch-size", size, "--max-new-tokens", "16"]
        assert main(words(root, "bad", run, *options)) == 0
        said[size, seed] = [row["prediction"] for row in json_lines(run / "predictions.jsonl")]
    assert said["1", "5"] == said["4", "5"]
    assert all(a != b for a, b in zip(said["4", "5"], said["4", "6"], strict=True))
    assert len(set(said["1", "5"])) == 5, "samples of the same images and question have draws of their own"


def test_another_model_split_or_option_is_refused_and_both_are_named(root, tmp_path, capsys):
    from tests.tiny import tiny_model

    assert main(words(root, "pairs:val", tmp_path / "run")) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json*")}
    tiny_model(tmp_path, seed=1).save_pretrained(root / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused = {
        f"is an evaluation of the model {root / 'model'} (": words(root, "pairs:val", tmp_path / "run", model="other"),
        "is an evaluation on pairs:val (7 samples), not pairs:test (3": words(root, "pairs:test", tmp_path / "run"),
        "was started with --num-beams 1, not 3": words(root, "pairs:val", tmp_path / "run", "--num-beams", "3"),
        "is an evaluation on pairs:val (7 samples), not pairs:val (2": words(
            root, "pairs:val@first:2", tmp_path / "run"
        ),
        "contains other files but no run.json": words(root, "pairs:val", tmp_path / "full"),
        "is a file; give a folder": words(root, "pairs:val", tmp_path / "full" / "notes.txt"),
    }
    capsys.readouterr()
    for message, command in refused.items():
        assert main(command) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1 and str(tmp_path) in err
        if "model" in message:
            assert str(root / "other") in err
    assert before == {path: path.read_bytes() for path in before}


def test_two_runs_at_once_are_refused(root, tmp_path, capsys):
    from btcchat.eval.runs.folder import RunFolder

    assert main(words(root, "pairs:val", tmp_path)) == 0
    record = json.loads((tmp_path / "run.json").read_text())
    first = RunFolder(tmp_path)
    first.start(record)
    assert main(words(root, "pairs:val", tmp_path)) == 2
    first.close()
    with RunFolder(tmp_path).part(3):  # a process whose launcher was killed
        assert main(words(root, "pairs:val", tmp_path)) == 2
    assert capsys.readouterr().err.count(f"{tmp_path} is being written by process {os.getpid()} on ") == 2
    assert main(words(root, "pairs:val", tmp_path)) == 0


BAD = {
    "bad.jsonl row 2: no 'id' (a string or a number)": pair(1, id=None),
    "bad.jsonl row 2: no 'captions', the list of its references": pair(1, captions=None),
    "bad.jsonl row 2: reference 2 of 'captions' is ' . '": pair(1, captions=["a house", " . "]),
    "bad.jsonl row 2: its id 'pair_0' is already used by bad.jsonl row 1": pair(0),
    "bad.jsonl row 2: no question": pair(1, conversations=[{"from": "gpt", "value": "a house"}]),
    "bad.jsonl row 2: '<video>' in turn 1 is not": pair(1, conversations=conversation("<video>\nWhat?", "a house")),
    "bad.jsonl row 2: image '": pair(1, images=["gone.png", "0.png"]),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_row_is_named(root, tmp_path, capsys, message):
    write_rows(root / "bad.jsonl", [pair(0), BAD[message]])
    assert main(words(root, "bad", tmp_path)) == 2
    assert message in capsys.readouterr().err


def test_sets_that_cannot_be_evaluated_are_named(root, tmp_path, capsys):
    talk = conversation("What?", "a house") + conversation("Where?", "here")
    write_rows(root / "bad.jsonl", [{"id": 1, "modality": "image", "image": "0.png", "conversations": talk}])
    for mixture, message in {
        "bad": "bad.jsonl row 1: 2 questions; a sample of an evaluation must have exactly one",
        "pairs*2": "has 'pairs:test' more than once",
        "pairs:val+pairs:val": "has 'pairs:val' more than once",
        "pairs:tset": "unknown split of pairs 'tset' (did you mean 'test'?)",
    }.items():
        assert main(words(root, mixture, tmp_path)) == 2
        assert message in capsys.readouterr().err
    write_rows(root / "bad.jsonl", [pair(0, captions=None)])
    assert main(words(root, "bad", tmp_path)) == 2
    assert "row 1: this pair has neither 'captions'" in capsys.readouterr().err
    for train, message in {
        "pairs:val": "--train contains pairs:val, the set being evaluated",
        "questions": "--train contains questions, a set of questions; the baselines need captions",
    }.items():
        assert main(words(root, "pairs:val", tmp_path / "run", "--train", train)) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "reported before an answer is generated"


def test_a_pair_is_asked_for_its_caption_as_the_caption_command_does(root, monkeypatch):
    """A dialogue about it too; another question is asked as it is written."""
    from btcchat import BTCChat
    from btcchat.eval.runs.answer import Answering
    from btcchat.eval.runs.samples import read_sets
    from btcchat.eval.runs.sweep import sweep
    from btcchat.generation import GenerationOptions
    from btcchat.processor import request

    talk = conversation("What?", "a house") + conversation("Where?", "here")
    asked = [pair(0), pair(1, conversations=talk), pair(2, conversations=conversation("What is new?", "a house"))]
    write_rows(root / "bad.jsonl", asked)
    (one,) = read_sets("bad", data_root=root, folder=root)
    model = BTCChat.from_pretrained(root / "model", device="cpu")
    given, collate = [], model.processor.collate
    monkeypatch.setattr(model.processor, "collate", lambda samples: given.extend(samples) or collate(samples))
    answering = Answering((), lambda answers: None, GenerationOptions(max_new_tokens=1))
    assert len(list(sweep(model, [one.samples], [answering]))) == 1
    questions = CHANGE_QUESTION, CHANGE_QUESTION, "What is new?"
    for got, sample, question in zip(given, one.samples, questions, strict=True):
        expected = model.processor(request(question, "pair", sample.record.sources), train=False)
        assert got["input_ids"].tolist() == expected["input_ids"].tolist()
        assert (got["frames"] == expected["frames"]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_full_disk_leaves_whole_lines_and_the_run_can_be_resumed(root, tmp_path, capsys):
    """A limit on the size of a file stops a write in its middle, as a full disk does."""
    from btcchat.errors import BTCChatError
    from btcchat.eval.runs.folder import RunFolder

    (tmp_path / "parts").mkdir()
    script = (
        "import resource, signal, sys; from btcchat.eval.runs.folder import RunFolder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))\n"
        "part = RunFolder(sys.argv[1]).part(0)\n"
        "for n in range(9): part.write({f'a{n}': 'x' * 20, f'b{n}': 'y' * 20})"
    )
    done = process(["-c", script, str(tmp_path)], stderr=subprocess.PIPE)
    _, err = done.communicate(timeout=60)
    assert done.returncode and "parts/0.jsonl cannot be written: File too large" in err
    assert "run the same command again to resume" in err
    assert set(RunFolder(tmp_path).answers()) == {"a0", "b0"}
    assert (tmp_path / "parts/0.jsonl").read_bytes().endswith(b"\n")
    (tmp_path / "parts/0.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(BTCChatError, match="0.jsonl line 1 is not an answer"):
        RunFolder(tmp_path).answers()


def test_an_unfinished_run_is_not_scored(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    assert main(["score", str(tmp_path)]) == 2
    assert "is not finished; run the same btcchat eval command again to resume it" in capsys.readouterr().err


def test_odd_characters_are_read_back_unchanged(tmp_path):
    from btcchat.eval.runs.folder import RunFolder

    odd = {"a": "two\nlines ||| \x00 \u2028 🏠", "b": "half \ud800", "ü": "word " * 10_000}
    (tmp_path / "parts").mkdir()
    with RunFolder(tmp_path).part(0) as part:
        part.write(odd)
    assert RunFolder(tmp_path).answers() == odd


def test_a_model_is_scored_with_its_clues(root, tmp_path, capsys):
    from btcchat import BTCChat
    from btcchat.clues.store import Clues

    mine = pair(6) | {"clue": "a hill"}
    write_rows(root / "bad.jsonl", [*(pair(number) for number in range(3)), mine])
    folders = ["--data_root", str(root), "--mixture_folder", str(root), "--out", str(tmp_path / "clues")]
    assert main(["augment", "pairs:val", "--clue_model", str(root / "model"), *folders, "--device", "cpu"]) == 0
    cached = ["--prompt_augmentation", "cached", "--clues", str(tmp_path / "clues")]
    assert main(words(root, "bad", tmp_path / "off")) == 0
    assert main(words(root, "bad", tmp_path / "cached", *cached)) == 0
    online = ["--prompt_augmentation", "online", "--clue_model", "self"]
    assert main(words(root, "bad", tmp_path / "online", *online)) == 0

    clues, model = Clues(tmp_path / "clues"), BTCChat.from_pretrained(root / "model", device="cpu")
    said = {name: json_lines(tmp_path / name / "predictions.jsonl") for name in ("off", "cached", "online")}
    for row, number in zip(said["cached"], (0, 1, 2, 6), strict=True):
        images = [root / f"{number}.png", root / "0.png"]
        clue = "a hill" if number == 6 else clues.of("pair", images)
        assert row["prediction"] == model.caption(*images, clue=clue, max_new_tokens=8)
    assert said["online"] == said["cached"] != said["off"]
    assert said["off"][-1] == said["cached"][-1], "a record keeps its own clue in every mode"

    run = json.loads((tmp_path / "cached/run.json").read_text())
    assert run["options"]["prompt_augmentation"].startswith(f"cached, {root / 'model'} (")
    capsys.readouterr()
    for folder, options, message in (
        ("cached", [], "was started with --prompt-augmentation cached, "),
        ("off", cached, "was started with --prompt-augmentation None, not cached, "),
        ("new", ["--prompt_augmentation", "cached"], "cached needs --clues DIR"),
        ("new", [*cached, "--stretch", "none"], "has clues of images read with the default --bands, --stretch"),
        ("new", ["--prompt_augmentation", "online"], "the model has no adapter to switch off"),
    ):
        assert main(words(root, "bad", tmp_path / folder, *options)) == 2
        assert message in capsys.readouterr().err
    assert main(words(root, "clips", tmp_path / "clips", *cached)) == 2
    assert "2 records have no clue: clips.jsonl row 1: no clue for" in capsys.readouterr().err
    assert not (tmp_path / "clips").exists(), "reported before anything is written"


def test_a_fault_while_a_file_of_the_run_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    from btcchat.eval.runs.folder import RunFolder

    folder, write = RunFolder(tmp_path), Path.write_bytes
    folder.write("metrics.json", {"a": 1})
    folder.write("predictions.jsonl", [{"a": 1}])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def half(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    def rows():
        yield {"a": 2}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(BTCChatError, match="No space left on device"):
        folder.write("metrics.json", {"a": 2})
    with pytest.raises(BTCChatError, match="No space left on device"):
        from btcchat.files import write_rows

        write_rows(tmp_path / "predictions.jsonl", rows())
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_processes_beyond_the_number_of_gpus_share_them(monkeypatch):
    """They may also answer on the CPU."""
    chosen = []
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with joined() as ranks:
        assert (ranks.number, ranks.world) == (3, 4)
    assert chosen == [1]
