"""Templates: how the turns of a chat become one prompt. A new one is a function that yields pieces, and a row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from btcchat.errors import BTCChatError
from btcchat.prompt.tokenise import END, IMAGE, Encoded, Mark, Piece, PromptPart, special_id, tokenise
from btcchat.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Turn:
    """One turn of a chat. ``role`` is "user" or "assistant"; ``content`` is None for an answer to be generated."""

    role: str
    content: list[PromptPart] | None


def assistant_turn(answer: str | None = None) -> Turn:
    """An answer: one given earlier in the chat or one to learn, or None for one still to be generated."""
    return Turn("assistant", None if answer is None else [answer])


@dataclass(frozen=True)
class Template:
    """How turns become one prompt. ``write(turns, system)`` yields (text or Mark, whether it is learned)."""

    write: Callable[[list[Turn], str], Iterator[Piece]]
    system: str = ""
    stop: tuple[str, ...] = ()  # strings that end an answer, besides the tokenizer's end-of-sequence token
    end: Mark = END  # special token that ends an answer
    tidy: bool = True  # strip a record's text around <image>, and put a newline after it
    always: tuple[PromptPart, ...] = ()  # tokens that are learned wherever they occur

    def with_system(self, system: str) -> "Template":
        """The template with ``system`` as its system text. Raises BTCChatError if the template has none."""
        if not self.system:
            raise BTCChatError("the model's prompt template has no system text; leave out the system message")
        return replace(self, system=system)


def _write_v1(turns: list[Turn], system: str) -> Iterator[Piece]:
    """Vicuna v1: ``system USER: question ASSISTANT: answer</s>USER: ...``, up to ``ASSISTANT:`` without an answer."""
    yield system + " ", False
    for turn in turns:
        if turn.role == "user":
            yield from ((part, False) for part in ["USER: ", *(turn.content or []), " "])
            continue
        yield "ASSISTANT:", False
        if turn.content and any(turn.content):
            yield from ((part, True) for part in [" ", *turn.content, END])


def _write_plain(turns: list[Turn], system: str) -> Iterator[Piece]:
    """LLaVA's format for alignment: placeholders, caption, newline. The question is left out."""
    question, caption = (turn.content or [] for turn in turns[:2])
    if len(turns) > 2 or IMAGE not in question:
        raise BTCChatError(
            f"template 'plain' takes one question with images and one caption, got {len(turns)} turns and "
            f"{question.count(IMAGE)} images in the first; use template 'v1'"
        )
    yield from ((part, False) for part in question if part == IMAGE)
    if any(caption):
        yield from ((part, True) for part in [*caption, "\n"])


IM_START, IM_END, EOT = Mark("<|im_start|>"), Mark("<|im_end|>"), Mark("<|eot_id|>")
NO_THOUGHT = (Mark("<think>"), "\n\n", Mark("</think>"), "\n\n")


def _write_qwen_1_5(turns: list[Turn], system: str) -> Iterator[Piece]:
    """OneVision's ChatML: ``<|im_start|>user\\nquestion<|im_end|>\\n<|im_start|>assistant\\nanswer<|im_end|>\\n``."""
    for role, content in [("system", [system]), *((turn.role, turn.content) for turn in turns)]:
        learned = role == "assistant"  # with its header, as published
        ending = [] if content is None else [*content, IM_END, "\n"]
        yield from ((part, learned) for part in [IM_START, f"{role}\n", *ending])


def _chatml_header(role: str) -> list[PromptPart]:
    return [IM_START, f"{role}\n"]


def _llama3_header(role: str) -> list[PromptPart]:
    return [Mark("<|start_header_id|>"), role, Mark("<|end_header_id|>"), "\n\n"]


def _write_headed(
    turns: list[Turn],
    system: str,
    *,
    header: Callable[[str], list[PromptPart]],
    ending: Sequence[PromptPart],
    before_answer: Sequence[PromptPart] = (),
) -> Iterator[Piece]:
    """Each turn as ``header(role)``, its stripped text and ``ending``, as published chat templates write it.

    An answer is learned together with the first part of ``ending``, the token that ends it.
    """
    turns = [*([Turn("system", [system])] if system else []), *turns]
    for turn in turns:
        is_answer = turn.role == "assistant"
        yield from ((part, False) for part in [*header(turn.role), *(before_answer if is_answer else ())])
        if turn.content is None:
            return
        content = _stripped(turn.content)
        yield from ((part, is_answer and bool(content)) for part in [*content, ending[0]])
        yield from ((part, False) for part in ending[1:])


def _stripped(content: list[PromptPart]) -> list[PromptPart]:
    """The parts of a turn, with whitespace stripped from its beginning and end."""
    parts = list(content)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        if parts and isinstance(edge := parts[end], str):
            parts[end] = strip(edge)
    return [part for part in parts if part]


TEMPLATES: Registry[Template] = Registry(
    "prompt template",
    {
        "v1": Template(
            _write_v1,
            system="A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions.",
        ),
        "plain": Template(_write_plain, stop=("\n",)),
        "qwen_1_5": Template(
            _write_qwen_1_5,
            system="You are a helpful assistant.",
            end=IM_END,
            tidy=False,
            always=(IM_START, IM_END, "\n"),  # as published, in questions too
        ),
        # Qwen2.5 and SmolLM2, whose published templates differ only in the system text
        "chatml": Template(
            partial(_write_headed, header=_chatml_header, ending=(IM_END, "\n")),
            system="You are a helpful assistant.",
            end=IM_END,
        ),
        # Qwen3 without thinking: the published template then writes an empty thought
        "qwen3": Template(
            partial(_write_headed, header=_chatml_header, ending=(IM_END, "\n"), before_answer=NO_THOUGHT),
            end=IM_END,
        ),
        "llama3": Template(partial(_write_headed, header=_llama3_header, ending=(EOT,)), end=EOT),
    },
)


def get_template(template: str | Template) -> Template:
    """The template of this name. Raises BTCChatError, which lists the choices, for an unknown name."""
    return template if isinstance(template, Template) else TEMPLATES.find(template)


def end_ids(tokenizer: "PreTrainedTokenizerBase", template: str | Template) -> list[int]:
    """The ids of the tokens that end an answer."""
    return sorted({special_id(end, tokenizer) for end in (END, get_template(template).end)})


def special_tokens(template: str | Template) -> list[str]:
    """The names of the special tokens that a template writes, besides the tokenizer's own end of sequence."""
    chat = [Turn("user", [IMAGE, "\n"]), assistant_turn("an answer")]
    marks = {part for part, _ in _pieces(chat, template) if isinstance(part, Mark)}
    return sorted(mark.text for mark in marks - {IMAGE, END})


def _pieces(turns: Sequence[Turn], template: str | Template) -> Iterator[Piece]:
    template, turns = get_template(template), list(turns)
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise BTCChatError(f"turn {number + 1} has role {turn.role}, expected {expected}: roles must alternate")
    if len(turns) % 2:
        turns.append(assistant_turn())
    if not turns:
        raise BTCChatError("the conversation has no turns; add a question")
    return template.write(turns, template.system)


def render(turns: Sequence[Turn], template: str | Template = "v1") -> str:
    """The prompt as text with ``<image>`` for placeholders, for people to read and not for tokenising."""
    return "".join(part if isinstance(part, str) else part.text for part, _ in _pieces(turns, template))


def encode(
    turns: Sequence[Turn], tokenizer: "PreTrainedTokenizerBase", template: str | Template = "v1", *, train: bool
) -> Encoded:
    """Token ids and labels of a chat. Answers are learned with the tokens that end them, and so is ``always``.

    With ``train`` the chat must end with an answer (an empty one leaves nothing to learn, as published), otherwise with
    a question. Raises BTCChatError if it does not, if roles do not alternate, or if a special token is missing.
    """
    answered = bool(turns) and turns[-1].role == "assistant" and turns[-1].content is not None
    if turns and train and not answered:
        raise BTCChatError("the conversation ends with a question; to learn from it, add the answer")
    if turns and answered and not train:
        raise BTCChatError("the conversation ends with an answer; to get another answer, add a question")
    encoded = tokenise(_pieces(turns, template), tokenizer)
    always = {_token(part, tokenizer) for part in get_template(template).always}
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    return Encoded(encoded.input_ids, [id if id in always else label for id, label in pairs])


def _token(part: PromptPart, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id of a special token, or of text that is a single token."""
    return special_id(part, tokenizer) if isinstance(part, Mark) else tokenizer(part).input_ids[-1]
