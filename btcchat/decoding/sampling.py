"""Choose the next token of one row from its logits."""

from collections.abc import Iterable

import torch
from torch import Tensor

from btcchat.decoding.options import GenerationOptions


def choose_token(logits: Tensor, options: GenerationOptions, written: Iterable[int], uniform: float) -> int:
    """The token that ``options`` choose from ``logits`` (vocabulary,), on the CPU.

    written: the tokens of the answer so far. Only these are penalised for repetition: most of the prompt is image
    features, which have no ids. uniform: the row's random number in [0, 1).
    """
    if options.repetition_penalty != 1:
        logits = _penalised(logits, sorted(set(written)), options.repetition_penalty)
    if options.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.double() / options.temperature).softmax(-1)
    if options.top_p < 1:
        tokens, probabilities = _nucleus(probabilities, options.top_p)
        return int(tokens[_draw(probabilities, uniform)])
    return _draw(probabilities, uniform)


def _penalised(logits: Tensor, tokens: list[int], penalty: float) -> Tensor:
    """CTRL (Keskar et al. 2019, arXiv:1909.05858, section 4.1), as in transformers: negative logits are multiplied."""
    logits, index = logits.clone(), torch.tensor(tokens, dtype=torch.long)
    seen = logits[index]
    logits[index] = torch.where(seen > 0, seen / penalty, seen * penalty)
    return logits


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The fewest most likely tokens whose probabilities reach ``top_p`` (Holtzman et al. 2020, arXiv:1904.09751)."""
    # All tokens below this add up to less than 1 - top_p, so none is in the nucleus, and few are left to sort.
    few = (probabilities >= (1 - top_p) / len(probabilities)).nonzero()[:, 0]
    ordered, order = probabilities[few].sort(descending=True, stable=True)
    inside = ordered.cumsum(0) - ordered < top_p  # the tokens before it do not reach top_p yet
    return few[order[inside]], ordered[inside]


def _draw(weights: Tensor, uniform: float) -> int:
    """The index that ``uniform`` falls on when the weights are laid end to end."""
    ends = weights.cumsum(0)
    index = int(torch.searchsorted(ends, ends[-1:] * uniform, right=True))  # right: never one of weight 0
    return min(index, len(weights) - 1)
