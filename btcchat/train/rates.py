"""Parts of the model with a learning rate of their own."""

from collections.abc import Iterable

import torch

from btcchat.train.freeze import Part


def own_rates(optimizer: torch.optim.Optimizer, parts: Iterable[Part]) -> torch.optim.Optimizer:
    """Move the parameters of each part that has its own rate to groups of that rate; all else of a group stays.

    So a parameter that was not decayed still is not. A new group's ``part`` is the part's name. Before the first step.
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
