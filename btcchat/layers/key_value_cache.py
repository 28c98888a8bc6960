"""Keys and values of all answers that are being written, in tensors that are allocated once.

Row r holds one answer: its prompt from column 0, then the written tokens, ``lengths[r]`` tokens in total. Rows in use
are always the first ones. Everything that depends on how transformers calls a cache is in this file.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from btcchat.compat.decoding import cache_argument
from btcchat.layers.attention_kernels import without_cudnn

COLUMNS = 64  # columns are allocated in multiples of this, so that the cache rarely grows when rows join
SPARE = 2  # a cache that grows may have this many times the cells that its rows need
LANES = 16  # numbers that torch's attention for the CPU sums in parallel


class KeyValueCache(Cache):
    """For each layer, (rows, key/value heads, columns, head dimension). Rows can join and leave."""

    is_compileable = False

    def __init__(self) -> None:
        self.layers: list[Any] = []  # transformers from 4.5x keeps its own layers here, and inspects them
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.lengths: list[int] = []  # tokens of each row in use
        self._written: list[int] = []  # columns of each row that are not empty, including prompt padding
        self._room: list[int] = []  # columns reserved for each row in use
        self._promised = 0  # columns reserved for the next rows
        self.rows = self.columns = 0  # allocated
        self.is_whole = True  # False during a step: an exception leaves some layers without their part of it
        self._before = 0  # columns before those of a forward pass
        self._count = 0  # rows of an extending pass
        self._place: tuple = ()  # where an extending pass writes; empty while prompts are read

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for ``rows`` more rows, of ``columns`` tokens each."""
        self._promised, count = columns, len(self.lengths)
        rows, columns = count + rows, -(-max([columns, *self._room]) // COLUMNS) * COLUMNS
        if not count:  # an empty cache is resized, so that one long answer does not hold memory for ever
            if (rows, columns) != (self.rows, self.columns):
                self.rows, self.columns, self.keys, self.values = rows, columns, [], []
            return
        if rows <= self.rows and columns <= self.columns:
            return
        most = max(rows, self.rows), max(columns, self.columns)
        # Many short answers at one time and a long one at another must not add up to many long ones.
        self.rows, self.columns = most if most[0] * most[1] <= SPARE * rows * columns else (rows, columns)
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                tensors[layer] = old.new_zeros(self.rows, old.shape[1], self.columns, old.shape[3])
                tensors[layer][:count, :, : old.shape[2]] = old[:count, :, : self.columns]

    def prefill(self, decoder: nn.Module, inputs_embeds: Tensor, lengths: list[int]) -> Tensor:
        """Add N rows for prompts (N, L, D), padded on the right -> the hidden state after each (N, 1, D).

        The caller has reserved room for them.
        """
        longest = inputs_embeds.shape[1]
        positions = torch.arange(longest, device=inputs_embeds.device)[None]  # (1, L)
        self._before, self._place = 0, ()
        # No mask: padding is on the right, and no token attends to it.
        hidden = self._run(decoder, inputs_embeds, None, positions)  # (N, L, D)
        self.lengths += lengths
        self._written += [longest] * len(lengths)
        self._room += [self._promised] * len(lengths)
        last = torch.tensor(lengths)[:, None, None] - 1  # (N, 1, 1)
        return hidden.take_along_dim(last.to(hidden.device, non_blocking=True), 1)

    def extend(self, decoder: nn.Module, inputs_embeds: Tensor) -> Tensor:
        """Add a token to each row in use: (n, 1, D) -> hidden states (n, 1, D)."""
        count, longest, width = len(self.lengths), max(self.lengths), max(self.lengths) + 1
        ends = torch.tensor(self.lengths, device=inputs_embeds.device)  # (n,)
        if sums_vary(inputs_embeds):
            width = -(-width // LANES) * LANES
        if min(self.lengths) == longest:
            self._place = (slice(count), slice(None), longest)
        else:
            self._place = (torch.arange(count, device=ends.device), slice(None), ends)
        mask = None
        if min(self.lengths) + 1 < width:
            mask = (torch.arange(width, device=ends.device) <= ends[:, None]).long()  # (n, width)
        self._count, self._before = count, width - 1
        hidden = self._run(decoder, inputs_embeds, mask, ends[:, None])
        self.lengths = [length + 1 for length in self.lengths]
        self._written = list(map(max, self._written, self.lengths))
        return hidden

    def remove(self, row: int) -> None:
        """Free a row; the last row moves into its place.

        The old contents are cleared: until they are overwritten they are masked, but a NaN passes through a mask.
        """
        last = len(self.lengths) - 1
        columns = max(self._written[row], self._written[last])
        for tensor in (*self.keys, *self.values):
            if row < last:
                tensor[row, :, :columns] = tensor[last, :, :columns]
            tensor[last, :, :columns] = 0
        for count in (self.lengths, self._written, self._room):
            count[row] = count[last]
            count.pop()

    # -- transformers ----------------------------------------------------------------------------------------------

    def _run(self, decoder: nn.Module, inputs_embeds: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        # Without a mask transformers uses the causal kernels, which read no mask at all.
        with without_cudnn(inputs_embeds.device):
            hidden: Tensor = decoder(
                inputs_embeds=inputs_embeds,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                **{cache_argument(decoder): self},
            )[0]
        return hidden

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *unused: Any, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each layer with its new keys and values -> those that it attends to."""
        if layer_idx == len(self.keys):
            for tensors, new in ((self.keys, key_states), (self.values, value_states)):
                # Zeros and not `empty`: see `remove`.
                tensors.append(new.new_zeros(self.rows, new.shape[1], self.columns, new.shape[3]))
        keys, values, count = self.keys[layer_idx], self.values[layer_idx], len(self.lengths)
        if not self._place:
            new_rows, columns = slice(count, count + len(key_states)), slice(key_states.shape[2])
            keys[new_rows, :, columns], values[new_rows, :, columns] = key_states, value_states
            return key_states, value_states
        keys[self._place], values[self._place] = key_states[:, :, 0], value_states[:, :, 0]
        width = self._before + 1
        return keys[: self._count, :, :width], values[: self._count, :, :width]

    def get_seq_length(self, layer_idx: int | None = 0) -> int:
        return self._before

    def get_max_length(self, layer_idx: int | None = None) -> int | None:
        return None

    def get_mask_sizes(self, query: "int | Tensor", layer_idx: int = 0) -> tuple[int, int]:
        """Number of columns attended to, and of skipped columns before them; called by transformers from 4.5x.

        query: the number of new tokens, or in 4.5x their columns.
        """
        return self._before + (query if isinstance(query, int) else len(query)), 0


def sums_vary(x: Tensor) -> bool:
    """Whether a row's answer may depend on the other rows, because sums are taken in a different order.

    In bfloat16 on a CPU the last bit decides between two words often enough to be noticed. On CPUs with AMX, oneDNN
    chooses a kernel by the number of tokens, so prompts are read one by one. Attention sums LANES columns in parallel
    and the remaining ones after them, so it gets a multiple of LANES: masked columns then only add zeros.
    """
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"
