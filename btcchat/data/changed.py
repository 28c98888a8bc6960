"""Whether a pair changed, as its data say: by its flag, by captions that say that nothing changed, and by its mask."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

DISAGREEMENT = ("keep", "drop", "stop")  # what can be done with a pair whose data disagree
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


def flag_of(row: Mapping[str, Any]) -> bool | None:
    """Whether the pair has changed, by the data: ``change_flag``, or the ``truth`` of a synthetic one."""
    truth = row.get("truth")
    flag = row.get("change_flag", truth.get("changed") if isinstance(truth, dict) else None)
    return {0: False, 1: True}.get(flag) if isinstance(flag, int) else None


def disagreement(row: Mapping[str, Any], mask_changed: bool | None = None) -> str | None:
    """How the flag, the captions and the mask of a pair contradict each other; None where they do not.

    Captions say what most of them say, and nothing where they are divided. mask_changed: whether the mask has a
    change; None where there is no mask.
    """
    if row.get("modality") != "pair":
        return None
    claims = {"change_flag": flag_of(row), "captions": _captions_say(row.get("captions")), "mask": mask_changed}
    changed, unchanged = (" and ".join(name for name in claims if claims[name] is value) for value in (True, False))
    return f"changed by its {changed}, unchanged by its {unchanged}" if changed and unchanged else None


def _captions_say(captions: object) -> bool | None:
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        return None
    unchanged = sum(map(says_no_change, captions))
    return None if 2 * unchanged == len(captions) else 2 * unchanged < len(captions)
