"""Evaluation while training: scores are logged, the best model is kept, a test split is refused."""

import gzip
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from btcchat.data.convert.base import CHANGE_QUESTION, conversation
from btcchat.data.mixture.hashes import checkpoint_hash
from btcchat.errors import BTCChatError
from btcchat.train.training_arguments import TrainingArguments
from tests.train.conftest import COLOURS

pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")

ROOT = Path(__file__).resolve().parents[2]
SETS = "scenes: {annotation: 'scenes_{split}.jsonl', images: ., splits: [train, val, test]}\n"


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its table of paraphrases, which takes seconds to read; no test here checks its scores."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture(scope="module")
def scenes(data_root):
    """A data set of four pairs with captions, the same in each split."""
    rows = []
    for number, name in enumerate(COLOURS):
        captions = [f"a {name} house is built"] if number % 2 else ["no change"]
        row = {"id": name, "modality": "pair", "images": [f"{name}.png", "red.png"], "captions": captions}
        rows.append(row | {"conversations": conversation(CHANGE_QUESTION, captions[0])})
    for split in ("train", "val", "test"):
        (data_root / f"scenes_{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (data_root / "scenes.yaml").write_text(SETS)
    return data_root


def test_the_best_model_is_kept_and_every_score_logged(run, scenes, tmp_path, checkpoint, monkeypatch):
    from btcchat.train import evaluate

    late, answer_all = [0], evaluate.answer_all
    monkeypatch.setattr("btcchat.train.meter.time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + late[0]))

    def slowly(*args, **options):
        late[0] += 100_000  # seconds
        return answer_all(*args, **options)

    monkeypatch.setattr(evaluate, "answer_all", slowly)
    flags = {"eval_mixture": "scenes:val", "eval_strategy": "steps", "eval_steps": 1}
    trainer = run("scenes", tune_language_model=True, metric_for_best_model="unchanged only BLEU-1", **flags)
    assert all(log["samples_per_second"] > 0 for log in trainer.state.log_history if "loss" in log)
    logged = [log for log in trainer.state.log_history if "eval_S*m" in log]
    assert all(value == round(value, 6) for log in logged for value in log.values())
    assert [log["step"] for log in logged] == [1, 2]
    assert {"eval_BLEU-4", "eval_changed only CIDEr-D", "eval_changed/unchanged accuracy", "eval_direction F1"} <= set(
        logged[0]
    )
    from btcchat.eval.report.curves import curves, training_log
    from btcchat.eval.runs.samples import read_sets
    from btcchat.train.evaluate import all_scores, score_names

    out = tmp_path / "out"
    (one,) = read_sets("scenes:val", data_root=scenes, folder=scenes)
    for step in (1, 2):
        metrics = json.loads((out / f"evaluations/step-{step}/metrics.json").read_text())
        places = {"places F1"} & set(all_scores(metrics))  # the references have none, the answers may
        assert set(all_scores(metrics)) == {*score_names(one), *places} and metrics["precision"] == "float32"
        assert metrics["sets"]["scenes:val"]["scores"]["all"]["pairs"] == 4
        assert len((out / f"evaluations/step-{step}/predictions.jsonl").read_text().splitlines()) == 4
    chosen = json.loads((out / "best/selection.json").read_text())
    values = [log["eval_unchanged only BLEU-1"] for log in logged]
    assert chosen["value"] == pytest.approx(max(values), abs=1e-6) and chosen["step"] == 1 + values.index(max(values))
    assert chosen["sets"] == ["scenes:val"] and chosen["test splits"] == [] and chosen["precision"] == "float32"
    assert checkpoint_hash(out / "best") != checkpoint_hash(checkpoint)
    assert not list(out.glob("checkpoint-*")) and not (out / "best.partial").exists()
    for model in (out, out / "best"):
        drawn = "".join(curves(training_log(str(model))[1]))
        assert all(f"<figcaption>{name}<" in drawn for name in ("loss", "S*m", "changed only CIDEr-D"))
    with pytest.raises(BTCChatError, match=r"out is not a complete checkpoint: meter.json is missing"):
        run("scenes", tune_language_model=True, resume_from_checkpoint=out)


def test_the_val_set_is_answered_with_the_clues_of_the_training(run, scenes, tmp_path, monkeypatch):
    from btcchat.clues.ask import records_of
    from btcchat.clues.store import CLUE_QUESTIONS, ClueWriter
    from btcchat.data.mixture import build_datasets
    from btcchat.eval.runs import answer

    about = {"model": "a base", "identity": "0" * 64, "questions": CLUE_QUESTIONS, "max_new_tokens": 8}
    flags = {"tune_language_model": True, "max_steps": 1, "prompt_augmentation": "cached", "clues": tmp_path / "clues"}
    flags |= {"eval_mixture": "scenes:val", "eval_strategy": "steps", "eval_steps": 1}
    asked, record_of = [], answer.question_record
    monkeypatch.setattr(answer, "question_record", lambda sample, clue: asked.append(clue) or record_of(sample, clue))

    def tell(name: str) -> None:
        records = records_of(build_datasets(name, dict, data_root=scenes, folder=scenes))
        with ClueWriter(tmp_path / "clues", about) as writer:
            writer.add([(one.modality, one.sources, f"saw {one.sources[0][-9:]}") for one in records])

    tell("series")
    with pytest.raises(BTCChatError, match="4 records have no clue: .*scenes_val.jsonl row 1"):
        run("series", **flags)
    tell("scenes")
    run("series", **flags)
    assert len(asked) == 4 and all(clue.startswith("saw ") for clue in asked)


@pytest.mark.parametrize(("precision", "expected"), [("bf16", "bfloat16"), ("fp16", "float16"), ("no", "float32")])
def test_answers_are_computed_in_the_precision_of_the_training(tmp_path, monkeypatch, precision, expected):
    """A GPU's flash-attention, which the precision selects, does not compute in float32, as the weights are."""
    from btcchat.train import evaluate
    from tests.tiny import tiny_model

    seen = []
    parts = {"mixed_precision": precision, "device": torch.device("cpu"), "process_index": 0, "world_size": 1}
    args = SimpleNamespace(**parts, metric_for_best_model=None)
    args.computes_in = TrainingArguments.computes_in.fget(args)
    args.autocast = lambda: TrainingArguments.autocast(args)
    trainer = SimpleNamespace(args=args, model=tiny_model(tmp_path), output_dir=tmp_path, log=lambda figures: None)
    monkeypatch.setattr(evaluate, "answer_all", lambda *given, **_: seen.append(torch.ones(1, 1) @ torch.ones(1, 1)))
    monkeypatch.setattr(evaluate, "average_statistics", lambda model: seen.append(model))
    monkeypatch.setattr(evaluate.Evaluation, "_scores", lambda *given: {"step": 1, "precision": "", "sets": {}})
    monkeypatch.setattr(evaluate, "deciding_score", lambda *given: ("S*m", -math.inf))
    one = evaluate.Evaluation(trainer, [])
    one._evaluate(1)
    assert seen.pop(0) is trainer.model, "the BatchNorm statistics of all processes first"
    assert [str(product.dtype) for product in seen] == [f"torch.{one.precision}"] == [f"torch.{expected}"]


def test_an_interruption_never_leaves_weights_with_another_models_selection(run, scenes, tmp_path, monkeypatch):
    from btcchat.eval.runs.folder import RunFolder
    from btcchat.train.evaluate import Evaluation

    flags = {"tune_language_model": True, "eval_mixture": "scenes:val", "eval_strategy": "steps", "eval_steps": 2}
    run("scenes", bf16=True, **flags)
    best, kept = tmp_path / "out/best", (tmp_path / "out/best/selection.json").read_bytes()
    before = checkpoint_hash(best)
    assert json.loads(kept)["precision"] == "bfloat16"

    def killed(folder, name, content):
        if name == "selection.json":
            raise KeyboardInterrupt
        write(folder, name, content)

    write = RunFolder.write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "write", killed)
        run("scenes", learning_rate=0.01, overwrite_output_dir=True, **flags)
    assert checkpoint_hash(best) == before and (best / "selection.json").read_bytes() == kept

    def resumed() -> float:
        args, state = SimpleNamespace(process_index=0, world_size=1), SimpleNamespace(global_step=9)
        trainer = SimpleNamespace(args=args, state=state, output_dir=tmp_path / "out")
        one = Evaluation(trainer, ["a set"])
        one.begin(trainer)
        return one.best

    assert resumed() == json.loads(kept)["value"] and checkpoint_hash(best) == before
    RunFolder(tmp_path / "out/best.partial").write("selection.json", json.loads(kept) | {"value": 77.0, "step": 8})
    assert resumed() == 77 and checkpoint_hash(best) != before  # stopped before it was renamed
    (best / "selection.json").write_text(json.dumps(json.loads(kept) | {"value": "77"}))
    with pytest.raises(BTCChatError, match="selection.json: value is '77', expected a number"):
        resumed()


def test_a_run_that_stops_in_the_evaluation_of_an_epoch_evaluates_it_when_resumed(run, scenes, tmp_path, monkeypatch):
    from btcchat.train.evaluate import Evaluation

    flags = {"tune_language_model": True, "save_strategy": "steps", "save_steps": 1}
    flags |= {"eval_mixture": "scenes:val", "eval_strategy": "epoch"}  # an epoch is one step
    evaluate = Evaluation.evaluate

    def stops(self, step):
        if step == 2:
            raise KeyboardInterrupt
        evaluate(self, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluation, "evaluate", stops)
        run("scenes", **flags)
    resumed = run("scenes", **flags, resume=True)
    assert [log["step"] for log in resumed.state.log_history if "eval_S*m" in log] == [1, 2]
    assert (tmp_path / "out/evaluations/step-2/metrics.json").is_file()


def test_an_unknown_score_is_an_error_before_the_model_is_loaded(run, scenes, monkeypatch):
    monkeypatch.setattr("btcchat.train.train.load_model", None)
    flags = {"tune_language_model": True, "eval_mixture": "scenes:val", "eval_strategy": "epoch"}
    with pytest.raises(BTCChatError, match=r"--metric_for_best_model is CIDEr; choose from BLEU-1, .*direction F1"):
        run("scenes", metric_for_best_model="CIDEr", **flags)


def test_evaluation_does_not_change_what_is_learned(run, scenes, tmp_path):
    flags = {"tune_language_model": True, "cc_dropout": 0.1, "tune_mm_projector": True}
    run("scenes", output_dir=tmp_path / "without", **flags)
    run("scenes", output_dir=tmp_path / "with", eval_mixture="scenes", eval_strategy="epoch", **flags)
    assert checkpoint_hash(tmp_path / "with") == checkpoint_hash(tmp_path / "without")
    assert (tmp_path / "with" / "evaluations").is_dir()


def test_a_best_model_that_is_selected_on_training_samples_gives_a_warning(run, scenes, tmp_path, caplog):
    flags = {"tune_language_model": True, "eval_strategy": "epoch"}
    run("scenes:val@first:4", eval_mixture="scenes:val@end:2", output_dir=tmp_path / "others", **flags)
    assert "on training samples" not in caplog.text
    run("scenes:val", eval_mixture="scenes:val@first:2", **flags)
    assert "scenes:val is in --data_mixture too, so its scores are on training samples" in caplog.text


def test_a_test_split_is_refused_unless_a_flag_allows_it(run, scenes, tmp_path):
    flags = {"tune_language_model": True, "eval_mixture": "scenes:test", "eval_strategy": "epoch"}
    with pytest.raises(BTCChatError, match="test split scenes:test, and the best model would be selected on it"):
        run("scenes", **flags)
    run("scenes", i_know_this_is_the_test_split=True, **flags)
    assert json.loads((tmp_path / "out/best/selection.json").read_text())["test splits"] == ["scenes:test"]


@pytest.mark.parametrize(
    ("name", "annotation", "expected"),
    [
        ("a:test", "a_{split}.jsonl", True),
        ("a:testA", "a_{split}.jsonl", True),
        ("a:val", "test/a_{split}.jsonl", False),
        ("a", "annotations/test/pairs.jsonl", True),
        ("a", "testset.jsonl", True),
        ("a", "mine_tst.jsonl", True),
        ("a", "test/val.jsonl", False),
        ("a", "latest.jsonl", False),
    ],
)
def test_a_test_split_is_recognised_by_its_name_file_or_folder(name, annotation, expected):
    from btcchat.data.mixture.terms import Term
    from btcchat.eval.runs.samples import EvalSet

    description = {"annotation": annotation}
    term = Term(name, description, "all", "written", description)
    assert EvalSet(name, "captions", [], "", term).is_test == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"eval_mixture": "scenes:val"}, "--eval_mixture and --eval_strategy steps or epoch go together"),
        ({"eval_strategy": "epoch"}, "--eval_mixture and --eval_strategy steps or epoch go together"),
        ({"eval_strategy": "often", "eval_mixture": "scenes:val"}, "unknown --eval_strategy 'often'; choose from"),
        ({"greater_is_better": False}, "there is no flag --greater_is_better here; evaluate with --eval_mixture"),
        ({"eval_strategy": "steps", "eval_mixture": "scenes:val"}, "--eval_strategy steps needs --eval_steps N"),
    ],
)
def test_contradictory_flags_are_errors(run, scenes, flags, message):
    with pytest.raises(BTCChatError, match=message):
        run("scenes", tune_language_model=True, **flags)


def test_an_unknown_score_is_an_error_with_the_choices():
    from btcchat.train.evaluate import deciding_score

    metrics = {"sets": {"a": {"kind": "classes", "accuracy": 40.0}, "b": {"kind": "classes", "accuracy": 60.0}}}
    assert deciding_score(metrics, None) == ("accuracy", 50.0)
    with pytest.raises(BTCChatError, match="--metric_for_best_model is CIDEr; choose from accuracy"):
        deciding_score(metrics, "CIDEr")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["ddp", "zero3"])
def test_two_processes_answer_together_and_keep_the_best_model(data_root, checkpoint, scenes, tmp_path, how):
    """The best model, loaded again, gives the answers that were scored."""
    from btcchat import BTCChat
    from btcchat.eval.runs.ranks import Ranks
    from btcchat.eval.runs.samples import read_sets
    from btcchat.train.evaluate import answer_all

    if how == "zero3":
        pytest.importorskip("btcchat.train.distributed")
    out = tmp_path / "out"
    flags = {"model_name_or_path": checkpoint, "data_mixture": "scenes", "output_dir": out, "data_root": data_root}
    flags |= {"mixture_folder": data_root, "max_steps": 4, "save_strategy": "no", "disable_tqdm": True}
    flags |= {"eval_mixture": "scenes:val", "eval_strategy": "steps", "eval_steps": 2, "tune_language_model": True}
    flags |= {"per_device_train_batch_size": 1, "learning_rate": 1e-3, "dataloader_num_workers": 0}
    flags |= {"use_cpu": True} if how == "ddp" else {"deepspeed": how}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": path}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "LOCAL_SIZE": "2"}  # DeepSpeed: this CPU counts as two devices
    command = [*launcher, "-m", "btcchat.train.train_mem", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (out / "evaluations").iterdir()) == ["step-2", "step-4"]
    chosen = json.loads((out / "best/selection.json").read_text())
    lines = (out / f"evaluations/step-{chosen['step']}/predictions.jsonl").read_text().splitlines()
    answers = {row["id"]: row["prediction"] for row in map(json.loads, lines)}
    assert list(answers) == list(COLOURS)
    model = BTCChat.from_pretrained(out / "best", device="cpu", dtype="float32")
    assert answer_all(model, read_sets("scenes:val", data_root=scenes, folder=scenes), Ranks()) == answers
