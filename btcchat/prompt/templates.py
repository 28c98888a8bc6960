"""Prompts: the turns of a chat, and how a template writes them. The one file that knows what stands where.

A user's turn is, in this order (dates, task and clue are optional)::

    2010: <image>          a placeholder and a newline for each segment of visual tokens, dates in front
    2014: <image>
    [change captioning] [clue: about 4 % of the area changed] Describe the changes.

A clue is the answer of another model, or of this one without its adapter, to the modality's ``CLUE_QUESTIONS``
(docs/prompt_augmentation.md).

A placeholder is an object (``IMAGE``), not a string: text that happens to read ``<image>``, ``</s>`` or ``<s>`` stays
text and never becomes a placeholder or a special token. Only a record of a data set writes placeholders as
``<image>`` (`turns_from_record`).

A new template is one function that yields its parts, and one row of ``TEMPLATES``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from btcchat.errors import BTCChatError, choose
from btcchat.prompt.tokenise import (
    END,
    IGNORE_INDEX,
    IMAGE,
    IMAGE_TOKEN_INDEX,
    Encoded,
    Mark,
    Part,
    Piece,
    fit,
    special_id,
    tokenise,
)

__all__ = [
    "CAPTION_QUESTION", "CLUE_QUESTIONS", "END", "IGNORE_INDEX", "IMAGE", "IMAGE_TOKEN_INDEX", "PROMPT_AUGMENTATION",
    "TEMPLATES", "Encoded", "Mark", "Template", "Turn", "assistant_turn", "encode", "end_ids", "fit", "get_template",
    "render", "reword",
    "turns_from_record", "user_turn",
]  # fmt: skip

TASK_OPEN, TASK_CLOSE = "[", "] "
CLUE_OPEN, CLUE_CLOSE = "[clue: ", "] "
CAPTION_QUESTION = "Please briefly describe the changes in these two images."  # the words of a converted record
ROUND = str.maketrans("[]", "()")  # inside the markers, so that what a clue says cannot end it
PROMPT_AUGMENTATION = {
    "off": "no clue is added; one that a record has of its own stands",
    "cached": "clues that btcchat augment has written",
    "online": "the clue model is asked first",
}
CLUE_QUESTIONS = {  # what a clue model is asked about the images (prompt augmentation); clues name these
    "image": "Describe this image in one or two sentences.",
    "pair": "What is different between these two images of the same place? Answer in one or two sentences.",
    "series": "These images show one place at different dates. What happened? Answer in one or two sentences.",
    "video": "What happens in this video? Answer in one or two sentences.",
}
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


@dataclass
class Turn:
    """One turn of a chat. ``role`` is "user" or "assistant"; an answer still to be written has content None."""

    role: str
    content: list[Part] | None


def user_turn(
    question: str,
    segments: int = 0,
    *,
    dates: Sequence[str] | None = None,
    task: str | None = None,
    clue: str | None = None,
    shown: str = "",
) -> Turn:
    """A question behind its ``segments`` placeholders.

    ``shown`` is text that writes the placeholders, ``<image>`` at the place of each, where they are not to stand on
    lines of their own; it does not go with dates.

    ``dates``, one an image, are written in front of the placeholders of their image. Where there are more segments
    than dates (a series with change tokens), the first date has one and the others share the rest evenly; one
    segment for two dates (a fused pair) has both. Raises BTCChatError on an empty question, or dates that do not fit.
    """
    if not question.strip():
        raise BTCChatError("the question is empty; ask something, e.g. 'What changed between the two images?'")
    placeholders = _placeholders(_groups(segments, dates))
    if shown and segments and not any(dates or ()):
        placeholders = _written(shown, segments)
    return Turn("user", [*placeholders, _hints(task, clue) + question.strip()])


def assistant_turn(answer: str | None = None) -> Turn:
    """An answer, of the chat so far or to be learned; None is one still to be written."""
    return Turn("assistant", None if answer is None else [answer])


def turns_from_record(
    conversations: Iterable[dict],
    *,
    segments: int,
    modality: str,
    frames: int | None = None,
    dates: Sequence[str] | None = None,
    task: str | None = None,
    clue: str | None = None,
    template: "str | Template" = "v1",
) -> list[Turn]:
    """Turns of a LLaVA-style record: ``[{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}, ...]``.

    Its questions may write one ``<image>`` a segment, one an image (``frames``, or as many as there are dates), a
    single one for all, or none (then they come first); at these places stand ``segments`` placeholders. In images
    and pairs the text around ``<image>`` is stripped where the template is ``tidy``, as published (FACTS G). Without
    segments ``<image>`` is text.
    Dates, task and clue are written as in `user_turn`, task and clue in the first question.
    Raises BTCChatError where a role is unknown or the number of ``<image>`` does not fit.
    """
    spoken = [(choose("role", message["from"], ROLES), message["value"]) for message in conversations]
    if spoken and spoken[0][0] == "assistant":  # published: a greeting before the first question is dropped
        spoken = spoken[1:]
    written = sum(value.count(IMAGE.text) for role, value in spoken if role == "user") if segments else 0
    if spoken and segments and not written:
        spoken[0] = ("user", f"{IMAGE.text}\n{spoken[0][1]}")
        written = 1

    runs = _runs(written, segments, modality, dates or ([""] * frames if frames else None))
    hints = _hints(task, clue)
    tidy = get_template(template).tidy and modality in ("image", "pair")
    turns = []
    for role, value in spoken:
        if role == "assistant":
            turns.append(assistant_turn(value))
        else:
            turns.append(Turn("user", _content(value.split(IMAGE.text) if segments else [value], runs, hints, tidy)))
            hints = ""
    return turns


def reword(
    conversations: Iterable[dict],
    modality: str,
    *,
    pair_prompt: str = "",
    caption_question: str = CAPTION_QUESTION,
    dates: Sequence[str] | None = None,
) -> list[dict]:
    """A record's conversation in the words of one model: as `turns_from_record` takes it.

    The question for a caption becomes ``caption_question``; the only ``<image>`` of a pair without dates, on its line
    of the first question, ``pair_prompt``, so that a sample reads as the same question does in inference.
    """
    reworded = [{**turn, "value": turn["value"].replace(CAPTION_QUESTION, caption_question)} for turn in conversations]
    written = sum(turn["value"].count(IMAGE.text) for turn in reworded)
    line = f"{IMAGE.text}\n"
    if pair_prompt and modality == "pair" and not any(dates or ()) and written <= 1:
        first = next((turn for turn in reworded if ROLES.get(turn["from"]) == "user"), None)
        if first and (not written or first["value"].startswith(line)):
            first["value"] = pair_prompt + first["value"].removeprefix(line)
    return reworded


def _runs(written: int, segments: int, modality: str, dates: Sequence[str] | None) -> Iterator[list[Part]]:
    """The placeholders that stand at each ``<image>`` a record has written."""
    groups = _groups(segments, dates)
    if written == len(groups):
        return iter([_placeholders([group]) for group in groups])
    if written == segments:
        return iter([_placeholders([(date if i == 0 else "", 1)]) for date, n in groups for i in range(n)])
    if written == 1 or (written == 2 and modality == "pair"):
        return iter([_placeholders(groups), []][:written])
    ways = " or ".join(map(str, sorted({1, len(groups), segments})))
    raise BTCChatError(f"{written} <image> in the conversation, expected {ways} ({modality}, {segments} segments)")


def _content(pieces: list[str], runs: Iterator[list[Part]], hints: str, tidy: bool) -> list[Part]:
    """One question: its pieces of text with a run of placeholders between each two."""
    tidy = tidy and len(pieces) > 1
    content: list[Part] = []
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
        content.append(piece)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while tidy and content and isinstance(content[end], str):
            content[end] = strip(content[end])
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


def _placeholders(groups: list[tuple[str, int]]) -> list[Part]:
    return [part for date, n in groups for part in ([f"{date}: "] if date else []) + [IMAGE, "\n"] * n]


def _written(shown: str, segments: int) -> list[Part]:
    """``shown`` with a placeholder for each ``<image>``."""
    first, *others = shown.split(IMAGE.text)
    if len(others) != segments:
        raise BTCChatError(f"pair_prompt has {len(others)} <image>, the images make {segments} segments: {shown!r}")
    return [part for part in [first, *(part for text in others for part in (IMAGE, text))] if part]


def _hints(task: str | None, clue: str | None) -> str:
    """Task tag and clue between their markers; what is blank is not written, brackets inside become round."""
    marked = ((TASK_OPEN, task, TASK_CLOSE), (CLUE_OPEN, clue, CLUE_CLOSE))
    return "".join(f"{start}{_one_line(text).translate(ROUND)}{end}" for start, text, end in marked if _one_line(text))


def _one_line(text: str | None) -> str:
    return " ".join(str(text or "").split())


@dataclass(frozen=True)
class Template:
    """How turns become one prompt. ``write(turns, system)`` yields (text or Mark, whether it is learned)."""

    write: Callable[[list[Turn], str], Iterator[Piece]]
    system: str = ""
    stop: tuple[str, ...] = ()  # strings that end an answer, besides the tokenizer's end-of-sequence token
    end: Mark = END  # special token that ends an answer
    tidy: bool = True  # a record's text around <image> is stripped, and a newline put behind it
    always: tuple[Part, ...] = ()  # tokens that are learned wherever they stand


def _write_v1(turns: list[Turn], system: str) -> Iterator[Piece]:
    """Vicuna v1: ``system USER: question ASSISTANT: answer</s>USER: ...``; without an answer ends at ``ASSISTANT:``."""
    yield system + " ", False
    for turn in turns:
        if turn.role == "user":
            yield from ((part, False) for part in ["USER: ", *turn.content, " "])
            continue
        yield "ASSISTANT:", False
        if any(turn.content or []):
            yield from ((part, True) for part in [" ", *turn.content, END])


def _write_plain(turns: list[Turn], system: str) -> Iterator[Piece]:
    """Alignment in LLaVA's manner: placeholders, caption, newline. The question is not written."""
    question, caption = turns[0], turns[1]
    if len(turns) > 2 or IMAGE not in question.content:
        n = question.content.count(IMAGE)
        raise BTCChatError(f"template 'plain' is one caption of images, got {len(turns)} turns, {n} images; use 'v1'")
    yield from ((part, False) for part in question.content if part == IMAGE)
    if any(caption.content or []):
        yield from ((part, True) for part in [*caption.content, "\n"])


IM_START, IM_END = Mark("<|im_start|>"), Mark("<|im_end|>")


def _write_chatml(turns: list[Turn], system: str) -> Iterator[Piece]:
    """Qwen's ChatML: ``<|im_start|>user\\nquestion<|im_end|>\\n<|im_start|>assistant\\nanswer<|im_end|>\\n``."""
    for role, content in [("system", [system]), *((turn.role, turn.content) for turn in turns)]:
        learned = role == "assistant"  # with its header, as published
        ending = [] if content is None else [*content, IM_END, "\n"]
        yield from ((part, learned) for part in [IM_START, f"{role}\n", *ending])


TEMPLATES = {
    "v1": Template(
        _write_v1,
        system="A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions.",
    ),
    "plain": Template(_write_plain, stop=("\n",)),
    "qwen_1_5": Template(
        _write_chatml,
        system="You are a helpful assistant.",
        end=IM_END,
        tidy=False,
        always=(IM_START, IM_END, "\n"),  # as published, in questions too
    ),
}


def get_template(template: str | Template) -> Template:
    """A template by its name; an unknown name is an error that lists the choices."""
    return template if isinstance(template, Template) else choose("template", template, TEMPLATES)


def end_ids(tokenizer, template: str | Template) -> list[int]:
    """The ids of the tokens that end an answer."""
    return sorted({special_id(end, tokenizer) for end in (END, get_template(template).end)})


def _pieces(turns: Sequence[Turn], template: str | Template) -> Iterator[Piece]:
    template, turns = get_template(template), list(turns)
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise BTCChatError(f"turn {number + 1} is the {turn.role}'s, expected the {expected}'s: they take turns")
    if len(turns) % 2:
        turns.append(assistant_turn())
    if not turns:
        raise BTCChatError("a conversation without turns; expected a question")
    return template.write(turns, template.system)


def render(turns: Sequence[Turn], template: str | Template = "v1") -> str:
    """The prompt as text, a placeholder as ``<image>``: to be read, not to be tokenised."""
    return "".join(part if isinstance(part, str) else part.text for part, _ in _pieces(turns, template))


def encode(turns: Sequence[Turn], tokenizer, template: str | Template = "v1", *, train: bool) -> Encoded:
    """Ids and labels of a chat. Every answer is learned, with the token that ends it; nothing else is (but ``always``).

    ``train``: the chat ends with its answer (an empty one leaves nothing to learn, as published); otherwise it ends
    where the assistant is to write. Raises BTCChatError where it does not, or the turns do not alternate.
    """
    answered = bool(turns) and turns[-1].role == "assistant" and turns[-1].content is not None
    if turns and train and not answered:
        raise BTCChatError("the conversation ends with a question; to be learned from, it needs an answer")
    if turns and answered and not train:
        raise BTCChatError("the conversation ends with an answer; to be answered, it needs a question")
    encoded = tokenise(_pieces(turns, template), tokenizer)
    always = {_token(part, tokenizer) for part in get_template(template).always}
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    return Encoded(encoded.input_ids, [id if id in always else label for id, label in pairs])


def _token(part: Part, tokenizer) -> int:
    """The id of a special token, or of a text that is one token."""
    return special_id(part, tokenizer) if isinstance(part, Mark) else tokenizer(part).input_ids[-1]
