"""Placeholders of other projects for an image or a video; here they would be learned as text."""

import re

from btcchat.errors import BTCChatError
from btcchat.media.frames import PLACEHOLDER

# <video> (LLaVA-NeXT, TEOChat), <ImageHere> (MiniGPT-4), <img> (Qwen, InternVL), <image_1>, <im_start> (LLaVA),
# <image_placeholder> (DeepSeek), <start_of_image> (Gemma), <|vision_start|> and <|image_pad|> (Qwen2), [IMG] (Pixtral)
_FOREIGN = re.compile(
    r"</?(?:image|img|im|video|vid|vi|frame)[ _-]?(?:here|placeholder|start|end|patch|pad|token|soft_token|\d+)?>"
    r"|<(?:start|end)_of_(?:image|video)>"
    r"|<\|(?:vision|image|img|video)[a-z0-9_]*\|>"
    r"|\[IMG(?:_BREAK|_END)?\]",
    re.IGNORECASE,
)


def foreign_placeholder(text: str) -> str | None:
    """The first word of ``text`` that is a placeholder of another project, such as ``"<video>"``, or None."""
    others = text.replace(PLACEHOLDER, "")
    if "<" not in others and "[" not in others:  # true for nearly every row, of which there may be a million
        return None
    return next((match[0] for match in _FOREIGN.finditer(text) if match[0] != PLACEHOLDER), None)


def stray_placeholder(text: str, *, is_answer: bool) -> str | None:
    """The first placeholder in a turn that no image can replace: a foreign one, or one in an answer."""
    return foreign_placeholder(text) or (PLACEHOLDER if is_answer and PLACEHOLDER in text else None)


def check_placeholders(text: str, turn: int, *, is_answer: bool, shows_images: bool) -> None:
    """Raise BTCChatError if a turn of a record has a placeholder that would be learned as text."""
    stray = stray_placeholder(text, is_answer=is_answer)
    if stray == PLACEHOLDER:
        raise BTCChatError(f"{PLACEHOLDER} in turn {turn}, an answer; images are shown in questions")
    if stray:
        raise BTCChatError(f"'{stray}' in turn {turn} is not a placeholder here; write {PLACEHOLDER} for an image")
    if PLACEHOLDER in text and not shows_images:
        raise BTCChatError(f"{PLACEHOLDER} in turn {turn}, but the record has no image; add its image, or remove it")
