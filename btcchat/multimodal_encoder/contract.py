"""Check that a vision tower fulfils protocol.py, by a small batch through the model's own or fresh ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from btcchat.contract import passes
from btcchat.contract.construct import is_ours, label
from btcchat.contract.findings import Check, Violation, enforce, run_checks
from btcchat.contract.isolation import isolated
from btcchat.contract.passes import Case
from btcchat.errors import BTCChatError

KIND = "vision tower"
IMAGES = 3
NUMBERS = {
    "hidden_size": "C, the channels of a token",
    "num_tokens": "L, the tokens of an image",
    "num_depths": "S, the selected layers",
    "grid": "patches per side",
    "resolution": "pixels per side",
}
METHODS = ("default_preprocessor_config", "resize", "gradient_checkpointing_enable")
RETURNS = "a list of S tensors (N, L, C), one for each selected layer"


def check_attributes(name: str, tower: Any) -> None:
    """Raise BTCChatError if a tower from outside the package lacks a required attribute or method."""
    if not is_ours(type(tower)):
        enforce(label(KIND, name, type(tower)), run_checks([Check("attributes", partial(_attributes, tower))]))


def check_tower(name: str, tower: nn.Module) -> None:
    """Raise BTCChatError if a tower from outside the package breaks the contract.

    The tower is the model's own, with its weights, and is not changed. Without weights (on the device meta) nothing is
    checked.
    """
    weights = next((one for one in tower.parameters() if one.is_floating_point()), torch.zeros(0))
    if is_ours(type(tower)) or weights.device.type == "meta":
        return
    modes = [(module, module.training) for module in tower.modules()]
    with isolated(str(weights.device)):
        case = _case(tower, None, weights.device)
    try:
        checks = [
            Check("forward", lambda: passes.forward([case]), needed=True),
            Check("output", lambda: _output([case]), needed=True),
            Check("finite", lambda: passes.finite([case]), needed=True),
            Check("parameters", lambda: passes.fixed_parameters([case]), needed=True),
            Check("repeat", lambda: passes.repeatable([case]), needed=True),
            Check("dtype", lambda: _follows(case, weights)),
            Check("batch", lambda: passes.one_by_one([case])),
        ]
        findings = run_checks(checks, str(weights.device))
    finally:
        for module, training in modes:
            module.training = training
    enforce(label(KIND, name, type(tower)), findings)


def tower_checks(build: Callable[[int | list[int]], Any], *, device: str = "cpu") -> list[Check]:
    """The checks of fresh towers, in order. build: makes a tower for a value of mm_vision_select_layer."""
    cases = _Cases(build)
    return [
        Check("constructor", cases.make, needed=True),
        Check(
            "attributes", lambda: "; ".join(dict.fromkeys(_attributes(tower) for tower in cases.towers)), needed=True
        ),
        Check("forward", cases.forward, needed=True),
        Check("output", lambda: _output(cases.all), needed=True),
        Check("finite", lambda: passes.finite(cases.all), needed=True),
        Check("parameters", lambda: passes.fixed_parameters(cases.all), needed=True),
        Check("repeat", lambda: passes.repeatable(cases.all), needed=True),
        Check("dtype", lambda: passes.dtype(cases.all)),
        Check("device", lambda: passes.device(cases.all, device)),
        Check("batch", lambda: passes.one_by_one(cases.all)),
        Check("save and load", lambda: passes.save_and_load(cases.all)),
    ]


@dataclass
class _Cases:
    """The tower with one selected layer, and with two if it has that many layers."""

    build: Callable[[int | list[int]], Any]
    towers: list[Any] = field(default_factory=list)
    selected: list[int | list[int]] = field(default_factory=list)
    all: list[Case] = field(default_factory=list)

    def make(self) -> str:
        choices: tuple[int | list[int], ...] = (-1, [-2, -1])
        for layers in choices:
            try:
                self.towers.append(self.build(layers))
                self.selected.append(layers)
            except BTCChatError as error:
                if not self.towers:
                    raise Violation(str(error), "an instance") from error
        return f"select_layer {' and '.join(map(str, self.selected))}"

    def forward(self) -> str:
        for tower, layers in zip(self.towers, self.selected, strict=True):
            self.all.append(_case(tower, partial(self.build, layers), torch.device("cpu")))
        return passes.forward(self.all)


def _case(tower: Any, fresh: Callable[[], nn.Module] | None, device: torch.device) -> Case:
    images = torch.randn(IMAGES, 3, tower.resolution, tower.resolution).to(device)
    where = f"{tower.resolution} pixels, {tower.num_depths} depth{'s' if tower.num_depths > 1 else ''}"
    return Case(tower, images, where, "images", RETURNS, fresh, input_dtype=torch.float32)


def _attributes(tower: Any) -> str:
    if not isinstance(tower, nn.Module):
        raise Violation(f"it is {type(tower).__name__}, not a module", "a subclass of torch.nn.Module")
    if not isinstance(getattr(tower, "config", None), dict):
        raise Violation("the attribute config is missing or not a dict", "the contents of its config.json")
    for name, meaning in NUMBERS.items():
        value = getattr(tower, name, None)
        if type(value) is not int or value < 1:
            got = f"{name} is {value!r}" if hasattr(tower, name) else f"the attribute {name} is missing"
            raise Violation(got, f"a whole number of at least 1: {meaning}")
    for name in METHODS:
        if not callable(getattr(tower, name, None)):
            raise Violation(f"the method {name} is missing", f"the methods {', '.join(METHODS)}")
    return ", ".join(f"{name} {getattr(tower, name)}" for name in NUMBERS)


def _output(cases: Sequence[Case]) -> str:
    for case in cases:
        tower: Any = case.module
        wanted = (IMAGES, tower.num_tokens, tower.hidden_size)
        expected = f"{tower.num_depths} of (N, L, C) = {wanted}: num_depths of (num_tokens, hidden_size) for each image"
        if not isinstance(case.output, (list, tuple)) or not all(isinstance(one, Tensor) for one in case.output):
            kind = passes.shape(case.output) if isinstance(case.output, Tensor) else type(case.output).__name__
            raise Violation(f"returned {kind} at {case.where}", f"a list: {expected}")
        shapes = [tuple(one.shape) for one in case.output]
        if shapes != [wanted] * tower.num_depths:
            raise Violation(f"returned {', '.join(map(str, shapes)) or 'an empty list'} at {case.where}", expected)
    return RETURNS


def _follows(case: Case, weights: Tensor) -> str:
    passes.check_dtype(case.where, case.output, weights.dtype)
    passes.check_device(case.where, case.output, weights.device)
    return "the output has the dtype and the device of the weights"
