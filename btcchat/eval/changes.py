"""Changed or unchanged: read from a flag of the data, or from captions that say that nothing changed."""

from collections.abc import Iterable, Sequence

from btcchat.eval.predictions import Row
from btcchat.eval.presets import clean

SAME = "the scene is the same as before"
# LEVIR-CC describes every unchanged pair by the first five; the others are their nearest relatives in model outputs.
NO_CHANGE = frozenset(
    {
        SAME, "there is no difference", "the two scenes seem identical", "no change has occurred",
        "almost nothing has changed", "there is no change", "there are no changes", "no changes have occurred",
        "nothing has changed", "the scene remains the same", "the two images are identical", "no change",
    }
)  # fmt: skip


def says_no_change(caption: str) -> bool:
    """True for a sentence of NO_CHANGE, whatever its case and full stop. An empty caption says nothing: False."""
    return clean(caption.lower().replace(".", "")) in NO_CHANGE


def pair_changed(references: Iterable[str]) -> bool:
    """What most of a pair's references say; changed where they are divided."""
    said = [says_no_change(text) for text in references]
    return 2 * sum(said) <= len(said)


def changed_rows(rows: list[Row]) -> list[bool]:
    """By the data's flags where every row has one, else by the references."""
    flagged = all(row.changed is not None for row in rows)
    return [row.changed if flagged else pair_changed(row.references) for row in rows]


def same_for_all(rows: int) -> dict[str, list[str]]:
    """The baseline that does not look: its name, and its captions."""
    return {f'"{SAME}" for all': [SAME] * rows}


def confusion(truth: Sequence[bool], predictions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts as ``[truth][said]``, both "changed" or "unchanged"."""
    names = {True: "changed", False: "unchanged"}
    table = {is_changed: dict.fromkeys(names.values(), 0) for is_changed in names.values()}
    for changed, caption in zip(truth, predictions, strict=True):
        table[names[changed]][names[not says_no_change(caption)]] += 1
    return table


def accuracy(table: dict[str, dict[str, int]]) -> float:
    right = table["changed"]["changed"] + table["unchanged"]["unchanged"]
    return right / sum(sum(row.values()) for row in table.values())
