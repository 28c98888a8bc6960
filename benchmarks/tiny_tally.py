"""What tiny_quality.py counts: captions, answers, refusals, consistency and change maps, and the table of them."""

import re
from collections import Counter, defaultdict

import numpy as np

from btcchat.eval.captions.factuality import factuality
from btcchat.eval.encoders.markdown import table
from btcchat.eval.maps.masks import LEVELS, level_of
from btcchat.synthetic.changes import Change, reading_order
from parse_captions import parse_caption

AT_LEAST = {
    "changed or unchanged": 0.97,
    "type F1": 0.90,
    "count right": 0.80,
    "place right": 0.80,
    "dates swapped": 0.95,
    "consistent with the caption": 0.95,
    "image questions": 0.85,
    "series questions": 0.85,
    "video questions": 0.85,
    "unanswerable questions refused": 0.90,
    "change map IoU": 0.50,
}
AT_MOST = {"answerable questions refused": 0.02}
GOALS = AT_LEAST | AT_MOST
GAP = 0.03  # of a kind of question in unseen wordings behind the trained ones
OPPOSITE = {"built": "removed", "removed": "built"}


class Tally:
    """Right ones of all, by name, and how often each answer was the true one."""

    def __init__(self):
        self.right, self.total = Counter(), Counter()
        self.trained: dict[str, list[int]] = defaultdict(list)  # the same questions in trained wordings
        self.answers: dict[str, Counter] = defaultdict(Counter)
        self.captions: list[tuple[str, list[str]]] = []  # each with its references

    def add(self, name: str, right: int, total: int = 1) -> None:
        self.right[name] += right
        self.total[name] += total

    def scores(self) -> dict[str, dict]:
        found = {name: {"score": self.right[name] / n, "n": n} for name, n in self.total.items() if n}
        for name, right in self.trained.items():
            found[name]["trained wordings"] = float(np.mean(right))
        for name, answers in self.answers.items():
            most = max(answers.values())
            found[name]["most frequent"] = most / self.total[name]
            whole = found[name.split(", ")[0]]  # the blind score of a task: that of each of its kinds of question
            whole["most frequent"] = whole.get("most frequent", 0) + most / whole["n"]
        if self.captions:
            for kind, claims in factuality(*zip(*self.captions, strict=True)).items():
                found[f"claims: {kind}"] = {"score": (claims["precision"] or 0) / 100, "n": len(self.captions)}
        return found


def score_caption(tally: Tally, changes: list[Change], caption: str, swapped: str | None = None) -> None:
    """Compare a caption, and the caption of the swapped pair, with the true ``changes``."""
    named = parse_caption(caption)
    tally.add("changed or unchanged", bool(named) == bool(changes))
    right = 0
    for change in changes:
        hit = next((c for c in named if c[:2] == (change["kind"], change["action"])), None)
        if hit is None:
            continue
        right += 1
        named.remove(hit)
        tally.add("count right", hit[2] == change["count"])
        if change["kind"] == "house":  # the only kind that comes in more than one
            tally.add("count right, houses", hit[2] == change["count"])
        tally.add("place right", hit[3] == change["place"])
        if swapped is not None:
            opposite = (change["kind"], OPPOSITE[change["action"]])
            tally.add("dates swapped", any(c[:2] == opposite for c in parse_caption(swapped)))
    # F1 = 2 right / (named + true), so the sum of both is its total.
    tally.add("type F1", 2 * right, right + len(named) + len(changes))


def score_answer(tally: Tally, task: str, kind: str, truth: str, answer: str, trained: str | None = None) -> None:
    """Compare an answer with the truth; ``trained`` is the answer to the same question in a wording of the training."""
    for name in (f"{task} questions", f"{task} questions, {kind}"):
        tally.add(name, plain(answer) == plain(truth))
        if trained is not None:
            tally.trained[name].append(plain(trained) == plain(truth))
    tally.answers[f"{task} questions, {kind}"][plain(truth)] += 1
    tally.add("answerable questions refused", refuses(answer))


def score_map(tally: Tally, values: np.ndarray, mask: np.ndarray, threshold: float) -> None:
    """Add a change map (H, W), 0 to 1, to the IoU of all maps: changed where it has at least ``threshold``."""
    changed = (values * (LEVELS - 1)).round() >= level_of(threshold)
    tally.add("change map IoU", int((changed & mask).sum()), int((changed | mask).sum()))


def refuses(answer: str) -> bool:
    return plain(answer).startswith("i cannot tell")


def plain(text: str) -> str:
    """Lower case, no full stops, single spaces."""
    return " ".join(text.lower().replace(".", " ").split())


def changes_named(caption: str) -> list[Change] | None:
    """The changes of a caption, in reading order; None if it leaves out an action, a count or a place."""
    changes: list[Change] = []
    clauses = re.split(r" , and | and ", caption)
    for kind, action, count, place in parse_caption(caption):
        if action is None or count is None or place is None:
            return None
        part = any("parking" in clause and re.search("extended|reduced", clause) for clause in clauses)
        partial = kind == "parking" and part
        changes.append(Change(kind=kind, action=action, count=count, place=place, step=0, partial=partial))
    return reading_order(changes)


def report(scores: dict[str, dict]) -> str:
    """The table: a row a measure, a column a model."""
    models = list(scores)
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    names.sort(key=lambda name: (list(GOALS).index(name.split(", ")[0]) if name.split(", ")[0] in GOALS else 99, name))
    rows = []
    for name in names:
        first = next(found[name] for found in scores.values() if name in found)
        cells = [cell for model in models for cell in _cells(scores[model].get(name), name)]
        label = "- " + name.split(", ", 1)[1] if ", " in name else name
        goal = f"{GOALS[name]:.2f}" if name in GOALS else ""
        blind = f"{first['most frequent']:.3f}" if "most frequent" in first else ""
        rows.append((label, goal, *cells, blind, str(first["n"])))
    heads = [head for model in models for head in (model, "trained wordings")]
    return table(["held-out synthetic scenes", "goal", *heads, "most frequent", "n"], rows)


def _cells(found: dict | None, name: str) -> tuple[str, str]:
    """A model's score with whether it meets its goal, and its score in trained wordings with whether that is near."""
    if found is None:
        return "-", ""
    score, trained = found["score"], found.get("trained wordings")
    mark = (
        ""
        if name not in GOALS
        else " met"
        if (score <= GOALS[name] if name in AT_MOST else score >= GOALS[name])
        else " missed"
    )
    near = "" if trained is None else f"{trained:.3f}" + (" met" if score >= trained - GAP else " missed")
    return f"{score:.3f}{mark}", near
