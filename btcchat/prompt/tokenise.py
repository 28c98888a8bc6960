"""Text, placeholders and special tokens -> token ids and labels. turns.py and templates.py say what a prompt is.

A tokenizer reads the name of a special or added token as the token itself, whoever wrote it. So the only such name it
ever gets is that of the `Mark` before a text; names that a user typed are split in two. Only calls that every Hugging
Face tokenizer has are used.
"""

import functools
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from btcchat.errors import BTCChatError
from btcchat.media.frames import PLACEHOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

IMAGE_TOKEN_INDEX = -200  # id of a placeholder: no row of the embedding table, replaced by a segment's features
IGNORE_INDEX = -100  # label of what is not learned


@dataclass(frozen=True)
class Mark:
    """Something in a prompt that is not text: a placeholder or a special token. ``text`` is how it is shown."""

    text: str


IMAGE = Mark(PLACEHOLDER)
END = Mark("</s>")  # end of an answer: the tokenizer's own end-of-sequence token, whatever its name there
_BREAK = Mark("")  # no token: keeps the two halves of a special token's name apart

PromptPart: TypeAlias = str | Mark
Piece: TypeAlias = tuple[PromptPart, bool]  # a part of a prompt, and whether it is learned


@dataclass(frozen=True)
class Encoded:
    """Ids (``IMAGE_TOKEN_INDEX`` at placeholders) and labels (``IGNORE_INDEX`` except at answers), of equal length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def placeholders(self) -> int:
        """Number of segments of visual tokens that this prompt needs."""
        return self.input_ids.count(IMAGE_TOKEN_INDEX)

    def merged_length(self, lengths: Sequence[int]) -> int:
        """Length in tokens once each placeholder is replaced by as many features as ``lengths`` says."""
        return len(self.input_ids) - self.placeholders + sum(lengths)


def tokenise(pieces: Iterable[Piece], tokenizer: "PreTrainedTokenizerBase") -> Encoded:
    """The pieces of a prompt as ids and labels, after the tokenizer's own beginning-of-sequence token, if any.

    As in the published code, the text between two placeholders is tokenised on its own, as if it began a text. Text
    after a special token is tokenised in that context.
    """
    ids = list(tokenizer("").input_ids)[:1]  # [bos] or []
    ids = ids if ids == [tokenizer.bos_token_id] else []
    labels = [IGNORE_INDEX] * len(ids)
    before = ""  # what comes before the next text, whose first token depends on it
    for is_text, run in groupby(_split(pieces, tokenizer), key=lambda piece: isinstance(piece[0], str)):
        if is_text:
            texts = [(text, learned) for text, learned in run if isinstance(text, str)]
            run_ids, run_labels = _tokenise_run(texts, before, tokenizer)
            ids += run_ids
            labels += run_labels
            continue
        for mark, learned in run:
            assert isinstance(mark, Mark)
            if mark == _BREAK:
                before = "\n"  # any text will do: the second half must not start a new word
                continue
            if mark == IMAGE:
                before, token = "", IMAGE_TOKEN_INDEX
            else:
                before = tokenizer.eos_token if mark == END else mark.text
                token = special_id(mark, tokenizer)
            ids.append(token)
            labels.append(token if learned and mark != IMAGE else IGNORE_INDEX)
    return Encoded(ids, labels)


def special_id(mark: Mark, tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id of a special token. Raises BTCChatError if the tokenizer does not have it."""
    if mark == END:
        end: int = tokenizer.eos_token_id
        return end
    token: int | None = tokenizer.convert_tokens_to_ids(mark.text)
    if token is None or token == tokenizer.unk_token_id:
        raise BTCChatError(
            f"the conversation template needs the special token '{mark.text}', which this tokenizer does not have; "
            "choose another template (conv_version)"
        )
    return token


def _split(pieces: Iterable[Piece], tokenizer: "PreTrainedTokenizerBase") -> Iterable[Piece]:
    """Join neighbouring text of one kind, and split the name of any token in it after its first character."""
    inside = _inside_names(frozenset(_token_names(tokenizer)))
    for (is_text, learned), group in groupby(pieces, key=lambda piece: (isinstance(piece[0], str), piece[1])):
        if not is_text:
            yield from group
            continue
        for number, text in enumerate(inside.split("".join(text for text, _ in group if isinstance(text, str)))):
            if number:
                yield _BREAK, learned
            if text:
                yield text, learned


def _token_names(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """Names of special and added tokens, except runs of blanks: some tokenizers add these as ordinary text."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()}
    return added | {str(name) for name in tokenizer.all_special_tokens}


@functools.cache
def _inside_names(names: frozenset[str]) -> re.Pattern[str]:
    """Matches the empty string after the first character of each of these names."""
    places = [f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in sorted(names) if len(name) > 1]
    return re.compile("|".join(places) or "(?!)")  # (?!) matches nowhere


def _tokenise_run(
    run: list[tuple[str, bool]], before: str, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[int], list[int]]:
    """Ids and labels of text without marks. The whole run is tokenised together, and cut where a piece ends."""

    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids) if text else []

    whole = tokens(before + "".join(text for text, _ in run))
    start = end = _shared(whole, tokens(before))
    labels: list[int] = []
    for number, (text, learned) in enumerate(run):
        before += text
        last = number == len(run) - 1
        stop = len(whole) if last else max(end, _shared(whole, tokens(before)))
        labels += whole[end:stop] if learned else [IGNORE_INDEX] * (stop - end)
        end = stop
    return whole[start:], labels


def _shared(a: list[int], b: list[int]) -> int:
    """Length of the common prefix."""
    return len(os.path.commonprefix([a, b]))


def fit(encoded: Encoded, lengths: Sequence[int], max_length: int | None, *, train: bool) -> Encoded:
    """The prompt, cut to at most ``max_length`` tokens; each placeholder counts as its ``lengths`` tokens.

    In inference, a prompt that is too long raises BTCChatError. In training its text is cut on the right, which is
    logged once; BTCChatError is raised only if a placeholder would be lost.
    """
    length = encoded.merged_length(lengths)
    if max_length is None or length <= max_length:
        return encoded
    made_of = describe_length(encoded, lengths)
    if not train:
        raise BTCChatError(
            f"the prompt is too long by {length - max_length}: {length} tokens ({made_of}), but the model takes "
            f"at most {max_length}; shorten the question or the chat, or give fewer images"
        )
    keep = max_length - sum(lengths) + len(lengths)  # ids
    if keep < 1 or IMAGE_TOKEN_INDEX in encoded.input_ids[keep:]:
        raise BTCChatError(
            f"the images do not fit: {made_of}; cutting these at {max_length} tokens would lose placeholders; "
            "raise model_max_length, or give fewer images"
        )
    _log_cut(max_length)
    return Encoded(encoded.input_ids[:keep], encoded.labels[:keep])


def describe_length(encoded: Encoded, lengths: Sequence[int]) -> str:
    """What makes up the length of a prompt, for messages."""
    each = " to ".join(map(str, sorted({min(lengths, default=0), max(lengths, default=0)})))
    text = len(encoded.input_ids) - encoded.placeholders
    return f"{len(lengths)} image segment{'s' * (len(lengths) != 1)} of {each} tokens and {text} tokens of text"


@functools.cache
def _log_cut(max_length: int) -> None:
    logger.warning("training samples longer than %d tokens are cut on the right (logged once)", max_length)
