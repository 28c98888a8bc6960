"""One training of the small model on pairs whose tower features are stored, and its captions of held-out pairs."""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from btcchat import BTCChat
from btcchat.checkpoint import adapter
from btcchat.checkpoint.parts import change_encoder_of, layout_of, projector_of, vision_tower_of
from btcchat.data.mixture.views import PairViews
from btcchat.data.records import Record
from btcchat.generation import GenerationOptions, generate
from btcchat.model import SeenBefore
from btcchat.processor import Processor, request
from btcchat.train.map_loss import change_map_loss
from dataset import Pair
from features import STAGES, VIEWS, WIDTHS, changed_share

LEVELS = 256
LONGEST = 40  # tokens of a caption


@dataclass(frozen=True)
class Config:
    """How a model is trained. Rates are AdamW's; they fall along a cosine after a warm-up of 5 % of the steps."""

    encoder: str = "attentive"
    layers: int = 1  # cc_n_layers, of `attentive` alone
    stages: tuple[int, ...] = (7,)  # of the tower
    epochs: int = 10
    align: int = 0  # of these epochs the first ones train encoder and projector alone
    batch: int = 24
    rate: float = 2e-4  # of the language model
    part_rate: float = 1e-3  # of encoder and projector
    lora: int = 0  # rank of an adapter that is trained in place of the language model's own weights
    views: bool = True  # mirrored and turned, words of place with them
    smoothing: float = 0.0  # label smoothing
    mask: float = 0.0  # weight of the change-map loss
    average: bool = False  # answer with the mean of the weights at the ends of the last third of the epochs
    beams: int = 1
    clues: bool = False


class Bench:
    """The parts and the pairs, loaded once a process. features: float16 (views, N, 2, L, C) of STAGES."""

    def __init__(self, tower: Path, llm: Path, pairs: Sequence[Pair], device: str):
        self.pairs, self.device = pairs, device
        self.base = load(tower, llm).to(device)
        self.features: np.ndarray | None = None
        self.masks: Tensor | None = None  # bool (N, 256, 256)
        self.share: Tensor | None = None  # float (views, N, g, g)

    def attach(self, features: np.ndarray, masks: Tensor) -> None:
        self.features, self.masks = features, masks
        self.share = changed_share(masks, self.base.vision_tower.grid)

    def seen(self, rows: Sequence[int], views: Sequence[int], config: Config) -> Tensor:
        """(P, 2, L, C) of the stages of ``config``."""
        assert self.features is not None
        chosen = torch.from_numpy(np.stack([self.features[v, r] for v, r in zip(views, rows, strict=True)]))
        parts = dict(zip(STAGES, chosen.split([WIDTHS[stage] for stage in STAGES], dim=-1), strict=True))
        wanted = torch.cat([parts[stage] for stage in config.stages], dim=-1)
        return wanted.to(self.device).float()


def load(tower: Path, llm: Path) -> BTCChat:
    """Tower and language model, joined by parts that `fresh_model` replaces. On the CPU, in float32."""
    return BTCChat.from_parts(
        vision_tower=tower,
        llm=llm,
        change_encoder={"change_encoder_type": "concat"},
        mm_vision_select_layer=-1,
        conv_version="chatml",
        image_aspect_ratio="resize",
        device="cpu",
        dtype="float32",
    )


def fresh_model(bench: Bench, config: Config, seed: int) -> BTCChat:
    """The pretrained language model, and an encoder and a projector with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    base = bench.base
    encoder: dict[str, Any] = {"change_encoder_type": config.encoder}
    if config.encoder == "attentive":
        encoder["cc_n_layers"] = config.layers
    described = replace(
        base.config, vision_tower={**base.config.vision_tower, "stages": list(config.stages)}, change_encoder=encoder
    )
    tower = vision_tower_of(described)  # for its sizes: its weights are not used
    change_encoder, projector = change_encoder_of(described, tower), projector_of(described, tower)
    layout = layout_of(described, tower, change_encoder, projector)
    model = BTCChat(
        vision_tower=tower,
        change_encoder=change_encoder,
        mm_projector=projector,
        llm=copy.deepcopy(base.llm),
        processor=Processor(described, base.tokenizer, base.image_processor, layout),
    ).to(bench.device)
    model.requires_grad_(False)
    if config.lora:
        adapter.attach(
            model.llm, r=config.lora, lora_alpha=2 * config.lora, lora_dropout=0.05,
            target_modules=adapter.linear_names(model.llm),
        )  # fmt: skip
        model.to(bench.device)
    model.label_smoothing = config.smoothing
    return model


def train(
    model: BTCChat, bench: Bench, rows: Sequence[int], config: Config, seed: int, clues: dict[int, str] | None = None
) -> dict[str, Any]:
    """Train on pairs ``rows``; -> seconds, steps, losses (of each epoch)."""
    begin = time.perf_counter()
    for part in (model.change_encoder, model.mm_projector):
        part.requires_grad_(True)
    parts = [*model.change_encoder.parameters(), *model.mm_projector.parameters()]
    words = [p for name, p in model.llm.named_parameters() if not config.lora or "lora_" in name]
    groups = [{"params": parts, "lr": config.part_rate}, {"params": words, "lr": config.rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=bench.device != "cpu")
    every = math.ceil(len(rows) / config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, every * config.epochs))
    views, losses, sums, added = PairViews(), [], None, 0
    for epoch in range(config.epochs):
        for parameter in words:
            parameter.requires_grad_(epoch >= config.align)
        model.train()
        order = np.random.default_rng((seed, epoch)).permutation(rows).tolist()
        total = torch.zeros((), device=bench.device)
        for start in range(0, len(order), config.batch):
            own = order[start : start + config.batch]
            records = [example(bench, row, (seed, epoch, row), clues) for row in own]
            if config.views:
                records = [views(one, (seed, epoch, row)) for one, row in zip(records, own, strict=True)]
            loss = _loss(model, bench, own, records, config)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*parts, *words], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        losses.append(round(float(total) / every, 4))
        if config.average and epoch >= config.epochs - math.ceil(config.epochs / 3):
            values = [p.detach().clone() for p in [*parts, *words]]
            added += 1
            sums = values if sums is None else torch._foreach_add(sums, values)
    if sums is not None:
        for parameter, value in zip([*parts, *words], sums, strict=True):
            parameter.data.copy_(value / added)
    model.requires_grad_(False).eval()
    return {"seconds": round(time.perf_counter() - begin, 1), "steps": every * config.epochs, "losses": losses}


def warm_cosine(step: int, steps: int) -> float:
    warm = max(1, math.ceil(0.05 * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _loss(model: BTCChat, bench: Bench, rows: Sequence[int], records: list[Record], config: Config) -> Tensor:
    shown = [VIEWS.index(record.view) for record in records]
    features = bench.seen(rows, shown, config)
    batch = collate(model, records, features, train=True)
    with torch.autocast(bench.device, dtype=torch.bfloat16):
        loss: Tensor = model(**batch).loss
        if config.mask and config.encoder == "attentive":
            share = torch.stack([bench.share[v, r] for v, r in zip(shown, rows, strict=True)])
            loss = loss + config.mask * change_map_loss(
                model.distances([features.flatten(0, 1)]), share.to(bench.device)
            )
    return loss


def example(bench: Bench, row: int, draw: tuple[int, ...], clues: dict[int, str] | None) -> Record:
    """A pair with one of its captions, which draw = (seed, epoch, row) chooses."""
    pair = bench.pairs[row]
    caption = pair.captions[int(np.random.default_rng(draw).integers(len(pair.captions)))]
    asked = question(bench.base, None if clues is None else clues[row])
    return replace(asked, conversations=[*asked.conversations, {"from": "gpt", "value": caption}])


def question(model: BTCChat, clue: str | None = None) -> Record:
    return request(model.config.caption_question, "pair", ["before", "after"], clue=clue)


def collate(model: BTCChat, records: list[Record], features: Tensor, *, train: bool) -> dict[str, Any]:
    """A batch whose pairs have been seen before. features: (P, 2, L, C)."""
    blank = torch.zeros(2, 3, 0, 0, dtype=torch.uint8)
    batch: dict[str, Any] = dict(model.processor.collate([model.processor(one, blank, train=train) for one in records]))
    batch["frames"] = None
    batch["encoder"] = SeenBefore([features.flatten(0, 1)])
    return batch if train else {name: value for name, value in batch.items() if name != "labels"}


@torch.no_grad()
def captions(
    model: BTCChat, bench: Bench, rows: Sequence[int], config: Config, clues: Sequence[str] | None = None
) -> list[str]:
    """What the model says of pairs ``rows``. clues: one for each."""
    size = 160 if bench.device != "cpu" else 16
    texts = []
    options = GenerationOptions(max_new_tokens=LONGEST, num_beams=config.beams)
    for start in range(0, len(rows), size):
        own = rows[start : start + size]
        records = [question(model, clues[start + i] if clues else None) for i in range(len(own))]
        batch = collate(model, records, bench.seen(own, [0] * len(own), config), train=False)
        texts += generate(model, batch, options)
    return texts


@torch.no_grad()
def distances(model: BTCChat, bench: Bench, rows: Sequence[int], config: Config) -> Tensor:
    """float (P, g, g) of pairs ``rows``, on the CPU."""
    parts = []
    for start in range(0, len(rows), 64):
        own = rows[start : start + 64]
        parts.append(model.distances([bench.seen(own, [0] * len(own), config).flatten(0, 1)]).cpu())
    return torch.cat(parts)


def map_counts(distance: Tensor, masks: Tensor) -> np.ndarray:
    """(N, 2, 256): pixels of each level of interpolated maps (N, g, g), where a mask has no change and where it has."""
    counts = np.zeros((len(masks), 2, LEVELS), dtype=np.int64)
    for number, (one, mask) in enumerate(zip(distance, masks, strict=True)):
        field = F.interpolate(one[None, None], size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
        levels = (field.clamp(0, 1) * (LEVELS - 1)).round().long()
        for value in (0, 1):
            counts[number, value] = torch.bincount(levels[mask == bool(value)], minlength=LEVELS).numpy()
    return counts


def best_level(counts: np.ndarray) -> int:
    """The level with the highest IoU of "changed where the map has at least this level"."""
    unchanged, changed = counts.sum(0)
    hits, alarms = (pixels[::-1].cumsum()[::-1] for pixels in (changed, unchanged))
    return int(np.argmax(hits / np.maximum(changed.sum() + alarms, 1)))


def map_outcomes(counts: np.ndarray, level: int) -> list[list[int]]:
    """Of each pair: hits, false alarms, misses."""
    alarms, hits = counts[:, :, level:].sum(-1).T
    return np.stack([hits, alarms, counts[:, 1].sum(-1) - hits], axis=1).tolist()
