"""From the conversation of a record to the turns of a chat: where placeholders, dates, task, clue and question are.

The first question of a sample reads, in this order (dates, task and clue are optional)::

    2010: <image>          a placeholder and a newline for each segment of visual tokens, dates in front
    2014: <image>
    [change captioning] [clue: about 4 % of the area changed] Describe the changes.

A placeholder is an object (``IMAGE``), not a string. The conversation of a record writes it as ``<image>``; in what a
person typed (``literal``) that is text, and ``</s>`` and ``<s>`` are always text.
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
ROUND = str.maketrans("[]", "()")  # inside the markers, so that what a clue says cannot end it
CAPTION_QUESTION = "Please briefly describe the changes in these two images."  # the words of a converted record
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass(frozen=True)
class Wording:
    """How one model writes its prompts. See `turns_from_record`."""

    template: str | Template = "v1"
    pair_prompt: str = ""
    caption_question: str = CAPTION_QUESTION


@dataclass(frozen=True)
class Hints:
    """What the first question says beside the question."""

    dates: Sequence[str] | None = None  # one an image
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

    Its questions may write one ``<image>`` a segment, one an image (``frames``, or as many as there are dates), a
    single one for all, or none. Where they come first, each on its own line, or there is none, all these ways read the
    same: ``segments`` placeholders, each with a newline, or, for a pair without dates, ``pair_prompt``, which has an
    ``<image>`` for each segment. Where text is between them, the placeholders are where the record writes them. In
    images and pairs the text around ``<image>`` is stripped where the template is ``tidy``, as published.

    Dates, one an image, are written before the placeholders of their image. Where there are more segments than dates (a
    series with change tokens), the first date has one and the others share the rest evenly; one segment for two dates
    (a fused pair) has both. Task and clue are in the first question. The question for a caption, in the words of the
    converters, becomes ``caption_question``.
    Raises BTCChatError where a role is unknown, the number of ``<image>`` or of dates does not fit, or a placeholder
    would be read as text: an ``<image>`` of no image, ``<video>`` and other projects' placeholders.
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
    """Raise BTCChatError where ``pair_prompt`` does not have an ``<image>`` for each segment of a pair."""
    if pair_prompt:
        _shown(pair_prompt, segments)


def _shown(pair_prompt: str, segments: int) -> list[str]:
    """The pieces of text around its placeholders."""
    pieces = pair_prompt.split(PLACEHOLDER)
    if len(pieces) - 1 != segments:
        raise BTCChatError(
            f"pair_prompt has {len(pieces) - 1} {PLACEHOLDER}, the images make {segments} segments: {pair_prompt!r}; "
            f"write {PLACEHOLDER} once for each segment, or leave the text empty (--pair_prompt '')"
        )
    return pieces


def _question(pieces: list[str], written: int, tidy: bool) -> str | None:
    """The first question where all placeholders come first, each on its own line, or there is none; else None."""
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
    """The placeholders at each ``<image>`` that a record has written."""
    if not segments:
        return iter([])
    if written == len(groups):
        return iter([_placeholders([group]) for group in groups])
    if written == segments:
        return iter([_placeholders([(date if i == 0 else "", 1)]) for date, n in groups for i in range(n)])
    if written == 1 or (written == 2 and modality == "pair"):
        return iter([_placeholders(groups), []][:written])
    ways = " or ".join(map(str, sorted({1, len(groups), segments})))
    raise BTCChatError(
        f"{written} {PLACEHOLDER} in the conversation, expected {ways} ({modality}, {segments} segments)"
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
            content += run if tidy else run[:-1]  # untidied, the record's own newline follows the last one
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
    """(date, number of placeholders) in prompt order; no date, or an empty one, is not written."""
    if not dates or not segments:
        return [("", 1)] * segments
    dates = [_one_line(date) for date in dates]
    if segments == 1 and len(dates) <= 2:
        return [(" to ".join(filter(None, dates)), 1)]
    share, rest = divmod(segments - 1, max(len(dates) - 1, 1))
    if len(dates) < 2 or rest or not share:
        raise BTCChatError(f"{len(dates)} dates or images for {segments} segments; give one date an image, or none")
    return [(date, share if i else 1) for i, date in enumerate(dates)]


def _placeholders(groups: list[tuple[str, int]]) -> list[PromptPart]:
    parts: list[PromptPart] = []
    for date, n in groups:
        parts += [f"{date}: "] if date else []
        parts += [part for _ in range(n) for part in (IMAGE, "\n")]
    return parts


def _marked(hints: Hints) -> str:
    """Task tag and clue between their markers; what is blank is not written, brackets inside become round."""
    parts = ((TASK_OPEN, hints.task, TASK_CLOSE), (CLUE_OPEN, hints.clue, CLUE_CLOSE))
    return "".join(f"{start}{_one_line(text).translate(ROUND)}{end}" for start, text, end in parts if _one_line(text))


def _one_line(text: str | None) -> str:
    return " ".join(str(text or "").split())
