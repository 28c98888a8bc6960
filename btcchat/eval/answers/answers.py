"""Compare short answers with the correct ones: questions by type, and classes with a confusion matrix.

An answer is right if it equals the correct one after `normalise`: lower case, no punctuation except the point inside a
number, underscores and hyphens as spaces, no articles, number words up to twelve as digits, m² as m2. In addition

- if the correct answer is "yes" or "no", only the first word counts ("No, there is none."),
- RSVQA-LR's counts and RSVQA-HR's areas are right if they are in the same range as the correct one (Lobry et al.,
  TGRS 2020, and VQA_model/VocabEncoder.py of github.com/syvlo/RSVQA): 0, up to 10, 100, 1000, above,
- a sentence that names a class and no other class also counts as that class.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from typing_extensions import TypedDict

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
TYPES = {"comp": "comparison", "rural_urban": "rural/urban"}  # RSVQA's names -> the names in its papers
NUMERIC = (
    "count",
    "area",
)  # left out for systems that do not answer with numbers (GeoChat and the systems compared with it)
RANGES = {
    "rsvqa_lr": "count",
    "rsvqa_hr": "area",
}  # kind of data set -> type of question where the right range is enough
IN_RANGES = {
    "count": "RSVQA-LR's counts are right if they are in the range of the correct count",
    "area": "RSVQA-HR's areas are right if they are in the range of the correct area",
}
UNKNOWN = "(no class)"
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W_\d]+(?:\d+)?|%")

Interval = TypedDict("Interval", {"95 %": list[float]}, total=False)  # its ends, if it is computed
_GroupScores = TypedDict("_GroupScores", {"questions": int, "accuracy": float, "most frequent": float})
_ClassTable = TypedDict(
    "_ClassTable",
    {"accuracy": float, "most frequent": float, "recall": dict[str, float], "confusion": dict[str, dict[str, int]]},
)


class GroupScores(_GroupScores, Interval):
    """One of `groups`, in percent. "most frequent": the score of always giving the most frequent answer of a type."""


class ClassTable(_ClassTable, Interval):
    """Accuracy in percent, recall of each class, and the confusion matrix as ``[truth][answer]``."""


class ClassScores(ClassTable):
    """A ClassTable and its number of samples."""

    samples: int


def normalise(text: str) -> str:
    """Normalise as described above; ``" The NVG_surface."`` -> ``"nvg surface"``."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower().replace("²", "2"))
    words = _WORD.findall(text)
    words = [word for word in words if word not in ("a", "an", "the")] or words  # "A" may be an answer
    return " ".join(str(NUMBERS.index(word)) if word in NUMBERS else word for word in words)


def same(answer: str, truth: str, *, ranges: bool = False) -> bool:
    """Whether an answer is right. ranges: a number is right if it is in the range of the correct one."""
    answer, truth = normalise(answer), normalise(truth)
    if truth in ("yes", "no"):
        return answer.split(" ")[0] == truth
    if ranges and (true_range := _range(truth)) is not None:
        return _range(answer) == true_range
    return answer == truth


def _range(answer: str) -> int | None:
    """Range of a normalised number or area ("500 m2"), or None: 0 is zero, 1 to 10, 2 to 100, 3 to 1000, 4 above."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?: m2)?", answer)
    return sum(float(number[1]) > limit for limit in (0, 10, 100, 1000)) if number else None


def question_type(given: str | None, truth: str) -> str:
    """The type given in the data or, failing that, the type of the answer (as in VQA v2): yes/no, number or other."""
    if given:
        return TYPES.get(given, given)
    truth = normalise(truth)
    return "yes/no" if truth in ("yes", "no") else "number" if truth.isdecimal() else "other"


def question_scores(
    answers: Sequence[str], truths: Sequence[str], types: Sequence[str], *, ranges: str | None = None
) -> dict[str, GroupScores]:
    """The scores of each of `groups`. ``ranges``: the type of question where the right range is enough."""
    right: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    frequency: dict[str, Counter[str | int]] = {}  # of a type's correct answers, by text or range
    for answer, truth, kind in zip(answers, truths, types, strict=True):
        right[kind] += same(answer, truth, ranges=kind == ranges)
        totals[kind] += 1
        plain = normalise(truth)
        number = _range(plain) if kind == ranges else None
        frequency.setdefault(kind, Counter())[plain if number is None else number] += 1
    constant = {kind: max(counts.values()) for kind, counts in frequency.items()}
    scores = {}
    for name, (kinds, mean) in groups(types).items():
        scores[name] = _group_scores(right, totals, constant, kinds)
        if mean:
            rows = [_group_scores(right, totals, constant, [kind]) for kind in kinds]
            scores[name]["accuracy"] = sum(row["accuracy"] for row in rows) / len(rows)
            scores[name]["most frequent"] = sum(row["most frequent"] for row in rows) / len(rows)
    return scores


def groups(types: Sequence[str]) -> dict[str, tuple[list[str], bool]]:
    """The rows of a table: the types in each, and whether it is the mean over types or over all their questions.

    There is a row for each type, for all questions ("overall") and for the mean of the types ("average"); if some types
    are NUMERIC, both are also given without them.
    """
    kinds = sorted(set(types))
    lines = {kind: ([kind], False) for kind in kinds} | {"overall": (kinds, False), "average": (kinds, True)}
    words = [kind for kind in kinds if kind not in NUMERIC]
    if 0 < len(words) < len(kinds):
        without = f" without {' and '.join(kind for kind in NUMERIC if kind in kinds)}"
        lines |= {f"overall{without}": (words, False), f"average{without}": (words, True)}
    return lines


def _group_scores(
    right: Mapping[str, int], totals: Mapping[str, int], constant: Mapping[str, int], kinds: list[str]
) -> GroupScores:
    """Score all questions of these types. right, constant: correct answers of the model, and of one constant answer."""
    total = sum(totals[kind] for kind in kinds)
    return {
        "questions": total,
        "accuracy": 100 * sum(right[kind] for kind in kinds) / total,
        "most frequent": 100 * sum(constant[kind] for kind in kinds) / total,
    }


def question_text(scores: Mapping[str, GroupScores]) -> str:
    width = max(map(len, scores))
    with_intervals = any("95 %" in row for row in scores.values())
    lines = [f"{'':{width}}  questions  accuracy" + "      95 % interval" * with_intervals + "  most frequent"]
    for kind, row in scores.items():
        interval = "   {:6.2f} to {:6.2f}".format(*row["95 %"]) if with_intervals else ""
        numbers = f"{row['questions']:9}  {row['accuracy']:8.2f}{interval}  {row['most frequent']:13.2f}"
        lines.append(f"{kind:{width}}  {numbers}")
    return "\n".join(lines)


def class_scores(answers: Sequence[str], truths: Sequence[str]) -> ClassScores:
    """truths: class names as words ("traffic collision"), which also define the set of classes. An answer that names
    none of them, or several, counts as UNKNOWN."""
    names = sorted(set(map(normalise, truths)))
    table = {truth: dict.fromkeys([*names, UNKNOWN], 0) for truth in names}
    for answer, truth in zip(answers, truths, strict=True):
        table[normalise(truth)][named(answer, names)] += 1
    rows = {truth: sum(row.values()) for truth, row in table.items()}
    return {
        "accuracy": 100 * sum(table[name][name] for name in names) / len(truths),
        "most frequent": 100 * max(rows.values()) / len(truths),
        "samples": len(truths),
        "recall": {name: 100 * table[name][name] / rows[name] for name in names if rows[name]},
        "confusion": table,
    }


def named(answer: str, names: list[str]) -> str:
    """The one of ``names`` (normalised) that an answer gives, or UNKNOWN."""
    answer = normalise(answer)
    whole = [name for name in names if name.replace(" ", "") == answer.replace(" ", "")]
    if whole:
        return whole[0]
    within = [name for name in names if f" {name} " in f" {answer} "]
    longest = [name for name in within if not any(name != other and name in other for other in within)]  # of "post x"
    return longest[0] if len(longest) == 1 else UNKNOWN


def class_text(scores: ClassScores) -> str:
    table = scores["confusion"]
    names = [*table, *([UNKNOWN] if any(row[UNKNOWN] for row in table.values()) else [])]
    width = max(map(len, names))
    interval = ", 95 % interval {:.2f} to {:.2f}".format(*scores["95 %"]) if "95 %" in scores else ""
    lines = [
        f"overall accuracy {scores['accuracy']:.2f} % of {scores['samples']}{interval} "
        f"(always the most frequent class: {scores['most frequent']:.2f} %)",
        "",
        f"{'is, said':{width + 4}}" + "".join(f"{number:5}" for number in range(1, len(names) + 1)),
    ]
    for number, truth in enumerate(table, start=1):
        lines.append(f"{number:3} {truth:{width}}" + "".join(f"{table[truth][name] or '.':>5}" for name in names))
    return "\n".join(lines + ([f"{len(names):3} {UNKNOWN}"] if UNKNOWN in names else []))
