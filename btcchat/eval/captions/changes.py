"""Changed or unchanged: read from a flag of the data, or from captions that say that nothing changed."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.captions.presets import levir_cc

SAME = "the scene is the same as before"
# What says that nothing changed. The rest of such a caption must be words of FILLER, which name no thing: "no change in
# the scene", but not "no change in the scene but a road is built", nor "the road stays the same".
NO_CHANGE = re.compile(
    r"\b(?:no (?:(?:obvious|visible|significant|noticeable|apparent|clear|major|real) )?(?:change|difference)s?"
    r"|nothing (?:(?:has|have|had|is|was) )?(?:(?:been )?changed|changes|happened|new|different|differs|else)"
    r"|no part of the \w+ (?:has changed|changes|is different)"
    r"|(?:not|never)(?: been)? (?:change|changed|differ|different)|unchanged|identical|alike"
    r"|(?:the|looks|look|stays?|stayed|remains?|remained) same"
    r"|(?:as|like) (?:(?:it|they) (?:is|are|was|were|did)|before))\b"
)
_FILLER = """
a all almost an and any apart appear appears are area areas as at be been before between both by can compared
completely could date dates detected did differ differs do does earlier entire everything exactly first found from had
has have here image images in is it its just land landscape last later light lighting like location look looked looks
made major much nearly noticeable noticeably observed occurred of on only over part parts photo photos picture
pictures place places possible quite region remain remained remains scene scenes second seem seems seen show shows
significant significantly since site sites stay stayed stays still taken than that the there these this time times to
two very view views visible visibly was were whole with years
"""
FILLER = frozenset(_FILLER.split())


def says_no_change(caption: str) -> bool:
    """Whether a caption says that nothing changed: NO_CHANGE and FILLER, whatever its case and punctuation.

    An empty caption says nothing: False.
    """
    words = " ".join(re.findall(r"\w+", caption.lower().replace("n't", " not")))
    rest, matches = NO_CHANGE.subn(" ", words)
    return matches > 0 and FILLER.issuperset(rest.split())


def pair_changed(references: Iterable[str]) -> bool:
    """What most of a pair's references say; changed where they are divided."""
    unchanged = [says_no_change(text) for text in references]
    return 2 * sum(unchanged) <= len(unchanged)


def changed_rows(rows: Sequence[Prediction]) -> list[bool]:
    """By the data's flags where every row has one, else by the references."""
    flags = [row.changed for row in rows if row.changed is not None]
    return flags if len(flags) == len(rows) else [pair_changed(row.references) for row in rows]


def same_for_all(references: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The baseline that does not look: its name, and its captions, in the letters and stops of most references."""
    texts = Counter(text for row in references for text in row)
    spelt = [text for text, _ in texts.most_common() if levir_cc([text]) == [SAME]]
    return {f'"{SAME}" for all': [*spelt, SAME][:1] * len(references)}


def confusion(truth: Sequence[bool], predictions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts as ``[truth][predicted]``, both "changed" or "unchanged"."""
    names = {True: "changed", False: "unchanged"}
    table = {is_changed: dict.fromkeys(names.values(), 0) for is_changed in names.values()}
    for changed, caption in zip(truth, predictions, strict=True):
        table[names[changed]][names[not says_no_change(caption)]] += 1
    return table


def accuracy(table: Mapping[str, Mapping[str, int]]) -> float:
    """The share of a `confusion` that is right, 0 to 1."""
    right = table["changed"]["changed"] + table["unchanged"]["unchanged"]
    return right / sum(sum(row.values()) for row in table.values())
