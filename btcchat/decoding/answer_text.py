"""The text of an answer while its tokens arrive: where it stops, and how much of it can already be shown."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

HALF = "\N{REPLACEMENT CHARACTER}"  # a tokenizer writes this for an incomplete character
OVERLAP = 8  # tokens decoded again for context: a tokenizer drops the space before the first token it decodes
CLEANED = 8  # characters at the end of a text that clean_up_tokenization_spaces may still change; its patterns have 4


class Detokenizer:
    """ids -> text without special tokens: ``tokenizer.decode(ids, skip_special_tokens=True)``, several times faster.

    transformers collects the special ids again for every token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.special = frozenset(tokenizer.all_special_ids)
        self.cleans: bool = tokenizer.clean_up_tokenization_spaces

    def __call__(self, ids: Sequence[int]) -> str:
        return self.clean(self.raw(ids))

    def raw(self, ids: Sequence[int]) -> str:
        plain = [id for id in ids if id not in self.special]
        skip: bool = self.tokenizer.is_fast  # a fast tokenizer does this at no cost, and knows added special tokens too
        text: str = self.tokenizer.decode(plain, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        return text

    def clean(self, raw: str) -> str:
        text: str = self.tokenizer.clean_up_tokenization(raw) if self.cleans else raw
        return text


class AnswerText:
    """The text of ``ids``, a growing list, up to the first of the ``stop`` strings."""

    def __init__(self, ids: list[int], detokenizer: Detokenizer, stop: tuple[str, ...]):
        self.ids, self.detokenizer, self.stop = ids, detokenizer, stop
        self._settled = ""  # text of ids[:_end]
        self._start = self._end = 0  # ids[_start:_end] are the context for decoding the later ones
        self._shown = 0  # characters that `read` has returned

    def whole(self) -> str:
        """The text so far."""
        return self._cut(self.detokenizer(self.ids))[0]

    def stopped(self) -> bool:
        """Whether the text contains a stop string."""
        return bool(self.stop) and self._cut(self._so_far())[1]

    def read(self, finished: bool) -> str:
        """The new text since the last call that will not change: no half character, no beginning of a stop string."""
        if finished:
            text = self.whole()
            shown, self._shown = self._shown, len(text)
            return text[shown:]
        text, stopped = self._cut(self._so_far())
        if not stopped:
            characters = text.rstrip(HALF)
            sure = len(characters) - self._beginning(characters)
            if self.detokenizer.cleans:
                sure = min(sure, len(text) - CLEANED)
            text = text[: max(sure, self._shown)]
        shown, self._shown = self._shown, len(text)
        return text[shown:]

    def _so_far(self) -> str:
        """The same as `Detokenizer` on all ids, but decodes only the last ones again."""
        raw = self.detokenizer.raw
        context = raw(self.ids[self._start : self._end])
        text = self._settled + raw(self.ids[self._start :])[len(context) :]
        if len(self.ids) - self._start > 2 * OVERLAP and not text.endswith(HALF):
            context = raw(self.ids[-OVERLAP:])
            if context.strip() and text.endswith(context):
                self._settled, self._start, self._end = text, len(self.ids) - OVERLAP, len(self.ids)
        return self.detokenizer.clean(text)

    def _cut(self, text: str) -> tuple[str, bool]:
        places = [text.index(stop) for stop in self.stop if stop in text]
        return (text[: min(places)], True) if places else (text, False)

    def _beginning(self, text: str) -> int:
        """Characters at the end of ``text`` that may be the beginning of a stop string."""
        longest = max(map(len, self.stop), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self.stop)), 0)
