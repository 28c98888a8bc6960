"""Generate text for a batch: greedy, sampled, streamed, or with beam search.

A `Decoder` writes many answers at once, each with its own options; they join and leave between steps. Beam search is
in decoding/beam_search.py.
"""

from collections.abc import Generator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from btcchat import prompt
from btcchat.decoding.answer_text import AnswerText, Detokenizer
from btcchat.decoding.beam_search import NOT_FINITE, search
from btcchat.decoding.options import GenerationOptions
from btcchat.decoding.recorded import lend_cache
from btcchat.decoding.sampling import choose_token
from btcchat.errors import BTCChatError, wrong_type
from btcchat.layers.key_value_cache import KeyValueCache, sums_vary

if TYPE_CHECKING:
    from btcchat.model import BTCChatModel

Pieces: TypeAlias = Generator[str, None, None]  # of an answer
Options: TypeAlias = GenerationOptions | Sequence[GenerationOptions]  # one for all rows, or one per row
GREEDY = GenerationOptions()


def generate_ids(model: "BTCChatModel", batch: Mapping[str, Any], options: Options = GREEDY) -> list[list[int]]:
    """A collated batch -> the new ids of each row, including the id that ends an answer."""
    return [generation.ids for generation in _written(model, batch, options)]


def generate(model: "BTCChatModel", batch: Mapping[str, Any], options: Options = GREEDY) -> list[str]:
    """A collated batch -> the answer of each row."""
    return [generation.text.strip() for generation in _written(model, batch, options)]


def stream(model: "BTCChatModel", batch: Mapping[str, Any], options: GenerationOptions = GREEDY) -> Pieces:
    """A batch of one row -> pieces of its answer as it is written; closing the iterator stops generation."""
    if options.num_beams > 1:  # a search has its answer only at the end
        yield from generate(model, batch, options)
        return
    decoder = Decoder(model)
    [inputs_embeds] = read_prompts(model, batch)
    generation = decoder.join(inputs_embeds, options)
    while decoder.step():
        if generation.error:
            raise generation.error
        if piece := generation.read():
            yield piece


def _written(model: "BTCChatModel", batch: Mapping[str, Any], options: Options) -> list["Generation"]:
    prompts = read_prompts(model, batch)
    each = [options] * len(prompts) if isinstance(options, GenerationOptions) else options
    if not isinstance(each, Sequence) or not all(isinstance(own, GenerationOptions) for own in each):
        raise wrong_type("options", options, "GenerationOptions, or a list with one for each record")
    if len(each) != len(prompts):
        raise BTCChatError(f"got {len(each)} generation options for {len(prompts)} rows; give one, or one per row")
    decoder = Decoder(model)
    rows = [decoder.prepare(len(row), own) for row, own in zip(prompts, each, strict=True)]
    for own in dict.fromkeys(each):
        alike = [i for i, row in enumerate(rows) if row.options == own]
        if own.num_beams > 1:
            _search(model, [prompts[i] for i in alike], [rows[i] for i in alike])
        else:
            decoder.waiting += [(rows[i], prompts[i]) for i in alike]
    decoder.finish()
    for row in rows:
        if row.error:
            raise row.error
    return rows


@torch.no_grad()  # not inference_mode: weights that ZeRO-3 gathers in it could not be trained on
def read_prompts(model: "BTCChatModel", batch: Mapping[str, Any]) -> list[Tensor]:
    """The language model's input embeddings for each row, (N, D)."""
    merged = model.embed(**{name: value for name, value in batch.items() if name != "labels"})
    return [row[:length] for row, length in zip(merged.inputs_embeds, merged.lengths, strict=True)]


def _search(model: "BTCChatModel", prompts: list[Tensor], rows: list["Generation"]) -> None:
    limit = min(row.limit for row in rows)
    found = search(model, prompts, num_beams=rows[0].options.num_beams, max_new_tokens=limit)
    for row, ids in zip(rows, found, strict=True):
        row.ids += ids
        row.finish_reason = "length" if len(ids) == limit else "stop"


class Generation:
    """One answer while it is written."""

    def __init__(self, options: GenerationOptions, limit: int, text: AnswerText):
        self.options = options
        self.limit = limit  # most new tokens
        self.ids = text.ids  # one more after each step
        self.finish_reason: str | None = None  # "stop", "length", "cancelled", "error"
        self.error: BTCChatError | None = None
        # Its own generator: the same seed gives the same answer whatever else is in the batch or in other threads.
        self.random = Random(options.seed)
        self._text = text

    @property
    def text(self) -> str:
        """The answer so far, without the stop string."""
        return self._text.whole()

    def read(self) -> str:
        """The text that is new since the last call and will not change. All pieces together make `text`."""
        return self._text.read(self.finish_reason is not None)

    def cancel(self) -> None:
        """Stop writing; the decoder's next step drops this answer. Any thread may call this."""
        self.finish_reason = self.finish_reason or "cancelled"

    @property
    def is_greedy(self) -> bool:
        return self.options.temperature == 0 and self.options.repetition_penalty == 1

    def add(self, token: int, end_ids: Sequence[int]) -> None:
        """Add a new token; -1 means that the logits are not finite."""
        if token < 0:
            self.error = BTCChatError(NOT_FINITE)
            self.finish_reason = "error"
            return
        self.ids.append(token)
        if token in end_ids or self._text.stopped():
            self.finish_reason = self.finish_reason or "stop"
        elif len(self.ids) == self.limit:
            self.finish_reason = self.finish_reason or "length"


class Decoder:
    """The answers that one model is writing, one token each per step. Use it from one thread.

    An exception from the model in a step, e.g. out of memory, leaves the decoder unusable.
    """

    def __init__(self, model: "BTCChatModel"):
        self.model = model
        self.active: list[Generation] = []  # number i is row i of the cache
        self.waiting: list[tuple[Generation, Tensor]] = []  # joined since the last step, with their prompts (N, D)
        self._end_ids = prompt.end_ids(model.tokenizer, model.config.conv_version)
        self._stop = prompt.get_template(model.config.conv_version).stop
        self._detokenizer = Detokenizer(model.tokenizer)
        llm: Any = model.llm
        self._embed, self._llm, self._head = llm.get_input_embeddings(), llm.get_decoder(), llm.get_output_embeddings()
        lent = lend_cache(self, self._llm)
        self._cache = KeyValueCache() if lent is None else lent
        # ZeRO-3: a layer's weights are complete only while all processes run it, so all make the same number of passes.
        split = hasattr(self._embed.weight, "ds_id") and torch.distributed.is_initialized()
        self._in_step = split and torch.distributed.get_world_size() > 1

    def join(self, inputs_embeds: Tensor, options: GenerationOptions) -> Generation:
        """Begin an answer to a prompt (N, D). The next step reads the prompt and writes the first token.

        Raises BTCChatError if the prompt leaves no room for an answer, or for beam search.
        """
        if options.num_beams > 1:
            raise BTCChatError(f"num_beams is {options.num_beams}; a Decoder has no beam search; call generate instead")
        generation = self.prepare(len(inputs_embeds), options)
        self.waiting.append((generation, inputs_embeds))
        return generation

    def prepare(self, length: int, options: GenerationOptions) -> Generation:
        """An answer, not joined yet, to a prompt of ``length`` tokens; it is limited to the model's remaining room."""
        longest = self.model.config.model_max_length
        if length >= longest:
            raise BTCChatError(f"the prompt has {length} tokens with its images, but the model reads at most {longest}")
        text = AnswerText([], self._detokenizer, (*self._stop, *options.stop))
        return Generation(options, min(options.max_new_tokens, longest - length), text)

    @torch.no_grad()  # not inference_mode: see read_prompts
    def step(self) -> list[Generation]:
        """Add a token to every answer and return these answers; an empty list means that nothing is left to do.

        Those with a ``finish_reason`` have left. An answer whose logits are not finite gets no token and leaves with
        an ``error``; the others are not affected.
        """
        self._leave()
        self._cache.is_whole = False
        logits = [self._extend()] if self.active else []  # of (rows, vocabulary)
        if self.waiting:
            self._cache.reserve(len(self.waiting), max(len(one) + row.limit for row, one in self.waiting))
            logits += [self._prefill(group) for group in _read_together([one for _, one in self.waiting])]
            self.active += [row for row, _ in self.waiting]
            self.waiting = []
        self._cache.is_whole = True
        if not self.active:
            return []
        self._add_tokens(torch.cat(logits))
        stepped = list(self.active)
        self._leave()
        return stepped

    def finish(self) -> None:
        """Step until all answers are written, including those of other processes that share the weights."""
        while self.step():
            pass
        while self._anyone_works(False):
            first = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
            with torch.no_grad():
                self._head(self._llm(inputs_embeds=self._embed(first), use_cache=False)[0])

    def _extend(self) -> Tensor:
        self._anyone_works(True)
        tokens = torch.tensor([[row.ids[-1]] for row in self.active], device=self.model.device)
        hidden = self._cache.extend(self._llm, self._embed(tokens))  # (n, 1, D)
        logits: Tensor = self._head(hidden)[:, 0]
        return logits

    def _prefill(self, prompts: list[Tensor]) -> Tensor:
        if self._anyone_works(True):
            self._embed(torch.zeros(1, 1, dtype=torch.long, device=self.model.device))  # as other passes start
        padded = pad_sequence(prompts, batch_first=True)  # (N, longest, D)
        hidden = self._cache.prefill(self._llm, padded, [len(prompt) for prompt in prompts])  # (N, 1, D)
        logits: Tensor = self._head(hidden)[:, 0]  # only of each prompt's last token
        return logits

    def _add_tokens(self, logits: Tensor) -> None:
        """Choose the next token of each active row from logits (rows, vocabulary)."""
        highest, likeliest = logits.max(-1)  # NaN counts as the highest
        tokens = torch.where(highest.isfinite(), likeliest, -1).tolist()  # a greedy step's only wait for the device
        others = [i for i, row in enumerate(self.active) if tokens[i] >= 0 and not row.is_greedy]
        if others:  # on the CPU: on a GPU, the order in which a cumulative sum is computed can vary
            for i, own in zip(others, logits[others].float().cpu(), strict=True):
                row = self.active[i]
                tokens[i] = choose_token(own, row.options, row.ids, row.random.random())
        for row, token in zip(self.active, tokens, strict=True):
            row.add(token, self._end_ids)

    def _leave(self) -> None:
        """Remove answers that are finished or cancelled."""
        self.waiting = [(row, one) for row, one in self.waiting if row.finish_reason is None]
        for number in reversed(range(len(self.active))):
            if self.active[number].finish_reason is not None:
                self._cache.remove(number)
                self.active[number] = self.active[-1]
                self.active.pop()

    def _anyone_works(self, this_one: bool) -> bool:
        """Before a pass: whether any process that shares the weights makes one; False in a single process."""
        if not self._in_step:
            return False
        working = torch.tensor(int(this_one), device=self.model.device)
        torch.distributed.all_reduce(working)
        return bool(working)


def _read_together(prompts: list[Tensor]) -> list[list[Tensor]]:
    """Groups of prompts that are read in one pass."""
    return [[prompt] for prompt in prompts] if sums_vary(prompts[0]) else [prompts]
