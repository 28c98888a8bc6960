"""Whether a pair changed according to its data: its flag, captions that say that nothing changed, and its mask."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

DISAGREEMENT = ("keep", "drop", "stop")  # how to handle a pair whose data disagree
# Phrases that say that nothing changed. All other words of such a caption must be in FILLER, which names no objects:
# "no change in the scene", but not "no change in the scene but a road is built", nor "the road stays the same".
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
    """Whether a caption says that nothing changed (NO_CHANGE and FILLER), ignoring case and punctuation.

    An empty caption does not: False.
    """
    words = " ".join(re.findall(r"\w+", caption.lower().replace("n't", " not")))
    rest, matches = NO_CHANGE.subn(" ", words)
    return matches > 0 and FILLER.issuperset(rest.split())


def pair_changed(references: Iterable[str]) -> bool:
    """Whether the pair changed according to most of its references; True if they are evenly divided."""
    unchanged = [says_no_change(text) for text in references]
    return 2 * sum(unchanged) <= len(unchanged)


def flag_of(row: Mapping[str, Any]) -> bool | None:
    """Whether the pair has changed according to ``change_flag``, or to the ``truth`` of a synthetic pair."""
    truth = row.get("truth")
    flag = row.get("change_flag", truth.get("changed") if isinstance(truth, dict) else None)
    return {0: False, 1: True}.get(flag) if isinstance(flag, int) else None


def disagreement(row: Mapping[str, Any], mask_changed: bool | None = None) -> str | None:
    """How the flag, the captions and the mask of a pair contradict each other; None if they do not.

    The majority of the captions counts; if they are evenly divided, they are ignored. mask_changed: whether the mask
    has a change; None without a mask.
    """
    if row.get("modality") != "pair":
        return None
    claims = {"change_flag": flag_of(row), "captions": _captions_say(row.get("captions")), "mask": mask_changed}
    changed, unchanged = (" and ".join(name for name in claims if claims[name] is value) for value in (True, False))
    return f"changed according to {changed}, unchanged according to {unchanged}" if changed and unchanged else None


def _captions_say(captions: object) -> bool | None:
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        return None
    unchanged = sum(map(says_no_change, captions))
    return None if 2 * unchanged == len(captions) else 2 * unchanged < len(captions)
