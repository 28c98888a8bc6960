"""Compare btcchat's training step with one that works as in the published code, on the same weights and samples.

    python benchmarks/train_step.py                  # CPU, bf16 autocast; takes a few minutes
    python benchmarks/train_step.py --device cuda

The model is random (tower about 90 M parameters, language model about 160 M); the samples are a mix of images, pairs
and videos of 8 frames. The tower is frozen and the rest is tuned, as in the joint stage of the published recipe.

published           random batches, padded to their longest sample; change encoder and projector run once per sample;
                    logits at every position, in float32
btcchat             batches of similar lengths within a token budget; change encoder and projector run once per batch;
                    logits only at labels, a few tokens at a time. In bf16, as in btcchat/train/train.py: the frozen
                    tower is a copy in bf16, and on a CPU the language model's attention is written as plain products
                    (elsewhere torch's attention, as above)
btcchat, 2nd epoch  the same with --cache_vision_features, after the first epoch: features are read from disk
btcchat, memory     as btcchat, with --gradient_checkpointing and batches of a quarter of the tokens

Each way trains once on every sample, in a process of its own, with an optimizer step every --batch-size samples (ours
accumulates its smaller batches). The learning rate is 0, so that all use the same weights, and the mean loss over all
supervised tokens must agree. Peak is the peak resident memory (on CUDA: torch's), also given minus the memory of the
model with its gradients and optimizer state. The ways alternate, --repeats times, and the fastest turn of each counts.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from btcchat.data.batches import Batching, GroupedBatches
from btcchat.eval.encoders.machine import machine, memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.language_model import build_language_model, pick_attention
from btcchat.merge import merge
from btcchat.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from btcchat.synthetic.start import Sizes, init_model, train_tokenizer
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.feature_cache import FeatureCache
from btcchat.train.frozen_tower import FrozenTower

FRAMES = {"image": 1, "pair": 2, "video": 8}
SHARES = {"image": 0.45, "pair": 0.45, "video": 0.1}
BIG = Sizes(
    resolution=224,
    patch=16,
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    llm_width=768,
    llm_layers=12,
    llm_heads=12,
    llm_hidden=3072,
    context=2048,
)
VOCABULARY = 32000


def build(sizes: Sizes, attention: str = "sdpa") -> torch.nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["a house was built in the top left corner ."] * 20, 300, Path(folder))
    encoder = {"change_encoder_type": "attentive", "cc_n_layers": 0, "cc_dropout": 0.0}
    model = init_model(tokenizer, sizes, change_encoder=encoder)
    model.llm.resize_token_embeddings(VOCABULARY)
    if attention != "sdpa":  # the same weights
        llm = build_language_model(model.llm.config.to_dict(), attn_implementation=attention)
        llm.load_state_dict(model.llm.state_dict())
        model.llm = llm
    model.requires_grad_(True)
    model.vision_tower.requires_grad_(False)
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()  # statistics of one pair and of a whole batch would give different losses
    return model


def draw_samples(model, count: int) -> list[dict]:
    """Random pixels and ids: a prompt of 60 tokens and an answer of 10 to 119, with labels only on the answer."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    samples = []
    for modality in random.choice(list(SHARES), count, p=list(SHARES.values())):
        frames, answer = FRAMES[modality], int(random.integers(10, 120))
        segments = model.layout.num_segments(modality, frames)
        text = torch.randint(3, VOCABULARY, (60 + answer,))
        ids = torch.cat([torch.full((segments,), IMAGE_TOKEN_INDEX), text])
        labels = ids.clone()
        labels[: segments + 60] = IGNORE_INDEX
        side = model.vision_tower.resolution
        pixels = torch.randint(256, (frames, 3, side, side), dtype=torch.uint8)
        samples.append({"input_ids": ids, "labels": labels, "frames": pixels, "modality": str(modality)})
    return samples


def length(model, sample: dict) -> int:
    lengths = model.layout.lengths(sample["modality"], len(sample["frames"]))
    return len(sample["input_ids"]) - len(lengths) + sum(lengths)


def published_batches(model, samples: list[dict], args: argparse.Namespace) -> list[list[int]]:
    order = np.random.default_rng(args.seed).permutation(len(samples))
    return [order[start : start + args.batch_size].tolist() for start in range(0, len(order), args.batch_size)]


def btcchat_batches(model, samples: list[dict], args: argparse.Namespace, parts: int = 1) -> list[list[int]]:
    lengths = [length(model, sample) for sample in samples]
    most = max(args.max_tokens // parts, *lengths)
    batching = Batching(4 * args.batch_size, max_tokens=most, seed=args.seed)
    return list(GroupedBatches(lengths, batching))


def published_loss(model, batch: dict, encoder: TrainingEncoder) -> torch.Tensor:
    depths = model.see(batch["frames"])
    frames, features, lengths = zip(*(depth.split(batch["frame_counts"]) for depth in depths), strict=True), [], []
    for modality, one in zip(batch["modalities"], frames, strict=True):
        one, counts = model.segments(list(one), [modality], [len(one[0])])
        features.append(one)
        lengths += counts
    embed = model.llm.get_input_embeddings()
    merged = merge(
        embed, batch["input_ids"], batch["attention_mask"], torch.cat(features), lengths, labels=batch["labels"]
    )
    hidden = model.llm.get_decoder()(
        inputs_embeds=merged.inputs_embeds,
        attention_mask=merged.attention_mask,
        position_ids=(merged.attention_mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    )[0]
    logits = model.llm.get_output_embeddings()(hidden).float()
    target = merged.labels[:, 1:].reshape(-1)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target, ignore_index=IGNORE_INDEX)


def btcchat_loss(model, batch: dict, encoder: TrainingEncoder) -> torch.Tensor:
    given = {name: value for name, value in batch.items() if name != "cached"}
    return model(**given, encoder=encoder.with_cached(batch.get("cached"))).loss


CACHED = "btcchat, 2nd epoch"
MEMORY = "btcchat, memory"
WAYS = {
    "published": (published_batches, published_loss),
    "btcchat": (btcchat_batches, btcchat_loss),
    CACHED: (btcchat_batches, btcchat_loss),
    MEMORY: (lambda model, samples, args: btcchat_batches(model, samples, args, parts=4), btcchat_loss),
}


def filled_cache(model, samples: list[dict], folder: str, encoder: TrainingEncoder) -> FeatureCache:
    """A cache on disk with the features of all frames of the samples."""
    cache, tower = FeatureCache(folder, {}), encoder.tower or model.vision_tower
    for sample in samples:
        with torch.no_grad():
            features = torch.stack(tower(model.pixel_values(sample["frames"])), dim=1)  # (T, S, L, C)
        cache.store([cache.key(frame) for frame in sample["frames"]], features)
    return cache


def measure(way: str, args: argparse.Namespace) -> dict:
    """-> seconds; peak and initial memory (MiB, or None); loss; batches."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(folder, way, args)


def measure_in(folder: str, way: str, args: argparse.Namespace) -> dict:
    device = torch.device(args.device)
    computed = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    ours = "sdpa" if device.type == "cuda" else pick_attention(args.device, computed, gradients=True)
    model = build(BIG if not args.small else Sizes(), "sdpa" if way == "published" else ours).to(device)
    samples = draw_samples(model, args.samples)
    encoder = TrainingEncoder()
    if way != "published" and args.dtype == "bf16":
        encoder.tower = FrozenTower(model.vision_tower)
    if way == CACHED:
        encoder.cache = filled_cache(model, samples, folder, encoder)
    if way == MEMORY:
        model.gradient_checkpointing_enable()
    make_batches, loss_of = WAYS[way]
    batches = make_batches(model, samples, args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)
    for parameter in model.parameters():  # gradients and optimizer state exist from the start
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    total, tokens, rest = 0.0, 0, reset_peak(device)

    def step(rows: list[int]) -> tuple[float, int]:
        read = [samples[i] if encoder.cache is None else encoder.cache.take(samples[i]) for i in rows]
        batch = model.processor.collate(read)
        batch = {name: move(value, device) for name, value in batch.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = loss_of(model, batch, encoder)
        loss.backward()
        return loss.item(), int((batch["labels"][:, 1:] >= 0).sum())

    step(batches[0][:2])  # not counted
    start, waiting = time.perf_counter(), 0
    for number, rows in enumerate(batches, start=1):
        loss, count = step(rows)
        total, tokens, waiting = total + loss * count, tokens + count, waiting + len(rows)
        if waiting >= args.batch_size or number == len(batches):
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            waiting = 0
    seconds = time.perf_counter() - start
    peak = None if rest is None else memory(device, peak=True)
    return {"seconds": seconds, "peak": peak, "rest": rest, "loss": total / tokens, "batches": len(batches)}


def move(value, device):
    return value.to(device) if isinstance(value, torch.Tensor) else value


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64, help="number of samples (default 64)")
    parser.add_argument("--batch-size", type=int, default=8, help="samples per published batch (default 8)")
    parser.add_argument(
        "--max-tokens", type=int, default=1600, help="tokens per btcchat batch, with padding (default 1600)"
    )
    parser.add_argument("--dtype", choices=("bf16", "float32"), default="bf16")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seed", type=int, default=0, help="seed of the batches (default 0)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns of each way (default 3)")
    parser.add_argument("--small", action="store_true", help="use the tiny model's sizes, to try the script")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    print(
        f"{args.samples} samples, tower frozen, {args.dtype}; {machine(torch.device(args.device))}; "
        f"torch {torch.__version__}; batches of {args.batch_size} against {args.max_tokens} tokens\n"
    )
    turns = {way: [] for way in WAYS}
    for _ in range(args.repeats):  # outermost, so that a slow phase of the machine affects all of them
        for way, found in turns.items():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found.append(pool.apply(measure, (way, args)))
    best = {way: min(found, key=lambda one: one["seconds"]) for way, found in turns.items()}
    rows = [
        [
            way,
            f"{args.samples / one['seconds']:.2f}",
            *(("-", "-") if one["peak"] is None else (f"{one['peak']:.0f}", f"{one['peak'] - one['rest']:.0f}")),
            f"{one['loss']:.4f}",
            one["batches"],
        ]
        for way, one in best.items()
    ]
    print(table(["step", "samples/s", "peak MiB", "above model MiB", "loss", "batches"], rows))
    print()
    base = best.pop("published")
    for way, ours in best.items():
        line = f"{way}: {base['seconds'] / ours['seconds']:.2f}x samples/s (goal 2.2x), "
        if base["peak"] is not None:
            above = (ours["peak"] - ours["rest"]) / (base["peak"] - base["rest"])
            line += f"{ours['peak'] / base['peak']:.2f}x peak memory (goal 0.5x; above model {above:.2f}x), "
        print(f"{line}loss differs by {abs(base['loss'] - ours['loss']):.1e} (goal 1e-3)")


if __name__ == "__main__":
    main()
