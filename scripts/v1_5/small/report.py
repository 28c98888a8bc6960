"""The tables of a cross-validation: report.py DATA OUT reads OUT/runs.jsonl, writes OUT/report.md.

Scores are of the pairs of all folds together, each answered by a model that has seen none of its scenes, and means over
the seeds. Intervals are 95 %, by a bootstrap over groups of scenes (1,000 draws, paired). METEOR needs Java.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from btcchat.data.changed import says_no_change
from btcchat.eval.captions.bootstrap import DRAWS, p_value, times
from btcchat.eval.captions.changes import SAME
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.factuality import facts, factuality
from btcchat.eval.captions.ngrams import NGramScorer
from btcchat.eval.captions.presets import levir_cc
from btcchat.eval.captions.score import count_captions
from btcchat.eval.encoders.markdown import table
from btcchat.eval.encoders.scores import Score
from btcchat.eval.runs.baselines import most_frequent, nearest
from dataset import Pair, make_folds, read_pairs, scene_groups
from features import read_masks

FOLDS = 4  # as cross_validate.py has them
CHUNK = 100  # sentences tried at once
POWER = 2.8  # standard errors: what a two-sided test at 5 % finds in four of five cases
KEY = ("changed CIDEr-D", "S*m", "changed or not")
ANSWERS = {"captions": "", "captions, shuffled clues": ", shuffled", "captions, no clues": ", served without"}


@dataclass(frozen=True)
class Answers:
    """Captions of all pairs, of each seed; the change maps' (hits, false alarms, misses) where there are any."""

    texts: list[list[str]]
    maps: list[np.ndarray]  # (N, 3) of each seed
    seconds: list[float]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(words)
    pairs = read_pairs(options.data)
    groups = scene_groups(pairs)
    runs = [json.loads(line) for line in (options.out / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    folds = make_folds(pairs, groups, FOLDS)
    answers = models(runs, len(pairs)) | baselines(pairs, folds, np.load(options.out / "pooled.npy"))
    group_of = np.array([next(n for n, group in enumerate(groups) if pair.scene in group) for pair in pairs])
    scores = all_scores(pairs, answers, group_of)
    blocks = [
        selection(options.out, runs),
        scores_table(scores),
        differences(scores),
        facts_table(pairs, answers),
        people(pairs),
        sizes(pairs, answers, np.array([float(mask.float().mean()) for mask in read_masks(pairs)])),
        maps_table(answers, group_of),
        fixed_sentences(answers, folds),
        f"{len(pairs)} pairs of {sum(map(len, groups))} scenes in {len(groups)} groups; non-standard split. Seeds: "
        + ", ".join(f"{name} {len(own.texts)}" for name, own in answers.items() if own.maps)
        + ".",
    ]
    text = "\n\n".join(block for block in blocks if block) + "\n"
    (options.out / "report.md").write_text(text, encoding="utf-8")
    values = {name: {measure: one.values() for measure, one in own.items()} for name, own in scores.items()}
    (options.out / "scores.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(text)


def models(runs: Sequence[Mapping[str, Any]], count: int) -> dict[str, Answers]:
    """By name, those whose folds are all there for at least one seed."""
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for run in runs:
        if "error" not in run and run["stage"] in ("folds", "clues"):
            name = run["config"]["encoder"] + (" with clues" if run["stage"] == "clues" else "")
            found.setdefault((name, run["seed"]), []).append(run)
    answers: dict[str, Answers] = {}
    for (name, _), folds in sorted(found.items()):
        if sum(len(run["rows"]) for run in folds) != count:
            continue
        for key, ending in ANSWERS.items():
            if all(key in run for run in folds):
                texts = {row: text for run in folds for row, text in zip(run["rows"], run[key], strict=True)}
                maps = {row: one for run in folds for row, one in zip(run["rows"], run["map"], strict=True)}
                own = answers.setdefault(name + ending, Answers([], [], []))
                own.texts.append([texts[row] for row in range(count)])
                own.maps.append(np.array([maps[row] for row in range(count)]))
                own.seconds.append(sum(run["seconds"] for run in folds))
    return answers


def baselines(pairs: Sequence[Pair], folds: Sequence[Sequence[int]], pooled: np.ndarray) -> dict[str, Answers]:
    """Captions that describe nothing; each pair's are taken from the other folds."""
    names = ("most frequent change in train", "best fixed sentence in train", "nearest in train")
    texts: dict[str, list[str]] = {name: [""] * len(pairs) for name in names}
    for fold in folds:
        others = sorted(set(range(len(pairs))) - set(fold))
        train: Any = [SimpleNamespace(references=list(pairs[row].captions)) for row in others]
        fixed = most_frequent(train)["most frequent change in train"]
        own = pooled[list(fold)].astype(np.float32)
        near = nearest(own, pooled[others].astype(np.float32), train)
        best = best_sentence([pairs[row] for row in others])
        for row, text in zip(fold, near, strict=True):
            for name, said in zip(names, (fixed, best, text), strict=True):
                texts[name][row] = said
    texts[f'"{SAME}" for all'] = [SAME] * len(pairs)
    return {name: Answers([own], [], []) for name, own in texts.items()}


def best_sentence(train: Sequence[Pair]) -> str:
    """The caption whose CIDEr-D is highest where it is said of every changed pair of ``train``."""
    references = [tuple(levir_cc(pair.captions)) for pair in train if pair.changed]
    texts = sorted({text for own in references for text in own if not says_no_change(text)})
    scores: list[float] = []
    for start in range(0, len(texts), CHUNK):
        # The references of every text are the same, and so are the document frequencies.
        rows = [(text, own) for text in texts[start : start + CHUNK] for own in references]
        scores += NGramScorer(rows).cider_d(range(len(rows))).reshape(-1, len(references)).mean(1).tolist()
    return texts[int(np.argmax(scores))]


def all_scores(
    pairs: Sequence[Pair], answers: Mapping[str, Answers], group_of: np.ndarray
) -> dict[str, dict[str, Score]]:
    """name -> measure -> Score."""
    drawn = times(int(group_of.max()) + 1, DRAWS, 0)[:, group_of]  # (draws, N)
    parts = {"": list(range(len(pairs))), "changed ": [n for n, pair in enumerate(pairs) if pair.changed]}
    runs = [(name, seed) for name, own in answers.items() for seed in range(len(own.texts))]
    places = {
        f"{number} {part}": [number * len(pairs) + row for row in rows]
        for number in range(len(runs))
        for part, rows in parts.items()
    }
    counts = count_captions(
        [text for name, seed in runs for text in answers[name].texts[seed]],
        [list(pair.captions) for pair in pairs] * len(runs),
        parts=places,
    )
    truth = np.array([pair.changed for pair in pairs])
    scores: dict[str, dict[str, Score]] = {}
    for name, own in answers.items():
        numbers = [number for number, run in enumerate(runs) if run[0] == name]
        scores[name] = {}
        for part, rows in parts.items():
            each = [counts[f"{number} {part}"] for number in numbers]
            points = np.stack([one.scores() for one in each])
            draws = np.mean([one.scores(drawn[:, rows]) for one in each], axis=0)
            scores[name] |= {f"{part}{m}": Score(points[:, n], draws[:, n]) for n, m in enumerate(METRICS)}
        right = np.array([[says_no_change(text) for text in texts] != truth for texts in own.texts])
        share = (drawn @ right.T / drawn.sum(1, keepdims=True)).mean(1)
        scores[name]["changed or not"] = Score(100 * right.mean(1), 100 * share)
    return scores


def selection(out: Path, runs: Sequence[Mapping[str, Any]]) -> str:
    file = out / "chosen.json"
    if not file.is_file():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    maps: dict[str, np.ndarray] = {}  # candidate -> hits, false alarms, misses of all its seeds
    for run in runs:
        if "error" not in run and run["stage"] == "selection":
            name = run["id"].removeprefix("selection, ").rpartition(", seed")[0]
            maps[name] = maps.get(name, np.zeros(3)) + np.sum(run["map"], axis=0)
    rows = []
    for name, score in sorted(found["scores"].items(), key=lambda item: -item[1]):
        outcomes = maps[name.rpartition(", ")[0]]
        rows.append([name, f"{score:.1f}", f"{100 * outcomes[0] / outcomes.sum():.1f}"])
    head = ["candidate, on inner scenes of fold 0's training scenes", "criterion", "change-map IoU"]
    chosen = f"Chosen by {found['criterion']}, {found['seeds']} seed(s): {found['chosen']}, {found['config']}"
    return f"{chosen}\n\n{table(head, rows)}"


def scores_table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    blocks = []
    for title, names in (
        ("changed pairs", [f"changed {metric}" for metric in METRICS]),
        ("all pairs", [*METRICS, "changed or not"]),
    ):
        rows = [[name, *(str(own[measure]) for measure in names)] for name, own in scores.items()]
        blocks.append(
            table([title, *(name.removeprefix("changed ") if "or not" not in name else name for name in names)], rows)
        )
    return "\n\n".join(blocks)


def differences(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """`attentive` minus everything else: difference, interval, p, and the smallest difference that could be found."""
    if "attentive" not in scores:
        return ""
    rows = []
    for measure in KEY:
        for other in scores:
            if other == "attentive":
                continue
            one, two = scores["attentive"][measure], scores[other][measure]
            gains = one.draws - two.draws
            low, high = np.percentile(gains, [2.5, 97.5])
            p, found = float(p_value(gains[:, None])[0]), f"{POWER * gains.std():.1f}"
            interval = f"{low:+.1f} to {high:+.1f}"
            rows.append([measure, other, f"{one.mean - two.mean:+.1f}", interval, f"{p:.3f}", found])
    return table(["measure", "attentive minus", "difference", "95 %", "p", "smallest detectable"], rows)


def facts_table(pairs: Sequence[Pair], answers: Mapping[str, Answers]) -> str:
    """Claims F1, objects claimed on unchanged pairs, repeated captions.

    The last row is what people reach: each of a pair's captions, compared with the others.
    """
    references = [list(pair.captions) for pair in pairs]
    compared = {name: [(texts, references) for texts in own.texts] for name, own in answers.items()}
    compared["a person, compared with the others"] = [apart(pairs, number) for number in range(len(references[0]))]
    rows = []
    for name, own in compared.items():
        claims = [factuality(*one) for one in own]
        f1 = [f"{np.mean([one[kind]['F1'] or 0.0 for one in claims]):.1f}" for kind in claims[0]]
        unchanged = [row for row, pair in enumerate(pairs) if not pair.changed]
        changed = [row for row, pair in enumerate(pairs) if pair.changed]
        invented = [np.mean([bool(facts(texts[row])["objects"]) for row in unchanged]) for texts, _ in own]
        repeated = []
        for texts, _ in own:
            times_said = Counter(texts[row] for row in changed)
            repeated.append(sum(number for number in times_said.values() if number > 1) / len(changed))
        different = np.mean([len(set(texts)) for texts, _ in own])
        most = 100 * np.mean([max(Counter(texts).values()) / len(pairs) for texts, _ in own])
        shares = [f"{100 * np.mean(invented):.1f}", f"{100 * np.mean(repeated):.1f}", f"{different:.0f}", f"{most:.1f}"]
        rows.append([name, *f1, *shares])
    said = ["objects on unchanged pairs, %", "repeated, %", "different captions", "the most frequent, %"]
    return table(["F1 of claims", "objects", "direction", "counts", "places", *said], rows)


def apart(pairs: Sequence[Pair], number: int) -> tuple[list[str], list[list[str]]]:
    """Caption ``number`` of each pair, and its other captions."""
    others = [[text for place, text in enumerate(pair.captions) if place != number] for pair in pairs]
    return [pair.captions[number] for pair in pairs], others


def people(pairs: Sequence[Pair]) -> str:
    changed = [pair for pair in pairs if pair.changed]
    own = [cider_d(*apart(changed, number)) for number in range(len(pairs[0].captions))]
    scores = f"{np.mean(own):.1f} ({min(own):.1f}-{max(own):.1f})"
    return f"A person, compared with the others: CIDEr-D of changed pairs {scores}."


def sizes(pairs: Sequence[Pair], answers: Mapping[str, Answers], share: np.ndarray) -> str:
    """By the changed share of a pair's mask, in thirds: CIDEr-D, objects F1, and whether a change is seen."""
    changed = np.array([row for row, pair in enumerate(pairs) if pair.changed])
    order = changed[np.argsort(share[changed], kind="stable")]
    rows = []
    for name, own in answers.items():
        cells = []
        for third in np.array_split(order, 3):
            references = [list(pairs[row].captions) for row in third]
            said = [[texts[row] for row in third] for texts in own.texts]
            cider = np.mean([cider_d(one, references) for one in said])
            seen = np.mean([[not says_no_change(text) for text in one] for one in said])
            objects = np.mean([factuality(one, references)["objects"]["F1"] or 0.0 for one in said])
            cells.append(f"{cider:.1f}, {objects:.0f}, {100 * seen:.0f}")
        rows.append([name, *cells])
    limits = [f"{100 * share[third].min():.1f}-{100 * share[third].max():.1f} %" for third in np.array_split(order, 3)]
    return table(["changed area: CIDEr-D, objects F1, % seen", *limits], rows)


def cider_d(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    rows = [(levir_cc([text])[0], tuple(levir_cc(own))) for text, own in zip(texts, references, strict=True)]
    return float(100 * NGramScorer(rows).cider_d(range(len(rows))).mean())


def fixed_sentences(answers: Mapping[str, Answers], folds: Sequence[Sequence[int]]) -> str:
    """What the baselines say that say one thing in a fold."""
    lines = []
    for name, own in answers.items():
        said = [{own.texts[0][row] for row in fold} for fold in folds]
        if all(len(one) == 1 for one in said):
            lines.append(f"- {name}: " + "; ".join(dict.fromkeys(f'"{next(iter(one))}"' for one in said)))
    return "\n".join(lines)


def maps_table(answers: Mapping[str, Answers], group_of: np.ndarray) -> str:
    drawn = times(int(group_of.max()) + 1, DRAWS, 0)[:, group_of]
    rows = []
    everything = None
    for name, own in answers.items():
        if own.maps and "," not in name:
            values = [100 * one[:, 0].sum() / one.sum() for one in own.maps]
            draws = np.mean([100 * (drawn @ one)[:, 0] / (drawn @ one).sum(1) for one in own.maps], axis=0)
            low, high = np.percentile(draws, [2.5, 97.5])
            rows.append([name, f"{np.mean(values):.1f} ({low:.1f}-{high:.1f})", ", ".join(f"{v:.1f}" for v in values)])
            everything = 100 * (own.maps[0][:, 0] + own.maps[0][:, 2]).sum() / (len(own.maps[0]) * 256**2)
    if everything is None:
        return ""
    return table(["change maps", "IoU", "of each seed"], [*rows, ["everything changed", f"{everything:.1f}", "-"]])


if __name__ == "__main__":
    main()
