"""Decide whether a pair has changed, from a flag in the data or from captions that say that nothing changed."""

from collections import Counter
from collections.abc import Mapping, Sequence

from btcchat.data.changed import pair_changed, says_no_change
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.captions.presets import levir_cc

SAME = "the scene is the same as before"


def changed_rows(rows: Sequence[Prediction]) -> list[bool]:
    """Use the flags of the data if every row has one, otherwise the references."""
    flags = [row.changed for row in rows if row.changed is not None]
    return flags if len(flags) == len(rows) else [pair_changed(row.references) for row in rows]


def same_for_all(references: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The baseline that ignores the images: its name and captions, with the most common case and punctuation."""
    texts = Counter(text for row in references for text in row)
    spelt = [text for text, _ in texts.most_common() if levir_cc([text]) == [SAME]]
    return {f'"{SAME}" for all': [*spelt, SAME][:1] * len(references)}


def confusion(truth: Sequence[bool], predictions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts as ``[truth][predicted]``; both keys are "changed" or "unchanged"."""
    names = {True: "changed", False: "unchanged"}
    table = {is_changed: dict.fromkeys(names.values(), 0) for is_changed in names.values()}
    for changed, caption in zip(truth, predictions, strict=True):
        table[names[changed]][names[not says_no_change(caption)]] += 1
    return table


def accuracy(table: Mapping[str, Mapping[str, int]]) -> float:
    """The share of a `confusion` that is right, 0 to 1."""
    right = table["changed"]["changed"] + table["unchanged"]["unchanged"]
    return right / sum(sum(row.values()) for row in table.values())
