"""How well does the packaged tiny model learn real captions, and what do its change encoder and the scenes add?

    python benchmarks/real_numbers.py --jobs 2       # three seeds of each row: see docs/real_numbers.md for the time
    python benchmarks/real_numbers.py --quick        # one seed, fewer epochs
    python benchmarks/real_numbers.py --pretrained concat=FOLDER attentive-1=FOLDER

Each row of the table is trained on the training pairs of a subset of LEVIR-CC (``--real``). The best of several
evaluations on its val pairs is kept, and scored on the same val pairs by `btcchat eval`.

  packaged          the packaged tiny model, with its own encoder and all of its synthetic training
  NAME, scenes      an encoder trained on synthetic pairs, in the same way for each NAME: initialised on the packaged
                    model's tower, projector and language model (or, with ``--pretrained NAME=FOLDER``, your checkpoint)
  NAME, no scenes   the same encoder and everything else from random weights (btcchat.synthetic.start)

Below them are the packaged model before training on real pairs, and the baselines (docs/eval.md). If the pairs have
masks of buildings (images/*/label), the last table compares the change maps with them, each at its best threshold on
these pairs. Intervals are 95 % intervals of the mean over the seeds, by resampling the pairs 1,000 times.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean

import trials
from btcchat import BTCChatError
from btcchat.checkpoint.hub import resolve
from btcchat.eval.captions.changes import same_for_all
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Prediction, read_predictions
from btcchat.eval.encoders.markdown import table
from btcchat.eval.encoders.runs import together
from btcchat.eval.encoders.scores import FLAGS, caption_scores
from btcchat.eval.runs.baselines import most_frequent
from btcchat.eval.runs.samples import read_sets

ENCODERS = ("attentive-0", "attentive-1", "concat")
DECIDES = "changed CIDEr-D"
BEFORE = "packaged, no real pairs"
SHORTER = {
    "quick": {"pairs": 500, "seeds": 1, "epochs": 4, "evaluations": 2},
    "smoke": {"pairs": 8, "seeds": 1, "epochs": 1, "evaluations": 1},
}


def run(options: argparse.Namespace) -> str:
    """Train and score all rows; -> the tables, which are also written to OUT."""
    out = options.out
    sets = trials.describe(out / "sets", options)
    start, random = trials.bare(options.start, out / "start"), random_start(out / "random")
    flags = trials.encoder_flags(start)
    mine = options.pretrained
    alike = [name for name in ENCODERS if name not in mine]
    tasks = [(start, out / name, flags[name], sets, options.pairs, 0) for name in alike]
    scenes = mine | dict(zip(alike, together(trials.pretrain, tasks, options.jobs), strict=True))
    rows = {"packaged": (resolve(options.start), {})}  # name -> (initial checkpoint, flags)
    for name in ENCODERS:
        rows[f"{name}, scenes"] = (scenes[name], {})
        rows[f"{name}, no scenes"] = (random, flags[name] | {"from_origin": True})
    tasks = [
        (name, checkpoint, fresh, sets, seed, options)
        for seed in range(options.seeds)  # outermost, so that each seed completes a whole table
        for name, (checkpoint, fresh) in rows.items()
    ]
    runs = {name: [] for name in rows}
    for (name, *_), done in zip(tasks, together(learn, tasks, options.jobs), strict=True):
        runs[name].append(done)
    before = trials.evaluate(options.start, "real:val", out / "before", sets, *masks(options), train="real:train")
    free = baselines(sets, before)
    answers = {name: [predictions(run) for run in done] for name, done in (runs | {BEFORE: [before]}).items()}
    scores = caption_scores(answers, free)
    blocks = [*options.shorter, *tables(scores, list(runs), list(free))]
    blocks += [maps({**runs, BEFORE: [before]})] if masks(options) else []
    text = "\n\n".join([*blocks, trials.budget(options)])
    text += "".join(f" {name}, scenes: {folder}, trained differently." for name, folder in options.pretrained.items())
    trained = [run.parent for done in runs.values() for run in done]
    trained += [out / name / stage for name in alike for stage in ("align", "captions")]
    minutes = [float((folder / "seconds").read_text()) / 60 for folder in trained]
    text += f" {len(minutes)} training runs took {sum(minutes):.0f} minutes in total (parallel runs are added up)."
    trials.write_report(out, "real_numbers", text, options, scores=scores)
    return text


def learn(name: str, checkpoint: Path, fresh: dict, sets: Path, seed: int, options: argparse.Namespace) -> Path:
    """Fine-tune a row of the table with one seed; -> the run folder of its scores."""
    folder = options.out / name.replace(", ", "/").replace(" ", "-") / f"seed-{seed}"
    tuned = trials.finetune(checkpoint, folder, sets, seed, options, **fresh)
    return trials.evaluate(tuned, "real:val", folder / "eval", sets, *masks(options))


def masks(options: argparse.Namespace) -> list[str]:
    """The flag of `btcchat eval` that scores change maps, if the pairs have masks (LEVIR-CC itself has none)."""
    return ["--masks"] if (options.real / "images" / "val" / "label").is_dir() else []


def random_start(folder: Path) -> Path:
    """A checkpoint of random weights with the tiny model's sizes; the same at each call."""
    if not (folder / "config.json").is_file():
        command = [sys.executable, "-m", "btcchat.synthetic.start", str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return folder


def predictions(run: Path) -> list[Prediction]:
    """The predictions in a run folder."""
    return read_predictions(run / "predictions.jsonl").rows


def baselines(sets: Path, run: Path) -> dict[str, list[str]]:
    """Captions made without looking at the images, as `btcchat eval --train` scores them."""
    rows = predictions(run)
    (train,) = read_sets("real:train", data_root=sets, folder=sets)
    (nearest,) = json.loads((run / "baselines.json").read_text(encoding="utf-8")).values()
    always = {name: [text] * len(rows) for name, text in most_frequent(train.samples).items()}
    return same_for_all([row.references for row in rows]) | always | {"nearest in train": nearest}


def tables(scores: dict, trained: list[str], free: list[str]) -> list[str]:
    """All measures, and how much each encoder gains over concat and over the baselines."""
    blocks = []
    for title, prefix, more in (("changed pairs", "changed ", []), ("all pairs", "", [FLAGS])):
        measures = [f"{prefix}{metric}" for metric in METRICS] + more
        cells = [[name, *(str(one[measure]) for measure in measures)] for name, one in scores.items()]
        blocks.append(table([title, *METRICS, *("changed or not, %" for _ in more)], cells))
    for name in trained:
        others = [other for other in trained if other == f"concat,{name.partition(',')[2]}" != name] + free
        own = scores[name][DECIDES]
        against = [f"{other} {own.against(scores[other][DECIDES])}" for other in others]
        seeds = ", ".join(f"{value:.1f}" for value in own.seeds)
        blocks.append(f"{name}: CIDEr-D of changed pairs of each seed {seeds}; minus {'; '.join(against)}.")
    return blocks


def maps(runs: dict[str, list[Path]]) -> str:
    """How well the change maps match the masks of buildings, as `btcchat eval --masks` scores them."""
    cells = []
    for name, folders in runs.items():
        found = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["sets"]["real:val"] for run in folders]
        scores = [one["change_map"]["scores"] for one in found]
        row = [f"{mean(one['change map'][measure] for one in scores):.1f}" for measure in ("IoU", "F1")]
        cells.append([name, *row, ", ".join(f"{one['change map']['IoU']:.1f}" for one in scores)])
    everything = scores[0]["everything changed"]
    cells.append(["everything changed", f"{everything['IoU']:.1f}", f"{everything['F1']:.1f}", "-"])
    return table(["change maps", "IoU", "F1", "IoU of each seed"], cells)


class Pretrained(argparse.Action):
    def __call__(self, parser, options, values, flag=None):
        given = dict(value.partition("=")[::2] for value in values)
        if not given.keys() <= set(ENCODERS) or not all(given.values()):
            parser.error(f"{flag} takes NAME=FOLDER, where NAME is one of {', '.join(ENCODERS)}")
        setattr(options, self.dest, {name: Path(folder) for name, folder in given.items()})


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    trials.add_options(add, "real_numbers")
    add(
        "--pretrained",
        nargs="+",
        action=Pretrained,
        default={},
        metavar="NAME=FOLDER",
        help="checkpoints to use for `NAME, scenes`",
    )
    add("--seeds", type=int, default=3, metavar="N", help="training runs of each row (default 3)")
    try:
        print(run(trials.parse(parser, SHORTER, words)))
    except BTCChatError as error:
        sys.exit(f"real_numbers.py: error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
