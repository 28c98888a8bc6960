"""From the conversation of a record to the turns of a chat: where placeholders, dates, task, clue and question go.

The first question of a sample reads, in this order (dates, task and clue are optional)::

    2010: <image>          a placeholder and a newline for each segment of visual tokens, after its date
    2014: <image>
    [change captioning] [clue: about 4 % of the area changed] Describe the changes.

A placeholder is an object (``IMAGE``), not a string. The conversation of a record writes it as ``<image>``; in what a
person typed (``literal``) that is plain text, and ``</s>`` and ``<s>`` always are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from btcchat.errors import BTCChatError, choose
from btcchat.media.frames import PLACEHOLDER
from btcchat.media.placeholders import check_placeholders
from btcchat.prompt.templates import Template, Turn, assistant_turn, get_template
from btcchat.prompt.tokenise import IMAGE, PromptPart

TASK_OPEN, TASK_CLOSE = "[", "] "
CLUE_OPEN, CLUE_CLOSE = "[clue: ", "] "
ROUND = str.maketrans("[]", "()")  # inside the markers, so that the text of a clue cannot close it
CAPTION_QUESTION = "Please briefly describe the changes in these two images."  # what converters write
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass(frozen=True)
class Wording:
    """How one model writes its prompts. See `turns_from_record`."""

    template: str | Template = "v1"
    pair_prompt: str = ""
    caption_question: str = CAPTION_QUESTION


@dataclass(frozen=True)
class Hints:
    """What the first turn contains besides the question."""

    dates: Sequence[str] | None = None  # one per image
    task: str | None = None
    clue: str | None = None


def turns_from_record(
    conversations: Iterable[Mapping[str, str]],
    *,
    segments: int,
    modality: str,
    frames: int | None = None,
    hints: Hints = Hints(),
    wording: Wording = Wording(),
    literal: bool = False,
) -> list[Turn]:
    """Turns of a LLaVA-style conversation: ``[{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]``.

    Its questions may have one ``<image>`` per segment, one per image (``frames``, or as many as there are dates), a
    single one for all, or none. If they come first, each on its own line, or if there are none, all these ways give the
    same turns: ``segments`` placeholders, each with a newline, or, for a pair without dates, ``pair_prompt``, which has
    an ``<image>`` for each segment. If there is text between them, the placeholders stay where the record has them. In
    images and pairs, the text around ``<image>`` is stripped if the template is ``tidy``, as published.

    Dates, one per image, come before the placeholders of their image. If there are more segments than dates (a series
    with change tokens), the first date gets one and the others share the rest evenly; one segment for two dates (a
    fused pair) gets both. Task and clue go into the first question. ``CAPTION_QUESTION``, which converters write, is
    replaced by ``caption_question``.
    Raises BTCChatError if a role is unknown, if the number of ``<image>`` or of dates does not fit, or if a placeholder
    would be read as text: an ``<image>`` without an image, ``<video>``, or a placeholder of another project.
    """
    spoken = [(choose("role", message["from"], ROLES), message["value"]) for message in conversations]
    for number, (role, value) in enumerate(spoken, start=1):
        if not literal:
            check_placeholders(value, number, is_answer=role == "assistant", shows_images=segments > 0)
    if spoken and spoken[0][0] == "assistant":  # published: a greeting before the first question is dropped
        spoken = spoken[1:]
    tidy = get_template(wording.template).tidy and modality in ("image", "pair")
    texts = [value.replace(CAPTION_QUESTION, wording.caption_question) for role, value in spoken if role == "user"]
    questions = [
        [text] if literal or not segments else text.split(PLACEHOLDER) for text in texts
    ]  # between placeholders
    written = sum(len(pieces) - 1 for pieces in questions)
    groups = _groups(segments, hints.dates or ([""] * frames if frames else None))
    runs = _runs(written or 1, groups, segments, modality)
    marked = _marked(hints)
    if questions and segments and (question := _question(questions[0], written, tidy)) is not None:
        if wording.pair_prompt and modality == "pair" and not any(hints.dates or ()):
            *shown, last = _shown(wording.pair_prompt, segments)
            last += marked + (question.lstrip() if marked else question)
            questions[0], runs, marked = [*shown, last], _runs(segments, groups, segments, modality), ""
        else:
            questions[0], runs = ["", f"\n{question}"], iter([_placeholders(groups)])

    turns, remaining = [], iter(questions)
    for role, value in spoken:
        if role == "assistant":
            turns.append(assistant_turn(value))
        else:
            turns.append(Turn("user", _content(next(remaining), runs, marked, tidy)))
            marked = ""
    return turns


def check_pair_prompt(pair_prompt: str, segments: int) -> None:
    """Raise BTCChatError if ``pair_prompt`` does not have one ``<image>`` for each segment of a pair."""
    if pair_prompt:
        _shown(pair_prompt, segments)


def _shown(pair_prompt: str, segments: int) -> list[str]:
    """The pieces of text around its placeholders."""
    pieces = pair_prompt.split(PLACEHOLDER)
    if len(pieces) - 1 != segments:
        raise BTCChatError(
            f"pair_prompt has {len(pieces) - 1} {PLACEHOLDER}, expected {segments}, one for each segment of a pair: "
            f"{pair_prompt!r}; correct it, or leave it empty (--pair_prompt '')"
        )
    return pieces


def _question(pieces: list[str], written: int, tidy: bool) -> str | None:
    """The first question if all placeholders come before it, each on its own line, or there are none; else None."""
    *shown, question = pieces
    if len(shown) != written:  # others are in later questions
        return None
    if tidy:
        return None if any(map(str.strip, shown)) else question.strip()
    if not shown:
        return question
    on_lines = shown[0] == "" and all(piece == "\n" for piece in shown[1:]) and question.startswith("\n")
    return question[1:] if on_lines else None


def _runs(written: int, groups: list[tuple[str, int]], segments: int, modality: str) -> Iterator[list[PromptPart]]:
    """The placeholders to put at each ``<image>`` of a record."""
    if not segments:
        return iter([])
    if written == len(groups):
        return iter([_placeholders([group]) for group in groups])
    if written == segments:
        return iter([_placeholders([(date if i == 0 else "", 1)]) for date, n in groups for i in range(n)])
    if written == 1 or (written == 2 and modality == "pair"):
        return iter([_placeholders(groups), []][:written])
    ways = " or ".join(map(str, sorted({1, len(groups), segments})))
    made_of = f"{segments} segment{'s' * (segments != 1)}"
    raise BTCChatError(
        f"{written} {PLACEHOLDER} in the conversation, expected {ways} ({modality}, {made_of}); correct the number, or "
        f"leave out every {PLACEHOLDER}"
    )


def _content(pieces: list[str], runs: Iterator[list[PromptPart]], hints: str, tidy: bool) -> list[PromptPart]:
    """One question: its pieces of text with a run of placeholders between each two.

    The hints come before its first text.
    """
    tidy = tidy and len(pieces) > 1
    content: list[PromptPart] = []
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        if number:
            run = next(runs)
            content += run if tidy else run[:-1]  # if not tidied, the record's own newline follows the last one
        if tidy:
            piece = piece.strip() + ("" if last else " ")
        if hints and (last or piece.strip()):
            text = piece.lstrip()
            piece, hints = piece[: len(piece) - len(text)] + hints + text, ""
        content += [piece] if piece else []
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while tidy and content and isinstance(edge := content[end], str):
            content[end] = strip(edge)
            if content[end]:
                break
            del content[end]
    return content


def _groups(segments: int, dates: Sequence[str] | None) -> list[tuple[str, int]]:
    """(date, number of placeholders) in prompt order; a missing or empty date is not written."""
    if not dates or not segments:
        return [("", 1)] * segments
    dates = [_one_line(date) for date in dates]
    if segments == 1 and len(dates) <= 2:
        return [(" to ".join(filter(None, dates)), 1)]
    share, rest = divmod(segments - 1, max(len(dates) - 1, 1))
    if len(dates) < 2 or rest or not share:
        raise BTCChatError(
            f"{len(dates)} dates or images do not fit {segments} segments; give one date per image, or none"
        )
    return [(date, share if i else 1) for i, date in enumerate(dates)]


def _placeholders(groups: list[tuple[str, int]]) -> list[PromptPart]:
    parts: list[PromptPart] = []
    for date, n in groups:
        parts += [f"{date}: "] if date else []
        parts += [part for _ in range(n) for part in (IMAGE, "\n")]
    return parts


def _marked(hints: Hints) -> str:
    """Task and clue between their markers; blank ones are left out, and brackets inside become round."""
    parts = ((TASK_OPEN, hints.task, TASK_CLOSE), (CLUE_OPEN, hints.clue, CLUE_CLOSE))
    return "".join(f"{start}{_one_line(text).translate(ROUND)}{end}" for start, text, end in parts if _one_line(text))


def _one_line(text: str | None) -> str:
    return " ".join(str(text or "").split())
