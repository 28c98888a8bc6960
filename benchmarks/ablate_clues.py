"""Do clues help? Train with and without prompt augmentation, from the same weights and on the same data.

    python benchmarks/ablate_clues.py                                             # a few minutes on two cores
    python benchmarks/ablate_clues.py --train 20000 --steps 10000 --test 1000 --clue_model FOLDER

The data are synthetic pairs (btcchat/synthetic): ``--train`` pairs for training, and ``--test`` held-out pairs (other
layouts, other colours) to caption. Both runs see the same samples in the same order. The run with clues drops a share
of them (``--clue_dropout``), so its model is tested both with clues and without. ``--true_clues`` adds a run whose clue
is the true caption: it shows whether clues are used at all, and how much the best possible clue could help.

Scores are those of benchmarks/tiny_tally.py; the loss is the mean of the last fifth of the logged steps.
"""

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from btcchat import BTCChat, BTCChatError, request
from btcchat.checkpoint.hub import resolve
from btcchat.clues import ask as augment
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic import SyntheticSample, make_pair
from btcchat.train.flags import parse_arguments
from btcchat.train.train import train
from tiny_quality import SEED_STRIDE, in_batches, pictures
from tiny_tally import Tally, score_caption

MEASURES = ("changed or unchanged", "type F1", "count right", "place right")


def write_data(folder: Path, options: argparse.Namespace) -> None:
    """Write the sets ``pairs``, and ``with_captions``: the same pairs with their true caption as clue."""
    rows = []
    for number in range(options.train):
        sample = make_pair(options.seed * SEED_STRIDE + number)
        names = [f"{number}_{date}.png" for date in ("before", "after")]
        for name, image in zip(names, pictures(sample), strict=True):
            image.save(folder / name, compress_level=1)
        answer = {"from": "gpt", "value": sample.captions[0]}
        talk = [{"from": "human", "value": f"<image>\n{CAPTION_QUESTION}"}, answer]
        rows.append({"modality": "pair", "images": names, "conversations": talk, "clue": sample.captions[0]})
    for name, keys in (("with_captions", {"clue"}), ("pairs", set())):
        kept = ({key: value for key, value in row.items() if key != "clue" or key in keys} for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    described = "".join(f"{name}: {{annotation: {name}.jsonl, images: .}}\n" for name in ("pairs", "with_captions"))
    (folder / "sets.yaml").write_text(described, encoding="utf-8")


def trained(folder: Path, name: str, mixture: str, options: argparse.Namespace, **flags) -> float:
    """Train into ``folder/name`` and return the final loss."""
    flags = {
        "model_name_or_path": resolve(options.model),
        "data_mixture": mixture,
        "data_root": folder,
        "mixture_folder": folder,
        "output_dir": folder / name,
        "version": "v1",
        "tune_language_model": True,
        "tune_mm_projector": True,
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch,
        "learning_rate": options.learning_rate,
        "logging_steps": max(1, options.steps // 20),
        "save_strategy": "no",
        "dataloader_num_workers": 0,
        "seed": options.seed,
        "disable_tqdm": True,
    } | flags
    with redirect_stdout(sys.stderr):  # the output of a run; only the table goes to stdout
        trainer = train(*parse_arguments([word for key, value in flags.items() for word in (f"--{key}", str(value))]))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 5) :]
    return sum(last) / len(last)


def ask_clues(model: BTCChat, tests: list[SyntheticSample], batch: int) -> list[str]:
    asked = (augment.ask(model, [("pair", pictures(one)) for one in group]) for group in in_batches(tests, batch))
    return [clue for clues in asked for clue in clues]


def scored(folder: Path, tests: list[SyntheticSample], clues: list[str | None], batch: int) -> list[str]:
    """The cells of one row: scores of the captions of the held-out pairs."""
    model, tally = BTCChat.from_pretrained(folder), Tally()
    for group in in_batches(zip(tests, clues, strict=True), batch):
        records = [request(CAPTION_QUESTION, "pair", pictures(one), clue=clue) for one, clue in group]
        for (one, _), answer in zip(group, model.answer(records, GenerationOptions(96)), strict=True):
            score_caption(tally, one.truth["changes"], answer)
    found = tally.scores()
    return [f"{found[name]['score']:.3f}" if name in found else "-" for name in MEASURES]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", help="checkpoint that all runs start from (default: the packaged tiny model)")
    add("--clue_model", help="checkpoint that gives the clues (default: the packaged tiny model)")
    add(
        "--clue_dropout",
        type=float,
        default=0.3,
        help="share of the training prompts whose clue is dropped (default 0.3)",
    )
    add("--true_clues", action="store_true", help="also train with the true captions as clues")
    add("--train", type=int, default=300, help="training pairs (default 300)")
    add("--test", type=int, default=100, help="held-out pairs for the scores (default 100)")
    add("--steps", type=int, default=150, help="steps of each run (default 150)")
    add("--batch", type=int, default=8, help="samples in a batch (default 8)")
    add("--learning_rate", type=float, default=2e-4, help="learning rate (default 2e-4)")
    add("--seed", type=int, default=77, help="seed of the pairs and their order (default 77)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        with TemporaryDirectory() as folder:
            print(ablation(Path(folder), options))
    except BTCChatError as error:
        sys.exit(f"ablate_clues.py: error: {error}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


def ablation(folder: Path, options: argparse.Namespace) -> str:
    """The table: a row for each way to train and to test."""
    write_data(folder, options)
    tests = [make_pair(900 * SEED_STRIDE + number, heldout=True) for number in range(options.test)]
    clues = ask_clues(BTCChat.from_pretrained(options.clue_model), tests, options.batch)
    none, share = [None] * len(tests), options.clue_dropout
    online = {"prompt_augmentation": "online", "clue_model": resolve(options.clue_model)}
    loss = f"{trained(folder, 'off', 'pairs', options):.3f}"
    rows = [("no clues", "no clues", loss, *scored(folder / "off", tests, none, options.batch))]
    loss = f"{trained(folder, 'with', 'pairs', options, clue_dropout=share, **online):.3f}"
    for served, given in (("clues", clues), ("no clues", none)):
        rows.append((f"clues, {share:g} dropped", served, loss, *scored(folder / "with", tests, given, options.batch)))
    if options.true_clues:
        loss = f"{trained(folder, 'true', 'with_captions', options):.3f}"
        given = [one.captions[0] for one in tests]
        rows.append(("true clues", "true clues", loss, *scored(folder / "true", tests, given, options.batch)))
    shown = "\n".join(
        f"clue {number}: {' '.join(clue.split()) or '(none)'}" for number, clue in enumerate(clues[:3], 1)
    )
    return table(["trained with", "served with", "loss", *MEASURES], rows) + "\n" + shown


if __name__ == "__main__":
    sys.exit(main())
