"""Short answers held against the true ones: questions by their type, and classes with their confusion matrix.

An answer is right where it equals the true one after `normalise`: lower case, no punctuation but the point inside a
number, underscores and hyphens as blanks, no article, number words to twelve as digits, m² as m2. In addition

- a true "yes" or "no" is answered by the first word ("No, there is none."),
- RSVQA-LR's counts and RSVQA-HR's areas are held to ranges (Lobry et al., TGRS 2020, and VQA_model/VocabEncoder.py of
  github.com/syvlo/RSVQA): 0, up to 10, 100, 1000, above,
- a class is also said by naming it, and no other one, in a sentence.
"""

import re
from collections import Counter
from collections.abc import Sequence

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
TYPES = {"comp": "comparison", "rural_urban": "rural/urban"}  # RSVQA's names -> those its papers print
NUMERIC = ("count", "area")  # left out by systems that do not answer numbers (GeoChat and those compared with it)
RANGES = {"rsvqa_lr": "count", "rsvqa_hr": "area"}  # kind of a data set -> the type of question held to ranges
IN_RANGES = {
    "count": "RSVQA-LR's counts are right in the range of the true one",
    "area": "RSVQA-HR's areas are right in the range of the true one",
}
UNKNOWN = "(no class)"
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W_\d]+(?:\d+)?|%")


def normalise(text: str) -> str:
    """See above; ``" The NVG_surface."`` -> ``"nvg surface"``."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower().replace("²", "2"))
    words = _WORD.findall(text)
    words = [word for word in words if word not in ("a", "an", "the")] or words  # "A" may be an answer
    return " ".join(str(NUMBERS.index(word)) if word in NUMBERS else word for word in words)


def same(said: str, truth: str, *, ranges: bool = False) -> bool:
    """Whether an answer is right. ranges: a number is right in the range of the true one."""
    said, truth = normalise(said), normalise(truth)
    if truth in ("yes", "no"):
        return said.split(" ")[0] == truth
    if ranges and (true_range := _range(truth)) is not None:
        return _range(said) == true_range
    return said == truth


def _range(answer: str) -> int | None:
    """Of a normalised number or area ("500 m2"): 0 none, 1 to 10, 2 to 100, 3 to 1000, 4 more. None of other words."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?: m2)?", answer)
    return sum(float(number[1]) > most for most in (0, 10, 100, 1000)) if number else None


def question_type(given: str | None, truth: str) -> str:
    """The data's own type; where it has none, that of the answer (as VQA v2 does): yes/no, number or other."""
    if given:
        return TYPES.get(given, given)
    truth = normalise(truth)
    return "yes/no" if truth in ("yes", "no") else "number" if truth.isdecimal() else "other"


def question_scores(
    said: Sequence[str], truths: Sequence[str], types: Sequence[str], *, ranges: str | None = None
) -> dict:
    """Accuracy in percent of each of `groups`. ``ranges``: the type that is held to ranges.

    ``most frequent`` is what always giving a type's most frequent answer would score, without looking.
    """
    right, asked, frequent = Counter(), Counter(), {}
    for answer, truth, kind in zip(said, truths, types, strict=True):
        right[kind] += same(answer, truth, ranges=kind == ranges)
        asked[kind] += 1
        frequent.setdefault(kind, Counter())[normalise(truth)] += 1
    if ranges in asked:
        binned = Counter()
        for answer, times in frequent[ranges].items():
            number = _range(answer)
            binned[answer if number is None else number] += times
        frequent[ranges] = binned
    most = {kind: max(counts.values()) for kind, counts in frequent.items()}
    scores = {}
    for name, (kinds, mean) in groups(types).items():
        scores[name] = _row(right, asked, most, kinds)
        if mean:
            rows = [_row(right, asked, most, [kind]) for kind in kinds]
            scores[name] |= {n: sum(row[n] for row in rows) / len(rows) for n in ("accuracy", "most frequent")}
    return scores


def groups(types: Sequence[str]) -> dict[str, tuple[list[str], bool]]:
    """The lines of a table: the types in each, and whether it is their mean or that of all their questions.

    Each type, all questions ("overall") and the mean of the types ("average"); where some types are NUMERIC, also of
    the others alone.
    """
    kinds = sorted(set(types))
    found = {kind: ([kind], False) for kind in kinds} | {"overall": (kinds, False), "average": (kinds, True)}
    words = [kind for kind in kinds if kind not in NUMERIC]
    if 0 < len(words) < len(kinds):
        without = f" without {' and '.join(kind for kind in NUMERIC if kind in kinds)}"
        found |= {f"overall{without}": (words, False), f"average{without}": (words, True)}
    return found


def _row(right, asked, most, kinds: list[str]) -> dict:
    total = sum(asked[kind] for kind in kinds)
    share = {"accuracy": right, "most frequent": most}
    return {"questions": total, **{n: 100 * sum(c[kind] for kind in kinds) / total for n, c in share.items()}}


def question_text(scores: dict) -> str:
    width = max(map(len, scores))
    sure = any("95 %" in row for row in scores.values())
    lines = [f"{'':{width}}  questions  accuracy" + "      95 % interval" * sure + "  most frequent"]
    for kind, row in scores.items():
        interval = "   {:6.2f} to {:6.2f}".format(*row["95 %"]) if sure else ""
        numbers = f"{row['questions']:9}  {row['accuracy']:8.2f}{interval}  {row['most frequent']:13.2f}"
        lines.append(f"{kind:{width}}  {numbers}")
    return "\n".join(lines)


def class_scores(said: Sequence[str], truths: Sequence[str]) -> dict:
    """Overall accuracy in percent, recall of each class, and the confusion matrix as ``[truth][said]``.

    truths: as words ("traffic collision"); the classes are those that occur in them. An answer that names none of
    them, or several, counts as UNKNOWN.
    """
    names = sorted(set(map(normalise, truths)))
    table = {truth: dict.fromkeys([*names, UNKNOWN], 0) for truth in names}
    for answer, truth in zip(said, truths, strict=True):
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
    """The one of ``names`` (normalised) that an answer says, or UNKNOWN."""
    answer = normalise(answer)
    whole = [name for name in names if name.replace(" ", "") == answer.replace(" ", "")]
    if whole:
        return whole[0]
    found = [name for name in names if f" {name} " in f" {answer} "]
    found = [name for name in found if not any(name != other and name in other for other in found)]  # "post x" has "x"
    return found[0] if len(found) == 1 else UNKNOWN


def class_text(scores: dict) -> str:
    table = scores["confusion"]
    names = [*table, *([UNKNOWN] if any(row[UNKNOWN] for row in table.values()) else [])]
    width = max(map(len, names))
    sure = ", 95 % interval {:.2f} to {:.2f}".format(*scores["95 %"]) if "95 %" in scores else ""
    lines = [
        f"overall accuracy {scores['accuracy']:.2f} % of {scores['samples']}{sure} "
        f"(always the most frequent class: {scores['most frequent']:.2f} %)",
        "",
        f"{'is, said':{width + 4}}" + "".join(f"{number:5}" for number in range(1, len(names) + 1)),
    ]
    for number, truth in enumerate(table, start=1):
        lines.append(f"{number:3} {truth:{width}}" + "".join(f"{table[truth][name] or '.':>5}" for name in names))
    return "\n".join(lines + ([f"{len(names):3} {UNKNOWN}"] if UNKNOWN in names else []))
