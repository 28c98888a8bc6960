"""Check that a projector fulfils protocol.py, by small passes through fresh instances of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from btcchat.contract import passes
from btcchat.contract.construct import brief, is_ours, label, refuses
from btcchat.contract.findings import Check, Violation, enforce, run_checks
from btcchat.contract.passes import Case
from btcchat.errors import BTCChatError

KIND = "projector"
COUNTS = (16, 25)  # tokens of an even and an odd grid
WIDTHS = ((32, 48), (128, 192), (32, 32), (1024, 1024))  # (C, D), tried in turn until one works
SEGMENTS = 3
RETURNS = "a tensor (K, M, D): segments, tokens, channels of the language model"


@dataclass(frozen=True)
class Sizes:
    """C of the vision tower, D of the language model, and the numbers of tokens L that must work."""

    in_features: int
    out_features: int
    counts: tuple[int, ...] = ()


class Build(Protocol):
    """Makes an instance with fresh weights. Raises BTCChatError if the class refuses the sizes."""

    def __call__(self, *, in_features: int, out_features: int) -> Any: ...


def check_attributes(name: str, projector: Any) -> None:
    """Raise BTCChatError if a projector from outside the package lacks a required method."""
    if not is_ours(type(projector)):
        enforce(label(KIND, name, type(projector)), run_checks([Check("attributes", partial(_attributes, projector))]))


def check_projector(name: str, projector: nn.Module, build: Build, sizes: Sizes, device: str) -> None:
    """Raise BTCChatError if a projector from outside the package breaks the contract, and log warnings.

    projector: the model's own, which is not changed. sizes: those that it was built with.
    """
    if not is_ours(type(projector)):
        enforce(label(KIND, name, type(projector)), run_checks(projector_checks(build, sizes, device=device), device))


def projector_checks(
    build: Build, sizes: Sizes | None = None, *, device: str = "cpu", saved: bool = False
) -> list[Check]:
    """The checks, in order. sizes: these must work. saved: also check that saved weights give the same output."""
    cases = _Cases(build, sizes)
    small: list[Case] = cases.small
    return [
        Check("constructor", cases.make, needed=True),
        Check("attributes", lambda: _attributes(cases.module), needed=True),
        Check("num_tokens", cases.count, needed=True),
        Check("forward", lambda: passes.forward(cases.all), needed=True),
        Check("output", lambda: _output(cases.all, cases.out_features), needed=True),
        Check("finite", lambda: passes.finite(cases.all), needed=True),
        Check("parameters", lambda: passes.fixed_parameters(cases.all), needed=True),
        Check("repeat", lambda: passes.repeatable(cases.all), needed=True),
        Check("dtype", lambda: passes.dtype(small)),
        Check("device", lambda: passes.device(small, device)),
        Check("batch", lambda: passes.one_by_one(small)),
        *([Check("save and load", lambda: passes.save_and_load(small))] if saved else []),
        Check("gradients", lambda: passes.gradients(small)),  # last: it changes running statistics
    ]


@dataclass
class _Cases:
    """The projector at a small width, for a few numbers of tokens, and for those that must work."""

    build: Build
    sizes: Sizes | None
    module: Any = None
    in_features: int = 0
    out_features: int = 0
    all: list[Case] = field(default_factory=list)
    small: list[Case] = field(default_factory=list)

    def make(self) -> str:
        own = [(self.sizes.in_features, self.sizes.out_features)] if self.sizes else []
        widths = [pair for pair in WIDTHS if not own or pair < own[0]] + own
        for self.in_features, self.out_features in widths:
            try:
                self.module = self._fresh()
                with torch.no_grad():
                    self.module.eval()(torch.randn(1, COUNTS[0], self.in_features))
                break
            except Exception:  # noqa: BLE001 - whatever it is, it recurs at the last size, and is reported there
                continue
        else:
            self.in_features, self.out_features = own[0] if own else WIDTHS[0]
            try:
                self.module = self._fresh()
            except BTCChatError as error:
                raise Violation(str(error), "an instance") from error
        return f"in_features {self.in_features}, out_features {self.out_features}"

    def count(self) -> str:
        """Fill ``all`` and ``small``; numbers of tokens that the class refuses with a message are left out."""
        required = self.sizes.counts if self.sizes else ()
        refused: dict[int, str] = {}
        for count in dict.fromkeys((*COUNTS, *required)):
            try:
                declared = self.module.num_tokens(count)
            except Exception as error:
                if count not in required and isinstance(error, BTCChatError) and refuses(error):
                    refused[count] = str(error)
                    continue
                raise Violation(f"num_tokens({count}) raised {brief(error)}", "M, the tokens that come out") from error
            if type(declared) is not int or declared < 1:
                raise Violation(f"num_tokens({count}) is {declared!r}", "a whole number of at least 1: M")
            inputs = torch.randn(SEGMENTS, count, self.in_features)
            case = Case(self._fresh(), inputs, f"{count} tokens", "segments", RETURNS, self._fresh)
            self.all.append(case)
            self.small += [case] if count in COUNTS else []
        if not self.small:
            self.small += self.all
        if not self.all:
            raise Violation(next(iter(refused.values())), f"at least one of {COUNTS} tokens to be accepted")
        return ", ".join(f"{self.module.num_tokens(case.inputs.shape[1])} of {case.where}" for case in self.all)

    def _fresh(self) -> nn.Module:
        built: nn.Module = self.build(in_features=self.in_features, out_features=self.out_features)
        return built


def _attributes(projector: Any) -> str:
    if not isinstance(projector, nn.Module):
        raise Violation(f"it is {type(projector).__name__}, not a module", "a subclass of torch.nn.Module")
    if not callable(getattr(projector, "num_tokens", None)):
        got = "the method num_tokens is missing"
        if hasattr(projector, "num_tokens"):
            got = f"num_tokens is {projector.num_tokens!r}"
        raise Violation(got, "a method num_tokens(L) that returns M, the tokens that come out for L")
    return "has num_tokens"


def _output(cases: Sequence[Case], width: int) -> str:
    for case in cases:
        if not isinstance(case.output, Tensor):
            raise Violation(f"returned {type(case.output).__name__} at {case.where}", RETURNS)
        module: Any = case.module
        count = case.inputs.shape[1]
        wanted = (SEGMENTS, module.num_tokens(count), width)
        if tuple(case.output.shape) != wanted:
            got = f"returned {passes.shape(case.output)} for {passes.shape(case.inputs)}"
            raise Violation(got, f"(K, M, D) = {wanted}, where num_tokens({count}) is {wanted[1]}")
    return f"(K, M, D), as {passes.shape(cases[0].output)} for {passes.shape(cases[0].inputs)}"
