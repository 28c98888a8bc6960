"""Checks that every kind of part shares: small forward and backward passes through a module."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from btcchat.contract.construct import brief
from btcchat.contract.findings import Doubt, Violation
from btcchat.contract.one_device import MixedDevices, OneDevice

# Largest difference, as a share of the largest output, that another order of summation may make.
TOLERANCES = {torch.float32: 1e-4}
COARSE = 0.05  # in half precision


@dataclass
class Case:
    """A part at one size, and three inputs for it; the first dimension counts pairs, images or segments."""

    module: nn.Module
    inputs: Tensor
    where: str  # such as "grid 4, 1 depth"
    counted: str  # such as "pairs"
    returns: str  # what a forward returns, such as "a tensor (P, V, L', C)"
    fresh: Callable[[], nn.Module] | None = None  # another instance with weights of its own
    input_dtype: torch.dtype | None = None  # None: the dtype of the weights
    output: Any = None  # for all inputs in eval(), set by `forward`
    created: list[str] = field(default_factory=list)  # names in its state that the first pass created

    def rebuilt(self) -> nn.Module:
        assert self.fresh is not None  # the checks that rebuild a part run only where this is given
        return self.fresh()


def call(case: Case, inputs: Tensor, module: nn.Module | None = None, how: str = "") -> Any:
    """The output for ``inputs``. Raises Violation if the forward raises."""
    try:
        return (case.module if module is None else module)(inputs.clone())
    except Exception as error:
        got = f"its forward raised {brief(error)} for {shape(inputs)} at {case.where}{how}"
        raise Violation(got, case.returns) from error


def check_finite(output: Any, how: str) -> None:
    for one in tensors(output):
        wild = int((~one.isfinite()).sum())
        if wild:
            raise Violation(f"{wild} of the {one.numel()} numbers returned {how} are NaN or infinite", "finite numbers")


def tensors(output: Any) -> list[Tensor]:
    return [one for one in (output if isinstance(output, (list, tuple)) else [output]) if isinstance(one, Tensor)]


def shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def places(cases: Sequence[Case]) -> str:
    return "; ".join(case.where for case in cases)


# -- checks: each returns what it found -------------------------------------------------------------------------------


def forward(cases: Sequence[Case]) -> str:
    """A batch of one input and of three can pass; the outputs are kept for the other checks."""
    for case in cases:
        case.module.eval()
        before = {name for name, value in _state(case.module).items() if not is_lazy(value)}
        with torch.no_grad():
            call(case, case.inputs[:1])
            case.output = call(case, case.inputs)
        case.created = sorted(_state(case.module).keys() - before)
    return f"1 and 3 {cases[0].counted}"


def finite(cases: Sequence[Case]) -> str:
    for case in cases:
        check_finite(case.output, f"for {shape(case.inputs)} at {case.where}")
    return "no NaN or infinity"


def fixed_parameters(cases: Sequence[Case]) -> str:
    for case in cases:
        if case.created:
            raise Violation(
                f"the first forward created {case.created[0]} ({len(case.created)} in all)",
                "parameters and buffers to be made in the constructor: a later one is neither trained nor loaded",
            )
    count = sum(parameter.numel() for parameter in cases[0].module.parameters())
    return f"all made in the constructor: {count:,} weights at {cases[0].where}"


def repeatable(cases: Sequence[Case]) -> str:
    """A second pass gives the same output as the first."""
    for case in cases:
        with torch.no_grad():
            again = tensors(call(case, case.inputs))
        for first, second in zip(tensors(case.output), again, strict=True):
            if (difference := _difference(first, second)) > _limit(first):
                raise Violation(
                    f"two passes over the same {case.counted} differ by {difference:.2g} at {case.where}",
                    "the same output in eval(): no random numbers, no state kept from one call to the next",
                )
    return "a second pass in eval() gives the same output"


def one_by_one(cases: Sequence[Case]) -> str:
    """A batch gives the same output as its members one by one."""
    worst = 0.0
    for case in cases:
        case.module.eval()
        with torch.no_grad():
            singles = [tensors(call(case, one)) for one in case.inputs.split(1)]
        for depth, first in enumerate(tensors(case.output)):
            alone = torch.cat([single[depth] for single in singles])
            if (difference := _difference(first, alone)) > _limit(first):
                raise Violation(
                    f"3 {case.counted} in one batch differ by {difference:.2g} from the same {case.counted} one by one "
                    f"at {case.where}",
                    "each to be processed on its own in eval(): no statistics over the batch",
                )
            worst = max(worst, difference)
    precision = f", to {worst:.0e}" if worst else ""
    return f"3 {cases[0].counted} in one batch give the same output as one by one{precision}"


def gradients(cases: Sequence[Case]) -> str:
    """Every parameter that is trained gets a gradient, from one input and from three."""
    count, zero = 0, ""
    for case in cases:
        trained = {name: one for name, one in case.module.named_parameters() if one.requires_grad}
        if not trained:
            continue
        count = max(count, len(trained))
        case.module.train()
        for inputs in (case.inputs[:1], case.inputs):
            case.module.zero_grad()
            how = f", with a batch of {len(inputs)}, in training"
            _backward(case, inputs, how)
            if missing := [name for name, one in trained.items() if one.grad is None]:
                raise Violation(
                    f"the gradient of {_some(missing, trained)} is None at {case.where}{how}",
                    "each parameter to take part in every forward; requires_grad_(False) freezes one that should not",
                )
            found = {name: one.grad for name, one in trained.items() if one.grad is not None}
            if wild := [name for name, gradient in found.items() if not bool(gradient.isfinite().all())]:
                raise Violation(
                    f"the gradient of {_some(wild, trained)} is not finite at {case.where}{how}",
                    "finite numbers",
                )
        silent = [name for name, gradient in found.items() if not bool(gradient.any())]  # of three inputs
        zero = zero or (_some(silent, trained) if silent else "")
        case.module.zero_grad()
        case.module.eval()
    if zero:
        raise Doubt(f"the gradient of {zero} is zero everywhere, which is expected only if a gate starts at zero")
    if count and not _reaches_input(cases[0]):
        raise Doubt(
            f"no gradient reaches the input at {cases[0].where}: the parts before this one (a vision tower, with "
            "--tune_vision_tower True) are not trained through it"
        )
    return f"{count} parameters, all with a gradient" if count else "no parameters to train"


def dtype(cases: Sequence[Case]) -> str:
    """The output has the dtype of the weights and the input: float32, and bfloat16 in an instance of its own."""
    for case in cases:
        check_dtype(case.where, case.output, torch.float32)
        module = case.rebuilt().to(torch.bfloat16).eval()
        how = ", in bfloat16"
        with torch.no_grad():
            output = call(case, case.inputs.to(case.input_dtype or torch.bfloat16), module, how)
        check_dtype(case.where, output, torch.bfloat16)
    return "the output is float32 or bfloat16 like the weights"


def device(cases: Sequence[Case], other: str = "cpu") -> str:
    """The output is on the device of the weights and the input. other: a device to try besides the CPU."""
    for case in [cases[0], *cases[1:][-1:]]:  # the first and the last: this is the slowest check
        check_device(case.where, case.output, case.inputs.device)
        _check_one_device(case)
        if torch.device(other).type not in ("cpu", "meta"):
            inputs = case.inputs.to(other)
            with torch.no_grad():
                output = call(case, inputs, case.rebuilt().to(other).eval(), f", on {other}")
            check_device(case.where, output, inputs.device)
    return "the output is on the device of the input"


def _check_one_device(case: Case) -> None:
    """On torch's device meta, which has shapes but no numbers, a tensor made on the CPU stands out."""
    inputs = case.inputs.to("meta")
    try:
        with OneDevice(), torch.no_grad():
            output = case.rebuilt().to("meta").eval()(inputs)
    except MixedDevices as error:
        got = f"its forward makes a tensor on the CPU for an input on another device ({brief(error)}) at {case.where}"
        raise Violation(
            got, "tensors made on the device of the input, e.g. torch.arange(n, device=x.device)"
        ) from error
    except Exception:  # noqa: BLE001 - meta cannot run a forward that depends on values; on the CPU it ran
        return
    check_device(case.where, output, inputs.device)


def save_and_load(cases: Sequence[Case]) -> str:
    """Another instance gives the same output, bit for bit, with weights saved and loaded through safetensors."""
    for case in cases:
        case.module.eval()
        other = case.rebuilt()
        try:
            weights = load(save({key: value.contiguous() for key, value in case.module.state_dict().items()}))
            other.load_state_dict(weights)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise Violation(
                f"{brief(error)} at {case.where}", "a state_dict() that safetensors saves and loads"
            ) from error
        with torch.no_grad():
            first, second = (tensors(call(case, case.inputs, module)) for module in (case.module, other.eval()))
        if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            got = f"an instance with the saved weights gives a different output at {case.where}"
            raise Violation(got, "everything that the output depends on to be a parameter, a buffer or an option")
    return "the output is bit-equal after a round trip through safetensors"


# -- parts of checks ---------------------------------------------------------------------------------------------------


def _state(module: nn.Module) -> dict[str, Any]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _limit(output: Tensor) -> float:
    return TOLERANCES.get(output.dtype, COARSE) * float(output.abs().max())


def _difference(first: Tensor, second: Tensor) -> float:
    if first.shape != second.shape:
        return float("inf")
    return float((first.float() - second.float()).abs().max())


def _some(names: Sequence[str], of: dict[str, nn.Parameter]) -> str:
    return f"'{names[0]}' ({len(names)} of {len(of)} parameters)"


def _backward(case: Case, inputs: Tensor, how: str) -> None:
    output = tensors(call(case, inputs, how=how))
    loss = torch.stack([(one.float() * torch.randn(one.shape, device=one.device)).sum() for one in output]).sum()
    if not loss.requires_grad:
        return  # no gradient reaches any parameter: each of them is None
    try:
        loss.backward()
    except RuntimeError as error:
        raise Violation(f"its backward raised {brief(error)} at {case.where}{how}", "a gradient") from error


def _reaches_input(case: Case) -> bool:
    """Whether the output depends on the input differentiably."""
    inputs = case.inputs.clone().requires_grad_()
    try:
        loss = torch.stack([one.float().square().sum() for one in tensors(case.module(inputs.clone()))]).sum()
        (gradient,) = torch.autograd.grad(loss, inputs, allow_unused=True)
    except RuntimeError:  # nothing requires a gradient, or an operation does not take an input that does
        return False
    return gradient is not None and bool(gradient.any())


def check_dtype(where: str, output: Any, expected: torch.dtype) -> None:
    for one in tensors(output):
        if one.dtype != expected:
            got = f"returned {_name(one.dtype)} with weights in {_name(expected)} at {where}"
            raise Violation(got, f"{_name(expected)}: the dtype of the weights, e.g. torch.zeros(n, dtype=x.dtype)")


def check_device(where: str, output: Any, expected: torch.device) -> None:
    for one in tensors(output):
        if one.device != expected:
            got = f"returned a tensor on {one.device} for an input on {expected} at {where}"
            raise Violation(got, "the device of the input")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
