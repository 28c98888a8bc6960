"""Separate learning rates for parts of the model."""

from collections.abc import Iterable

import torch

from btcchat.train.freeze import ModelPart


def own_rates(optimizer: torch.optim.Optimizer, parts: Iterable[ModelPart]) -> torch.optim.Optimizer:
    """Move the parameters of each part with its own rate to new groups with that rate; call it before the first step.

    The other options of a group are kept, so a parameter without weight decay still has none. ``part`` of a new group
    is the part's name.
    """
    groups = optimizer.param_groups
    for part in parts:
        if part.trainable and part.own_rate is not None:
            own = {id(parameter) for parameter in part.module.parameters()}
            for group in list(groups):
                moved = [p for p in group["params"] if id(p) in own]
                group["params"] = [p for p in group["params"] if id(p) not in own]
                optimizer.add_param_group(group | {"params": moved, "lr": part.own_rate, "part": part.name})
    groups[:] = [group for group in groups if group["params"]]
    return optimizer
