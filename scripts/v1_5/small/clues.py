"""Clues of the change statistics: how much of a pair changed and where, by models that have not seen its mask.

The maps come from the change encoder alone, trained with the change-map loss. The map of a training pair comes from an
encoder that was trained on other scenes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from btcchat.train.map_loss import change_map_loss
from learn import Bench, Config, distances, fresh_model, warm_cosine

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
EPOCHS, BATCH, RATE = 15, 32, 1e-3
NONE = "no changed area is found"


def make_clues(
    bench: Bench, train_rows: Sequence[int], other_rows: Sequence[int], config: Config, seed: int
) -> dict[int, str]:
    """A clue for each pair of both lists."""
    scenes = sorted({bench.pairs[row].scene for row in train_rows})
    part = {scene: number % 3 for number, scene in enumerate(np.random.default_rng(seed).permutation(scenes).tolist())}
    maps: dict[int, Tensor] = {}
    for number in range(3):
        held_out = [row for row in train_rows if part[bench.pairs[row].scene] == number]
        rest = [row for row in train_rows if part[bench.pairs[row].scene] != number]
        if held_out and rest:
            maps |= dict(zip(held_out, map_model(bench, rest, held_out, config, seed), strict=True))
    assert bench.share is not None
    known = [row for row in train_rows if row in maps]
    threshold = best_threshold(torch.stack([maps[row] for row in known]), bench.share[0, known])
    maps |= dict(zip(other_rows, map_model(bench, train_rows, other_rows, config, seed), strict=True))
    return {row: clue_of(distance > threshold) for row, distance in maps.items()}


def map_model(bench: Bench, rows: Sequence[int], asked: Sequence[int], config: Config, seed: int) -> Tensor:
    """Train an encoder of ``config`` on the masks of ``rows``; -> its maps of the pairs ``asked``."""
    assert bench.share is not None
    config = replace(config, lora=0)
    model = fresh_model(bench, config, seed)
    encoder = model.change_encoder.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=RATE)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, steps))
    random = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = random.permutation(rows).tolist()
        for start in range(0, len(order), BATCH):
            own = order[start : start + BATCH]
            views = random.integers(len(bench.share), size=len(own)).tolist() if config.views else [0] * len(own)
            share = torch.stack([bench.share[v, r] for v, r in zip(views, own, strict=True)]).to(bench.device)
            guess = model.distances([bench.seen(own, views, config).flatten(0, 1)])
            change_map_loss(guess, share).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
    model.requires_grad_(False).eval()
    return distances(model, bench, asked, config)


def best_threshold(maps: Tensor, share: Tensor) -> float:
    """Of (N, g, g) and the changed share of each patch: the threshold whose patches have the highest IoU."""
    steps = torch.linspace(0.02, 0.98, 49)
    ious = []
    for step in steps:
        picked = (maps > step).float()
        ious.append(float((picked * share).sum() / (picked + share - picked * share).sum()))
    return float(steps[int(np.argmax(ious))])


def clue_of(changed: Tensor) -> str:
    """A sentence on the changed patches, bool (g, g)."""
    percent = 100 * float(changed.float().mean())
    if percent == 0:
        return NONE
    grid = len(changed)
    cells = {
        f"{row} {column}": float(
            changed[r * grid // 3 : (r + 1) * grid // 3, c * grid // 3 : (c + 1) * grid // 3].float().sum()
        )
        for r, row in enumerate(ROWS)
        for c, column in enumerate(COLUMNS)
    }
    places = sorted(cells, key=lambda name: -cells[name])
    where = [name for name in places[:2] if cells[name] >= 0.6 * cells[places[0]]]
    return f"about {max(1, round(percent))} % of the area changed, most of it in the {' and the '.join(where)}"
