"""Options for generating an answer. This module imports no torch: the commands build their flags from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, TypeVar

from btcchat.errors import BTCChatError

T = TypeVar("T")


def _option(default: T, help: str) -> T:
    return field(default=default, metadata={"help": help})


# name -> (type, test, the accepted values in words)
NUMBERS: dict[str, tuple[type, Callable[[Any], bool], str]] = {
    "max_new_tokens": (Integral, lambda x: x >= 1, "a whole number of at least 1"),
    # Below 0.001 the most likely token is drawn anyway; far below, the quotient overflows.
    "temperature": (Real, lambda x: x == 0 or 0.001 <= x <= 100, "0 (greedy) or a number from 0.001 to 100"),
    "top_p": (Real, lambda x: 0 < x <= 1, "a number above 0 and at most 1"),
    "repetition_penalty": (Real, lambda x: 0.01 <= x <= 100, "a number from 0.01 to 100 (1 is no penalty)"),
    "num_beams": (Integral, lambda x: 1 <= x <= 256, "a whole number from 1 to 256"),
    "seed": (Integral, lambda x: 0 <= x < 2**64, "a whole number from 0 to 2**64 - 1, or None"),
}


@dataclass(frozen=True)
class GenerationOptions:
    """Greedy unless ``temperature`` is above 0 (sampling) or ``num_beams`` is above 1 (beam search).

    Raises BTCChatError naming the field, its value and the accepted values.
    """

    max_new_tokens: int = _option(128, "longest answer, in tokens")
    temperature: float = _option(0.0, "above 0: sample; higher is more varied. 0 is greedy")
    top_p: float = _option(1.0, "sample only from the most likely tokens whose probabilities add up to this")
    repetition_penalty: float = _option(1.0, "above 1: make tokens that the answer already has less likely")
    num_beams: int = _option(1, "above 1: beam search with this many beams")
    seed: int | None = _option(None, "makes sampled answers repeatable, in any batch")
    stop: Sequence[str] = _option((), "strings that end an answer; the answer does not include them")

    def __post_init__(self) -> None:
        for name, (kind, accepts, accepted) in NUMBERS.items():
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not (isinstance(value, kind) and accepts(value)):
                raise BTCChatError(f"{name} is {value!r}; it must be {accepted}")
            plain: Callable[[Any], int | float] = int if kind is Integral else float
            object.__setattr__(self, name, plain(value))  # numpy's numbers become Python's
        strings = self.stop
        if not isinstance(strings, (tuple, list)) or not all(isinstance(text, str) and text for text in strings):
            raise BTCChatError(f"stop is {strings!r}; it must be a list of strings that are not empty, such as ['.']")
        object.__setattr__(self, "stop", tuple(strings))
        if self.num_beams > 1:
            self._check_beams()

    def _check_beams(self) -> None:
        if self.temperature > 0:
            raise BTCChatError(
                f"temperature is {self.temperature} and num_beams is {self.num_beams}; one samples and the other "
                "searches: set temperature to 0 or num_beams to 1"
            )
        for name in ("top_p", "repetition_penalty"):
            if getattr(self, name) != 1:
                raise BTCChatError(
                    f"{name} is {getattr(self, name)} and num_beams is {self.num_beams}; beam search does not use "
                    f"{name}: set {name} to 1 or num_beams to 1"
                )
