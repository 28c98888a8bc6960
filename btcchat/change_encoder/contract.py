"""Check that a change encoder fulfils protocol.py, by small passes through fresh instances of it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from btcchat.change_encoder.protocol import ChangeEncoder, MeasuresDistance, PoolsTokens
from btcchat.contract import passes
from btcchat.contract.construct import brief, is_ours, label, refuses
from btcchat.contract.findings import Check, Doubt, Violation, enforce, run_checks
from btcchat.contract.passes import Case
from btcchat.errors import BTCChatError

KIND = "change encoder"
GRIDS, DEPTHS = (4, 5), (1, 2)  # an even and an odd grid, one and several depths
WIDTHS = (32, 64, 128, 256, 512, 1024)  # of a token, tried in turn until one works
PAIRS = 3
RETURNS = "a tensor (P, V, L', C): pairs, segments, tokens, channels"


@dataclass(frozen=True)
class Sizes:
    """What a change encoder is built with: C, g and S of the vision tower."""

    hidden_size: int
    grid: int
    num_depths: int


class Build(Protocol):
    """Makes an instance with fresh weights. Raises BTCChatError if the class refuses the sizes."""

    def __call__(self, *, hidden_size: int, grid: int, num_depths: int) -> Any: ...


def check_attributes(name: str, encoder: Any) -> None:
    """Raise BTCChatError if an encoder from outside the package lacks a required attribute."""
    if not is_ours(type(encoder)):
        enforce(label(KIND, name, type(encoder)), run_checks([Check("attributes", partial(_attributes, encoder))]))


def check_encoder(name: str, encoder: nn.Module, build: Build, sizes: Sizes, device: str) -> None:
    """Raise BTCChatError if an encoder from outside the package breaks the contract, and log warnings.

    encoder: the model's own, which is not changed. sizes: those that it was built with.
    """
    if not is_ours(type(encoder)):
        enforce(label(KIND, name, type(encoder)), run_checks(encoder_checks(build, sizes, device=device), device))


def encoder_checks(
    build: Build, sizes: Sizes | None = None, *, device: str = "cpu", saved: bool = False
) -> list[Check]:
    """The checks, in order. sizes: these must work. saved: also check that saved weights give the same output."""
    cases = _Cases(build, sizes)
    small: list[Case] = cases.small
    return [
        Check("constructor", cases.make, needed=True),
        Check("attributes", lambda: _attributes(cases.all[0].module), needed=True),
        Check("forward", lambda: passes.forward(cases.all), needed=True),
        Check("output", lambda: _output(cases.all), needed=True),
        Check("segments", lambda: _segments(cases.all), needed=True),
        Check("num_tokens", lambda: _num_tokens(cases.all), needed=True),
        Check("finite", lambda: _finite(cases.all), needed=True),
        Check("parameters", lambda: passes.fixed_parameters(cases.all), needed=True),
        Check("repeat", lambda: passes.repeatable(cases.all), needed=True),
        Check("dtype", lambda: passes.dtype(small)),
        Check("device", lambda: passes.device(small, device)),
        Check("batch", lambda: passes.one_by_one(small)),
        Check("dates", lambda: _dates(small)),
        Check("distance", lambda: _distance(small)),
        *([Check("save and load", lambda: passes.save_and_load(small))] if saved else []),
        Check("gradients", lambda: passes.gradients(small)),  # last: it changes running statistics
    ]


@dataclass
class _Cases:
    """The encoder at small sizes, and once at the grid and the number of depths that must work."""

    build: Build
    sizes: Sizes | None
    all: list[Case] = field(default_factory=list)
    small: list[Case] = field(default_factory=list)

    def make(self) -> str:
        """Fill ``all`` and ``small``; sizes that the class refuses with a message are left out."""
        refused: dict[tuple[int, int], BTCChatError] = {}
        depths = sorted({*DEPTHS, *([self.sizes.num_depths] if self.sizes else [])})
        width = self._width(list(itertools.product(depths, GRIDS)))
        for count, grid in itertools.product(depths, GRIDS):
            try:
                self.small.append(self._case(Sizes(width, grid, count)))
            except BTCChatError as error:
                if not refuses(error):
                    raise Violation(f"{error}, for {_where(grid, count)}", "an instance") from error
                refused[count, grid] = error
        own = None
        if self.sizes is not None:
            try:
                own = self._case(Sizes(width, self.sizes.grid, self.sizes.num_depths))
            except BTCChatError as error:
                raise Violation(str(error), "an instance") from error
        if not self.small and own is None:
            raise Violation(
                str(next(iter(refused.values()))),
                "sizes that the class accepts: give them with --grid and --num-depths",
            )
        if own is not None and not self.small:
            self.small.append(own)
        self.all += self.small if own is None or self.small[0] is own else [*self.small, own]
        left_out = ", ".join(_where(grid, count) for count, grid in refused)
        text = f"hidden_size {width} at {passes.places(self.all)}"
        return text + (f"; refused: {left_out} ({next(iter(refused.values()))})" if refused else "")

    def _width(self, tried: list[tuple[int, int]]) -> int:
        """The smallest hidden size that works: options such as a number of heads may need a larger one."""
        last = self.sizes.hidden_size if self.sizes is not None else WIDTHS[0]
        widths = [width for width in WIDTHS if self.sizes is None or width < last]
        if self.sizes is not None:
            tried = [(self.sizes.num_depths, self.sizes.grid)]
        for width, (count, grid) in itertools.product(widths, tried):
            try:
                case = self._case(Sizes(width, grid, count))
                with torch.no_grad():
                    case.module.eval()(case.inputs[:1])
            except Exception:  # noqa: BLE001 - whatever it is, it recurs at the last size, and is reported there
                continue
            return width
        return last

    def _case(self, sizes: Sizes) -> Case:
        def fresh() -> nn.Module:
            built: nn.Module = self.build(hidden_size=sizes.hidden_size, grid=sizes.grid, num_depths=sizes.num_depths)
            return built

        features = torch.randn(PAIRS, 2, sizes.num_depths, sizes.grid**2, sizes.hidden_size)
        return Case(fresh(), features, _where(sizes.grid, sizes.num_depths), "pairs", RETURNS, fresh)


def _where(grid: int, depths: int) -> str:
    return f"grid {grid}, {depths} depth{'s' if depths > 1 else ''}"


def _attributes(encoder: Any) -> str:
    if not isinstance(encoder, nn.Module):
        raise Violation(f"it is {type(encoder).__name__}, not a module", "a subclass of torch.nn.Module")
    segments = getattr(encoder, "segments", None)
    if type(segments) is not int or segments < 1:
        got = f"segments is {segments!r}" if hasattr(encoder, "segments") else "the attribute segments is missing"
        raise Violation(got, "a whole number of at least 1: the placeholders that a pair has in the prompt")
    for method, meaning in (("num_tokens", "L' for L tokens of a date"), ("distance", "how far apart the dates are")):
        if hasattr(encoder, method) and not callable(getattr(encoder, method)):
            raise Violation(f"{method} is {getattr(encoder, method)!r}", f"a method: {meaning}")
    also = [name for name in ("num_tokens", "distance") if hasattr(encoder, name)]
    return f"segments {segments}{''.join(f', has {name}' for name in also)}"


def _expected(case: Case) -> tuple[int, ...]:
    pairs, _, _, count, width = case.inputs.shape
    return pairs, _encoder(case).segments, _declared(case, count), width


def _encoder(case: Case) -> ChangeEncoder:
    return cast(ChangeEncoder, case.module)


def _declared(case: Case, count: int) -> int:
    encoder = case.module
    try:
        declared = encoder.num_tokens(count) if isinstance(encoder, PoolsTokens) else count
    except Exception as error:
        raise Violation(f"num_tokens({count}) raised {brief(error)} at {case.where}", "a number L'") from error
    if type(declared) is not int or declared < 1:
        raise Violation(f"num_tokens({count}) is {declared!r} at {case.where}", "a whole number of at least 1: L'")
    return declared


def _returned(case: Case) -> str:
    return f"returned {passes.shape(case.output)} for {passes.shape(case.inputs)} at {case.where}"


def _output(cases: Sequence[Case]) -> str:
    for case in cases:
        if not isinstance(case.output, Tensor):
            raise Violation(f"returned {type(case.output).__name__} at {case.where}", RETURNS)
        wanted = _expected(case)
        if case.output.dim() != 4 or (case.output.shape[0], case.output.shape[3]) != (wanted[0], wanted[3]):
            raise Violation(_returned(case), f"(P, V, L', C) = {wanted}")
    return f"(P, V, L', C), as {passes.shape(cases[0].output)} for {passes.shape(cases[0].inputs)}"


def _segments(cases: Sequence[Case]) -> str:
    for case in cases:
        if case.output.shape[1] != (segments := _encoder(case).segments):
            raise Violation(_returned(case), f"{segments} as the second size: the attribute segments is {segments}")
    return f"{_encoder(cases[0]).segments}, as the attribute says"


def _num_tokens(cases: Sequence[Case]) -> str:
    for case in cases:
        count = case.inputs.shape[3]
        if case.output.shape[2] != (declared := _declared(case, count)):
            says = f"num_tokens({count}) is {declared}"
            if not isinstance(case.module, PoolsTokens):
                says = f"without a method num_tokens(L) it is L = {count}"
            raise Violation(_returned(case), f"{declared} as the third size: {says}")
    return ", ".join(f"{case.output.shape[2]} of {case.inputs.shape[3]}" for case in cases)


def _finite(cases: Sequence[Case]) -> str:
    found = passes.finite(cases)
    for case in cases:
        alike = case.inputs[:1].clone()
        alike[:, 1] = alike[:, 0]
        with torch.no_grad():
            output = passes.call(case, alike, how=", for two equal dates")
        passes.check_finite(output, f"for two equal dates at {case.where}")
    return f"{found}, not even for two equal dates"


def _dates(cases: Sequence[Case]) -> str:
    for case in cases:
        case.module.eval()
        with torch.no_grad():
            swapped = passes.call(case, case.inputs.flip(1))
        size = float(case.output.abs().max())
        if float((case.output - swapped).abs().max()) <= 1e-5 * size:
            raise Doubt(f"the output at {case.where} is the same with the dates swapped: built and removed look alike")
    return "swapped dates give a different output"


def _distance(cases: Sequence[Case]) -> str:
    for case in cases:
        encoder: Any = case.module
        if not isinstance(encoder, MeasuresDistance):
            return "none of its own: change maps use that of the tower's features"
        grid = round(case.inputs.shape[3] ** 0.5)
        wanted = f"float32 (P, g, g) = {(PAIRS, grid, grid)} in 0..1"
        try:
            with torch.no_grad():
                distance = encoder.distance(case.inputs.clone())
        except Exception as error:
            raise Violation(f"distance raised {brief(error)} at {case.where}", wanted) from error
        if not isinstance(distance, Tensor):
            raise Violation(f"distance returned {type(distance).__name__} at {case.where}", wanted)
        low, high = float(distance.min()), float(distance.max())
        right = (distance.shape, distance.dtype) == ((PAIRS, grid, grid), torch.float32)
        if not (right and low >= -1e-4 and high <= 1 + 1e-4):
            kind = str(distance.dtype).removeprefix("torch.")
            got = f"distance returned {kind} {passes.shape(distance)} in {low:.3g}..{high:.3g} at {case.where}"
            raise Violation(got, wanted)
    return "float32 (P, g, g) in 0..1"
