"""The training runs of real_numbers.py, the same for all its rows, with their data and options.

They use `btcchat train` and `btcchat eval`. Results that are already in their folder are kept, so an interrupted
benchmark can be rerun to resume it.
"""

import json
import math
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import torch

from btcchat import BTCChat
from btcchat.change_encoder import build_change_encoder
from btcchat.cli import main as btcchat_command
from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.scores import Score

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "levir_cc_subset"
SUBSET = "a non-standard split of 50 LEVIR-CD test scenes"
DEPTHS = 4  # of the tower, for difference_aware, as in the published code


def encoder_flags(start: Path) -> dict[str, dict]:
    """Name -> flags of a newly initialised change encoder on the checkpoint ``start``."""
    config = BTCChat.from_pretrained(start, device="meta", dtype="float32").config
    last, layers = config.select_layers[-1], config.vision_tower["num_hidden_layers"]
    depths = [depth for depth in range(last - DEPTHS + 1, last + 1) if depth >= -layers - 1]
    return {
        "attentive-0": {"chg_type": "attentive", "cc_n_layers": 0},
        "attentive-1": {"chg_type": "attentive", "cc_n_layers": 1},
        "difference_aware": {"chg_type": "difference_aware", "mm_vision_select_layer": json.dumps(depths)},
        "concat": {"chg_type": "concat"},
    }


# -- training and answering ------------------------------------------------------------------------------------------


def btcchat(*words) -> None:
    """Run a btcchat command in this process; its output goes to stderr, so that only the table is on stdout."""
    with redirect_stdout(sys.stderr):
        code = btcchat_command([str(word) for word in words])
    if code:
        sys.exit(code)


def bare(start: str | None, folder: Path) -> Path:
    """The checkpoint ``start`` (None: the packaged model) without a change encoder, written to ``folder``."""
    if not (folder / "config.json").is_file():
        model = BTCChat.from_pretrained(start, device="cpu", dtype=torch.float32)
        config, tower = model.config, model.vision_tower
        config.change_encoder = {"change_encoder_type": "concat"}
        config.series_change_tokens = config.video_change_tokens = False
        sizes = {"hidden_size": tower.hidden_size, "grid": tower.grid, "num_depths": tower.num_depths}
        model.change_encoder = build_change_encoder(config.change_encoder, **sizes)
        model.save_pretrained(folder)
    return folder


def train(preset: str, out: Path, **flags) -> Path:
    """Train; -> the folder of the model: ``out``, or ``out/best`` if evaluations chose it. out/seconds has the time."""
    if not (out / "config.json").is_file():
        begin = time.perf_counter()
        flags |= {"output_dir": out, "save_strategy": "no", "overwrite_output_dir": True, "disable_tqdm": True}
        flags |= {"use_cpu": not torch.cuda.is_available(), "logging_steps": 20}
        btcchat("train", preset, *(word for name, value in flags.items() for word in (f"--{name}", value)))
        (out / "seconds").write_text(f"{time.perf_counter() - begin:.0f}\n")
    return out / "best" if (out / "best").is_dir() else out


def pretrain(start: Path, out: Path, fresh: dict, sets: Path, pairs: int, seed: int) -> Path:
    """Train a new change encoder on ``pairs`` synthetic pairs: first what is at both dates, then what changed."""
    given = {"data_root": sets, "mixture_folder": sets, "num_train_epochs": 1, "seed": seed}
    given |= {"series_change_tokens": False, "video_change_tokens": False}
    mixture = f"trial_align@first:{pairs}"
    aligned = train(
        "tiny/2_change_encoder", out / "align", model_name_or_path=start, data_mixture=mixture, **fresh, **given
    )
    mixture = f"trial_pairs@first:{pairs}"
    return train("tiny/3_llm", out / "captions", model_name_or_path=aligned, data_mixture=mixture, **given)


def finetune(start: Path, out: Path, sets: Path, seed: int, options, **flags) -> Path:
    """Train ``start`` on LEVIR-CC's captions; keep the best S*m on val among ``options.evaluations`` evaluations."""
    rows = sum(1 for _ in (sets / "annotations" / "train.jsonl").open())
    steps = options.epochs * math.ceil(rows / options.batch)
    flags |= {
        "model_name_or_path": start,
        "data_mixture": "real:train@random_choice",
        "data_root": sets,
        "mixture_folder": sets,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch,
        "learning_rate": options.learning_rate,
        "tune_vision_tower": True,  # it has only seen drawn scenes
        "mm_vision_tower_lr": options.tower_learning_rate,
        "augment_pairs": options.augment_pairs,
        "eval_mixture": "real:val",
        "eval_strategy": "steps",
        "eval_steps": max(1, steps // options.evaluations),
        "seed": seed,
    }
    return train("tiny/3_llm", out, **flags)


def add_options(add, name: str) -> None:
    """Options of the benchmark ``name``."""
    number, rate = {"type": int, "metavar": "N"}, {"type": float, "metavar": "R"}
    add("--start", metavar="CHECKPOINT", help="initial checkpoint (default: the packaged tiny model)")
    add("--real", type=Path, default=REAL, metavar="DIR", help="LEVIR-CC or a part of it, with splits train and val")
    add("--data", type=Path, metavar="DIR", help="folder with synthetic/pairs*.jsonl (default: generated in OUT)")
    add(
        "--out",
        type=Path,
        default=Path("runs") / name,
        metavar="DIR",
        help=f"folder of the results (default runs/{name})",
    )
    add("--pairs", **number, default=2000, help="synthetic pairs in each of the two stages (default 2000)")
    add("--epochs", **number, default=18, help="epochs over the real training pairs (default 18)")
    add("--batch", **number, default=8, help="real pairs in a batch (default 8)")
    add("--evaluations", **number, default=4, help="evaluations on val during training (default 4)")
    add("--learning-rate", **rate, default=1e-3, help="learning rate on the real pairs (default 1e-3)")
    add("--tower-learning-rate", **rate, default=2e-4, help="learning rate of the vision tower (default 2e-4)")
    add("--jobs", **number, default=1, help="parallel training runs, each on one core (default 1, on all cores)")
    add("--augment-pairs", default="True", choices=("True", "False"), help="augment the real pairs (default True)")


def parse(parser, shorter: dict[str, dict], words: list[str] | None):
    """The options. Each of ``shorter`` becomes a flag that sets other defaults, which ``options.shorter`` lists."""
    for name, values in shorter.items():
        about = ", ".join(f"{key} {value}" for key, value in values.items())
        parser.add_argument(f"--{name}", action="store_true", help=about)
    requested = parser.parse_args(words)
    values = {key: value for name in shorter if getattr(requested, name) for key, value in shorter[name].items()}
    full = {key: parser.get_default(key) for key in values}
    parser.set_defaults(**values)
    options = parser.parse_args(words)
    changed = [f"{key} {getattr(options, key)} instead of {full[key]}" for key in full]
    options.shorter = [f"A shorter run: {', '.join(changed)}."] if changed else []
    return options


def budget(options) -> str:
    """What the report says about the training runs."""
    return (
        f"Seeds: {options.seeds}. Synthetic: {options.pairs:,} pairs in each of two stages. Real: {options.epochs} "
        f"epochs in batches of {options.batch}, rate {options.learning_rate:g}, tower {options.tower_learning_rate:g}, "
        f"--augment_pairs {options.augment_pairs}, on {SUBSET}. The best of {options.evaluations} evaluations by S*m "
        f"on the same val pairs that are scored here: this flatters every trained row. Text convention: levir-cc "
        f"(docs/score.md). {machine(torch.device('cpu'))}."
    )


def write_report(folder: Path, name: str, text: str, options, **numbers) -> None:
    """Write FOLDER/NAME.md and FOLDER/NAME.json."""
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    whole = {"options": {key: str(value) for key, value in vars(options).items()}, **numbers}
    as_json = json.dumps(whole, indent=1, default=Score.values)
    (folder / f"{name}.json").write_text(as_json + "\n", encoding="utf-8")


def evaluate(model: Path | None, mixture: str, out: Path, sets: Path, *more: str, train: str = "none") -> Path:
    """Run `btcchat eval`; -> its run folder. more: further flags. train: the mixture for the baselines."""
    metrics = out / "metrics.json"
    if not metrics.is_file() or ("--masks" in more and "change_map" not in metrics.read_text(encoding="utf-8")):
        where = ["--data-root", sets, "--mixture-folder", sets, "--max-new-tokens", 64, "--train", train]
        btcchat("eval", model or "tiny", mixture, "--out", out, *where, *more)
    return out


# -- data ------------------------------------------------------------------------------------------------------------


def describe(sets: Path, options) -> Path:
    """Write ``sets/sets.yaml``: the real subset, and synthetic pairs, which are generated unless they exist."""
    from btcchat.synthetic.write import SampleCounts, write_dataset

    sets.mkdir(parents=True, exist_ok=True)
    if not (sets / "annotations").is_dir():
        btcchat("data", "convert", "levir_cc", options.real, sets / "annotations")
    if options.data is None and not (sets / "synthetic").is_dir():
        with redirect_stdout(sys.stderr):
            write_dataset(sets / "synthetic", SampleCounts(pairs=options.pairs), seed=2)
    real, synthetic = options.real.resolve(), (options.data or sets).resolve() / "synthetic"
    lines = [f"real: {{annotation: 'annotations/{{split}}.jsonl', images: '{real}', splits: [train, val]}}"]
    lines += [
        f"trial_{name}: {{annotation: '{synthetic / file}.jsonl', images: '{synthetic}'}}"
        for name, file in (("align", "pairs_align"), ("pairs", "pairs"))
    ]
    (sets / "sets.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sets
