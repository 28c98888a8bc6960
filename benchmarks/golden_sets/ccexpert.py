"""Sets E and F: CCExpert's change encoder alone, and a whole published LLaVA-NeXT folder."""

from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from btcchat import BTCChat, Record, request
from btcchat.change_encoder import build_change_encoder
from btcchat.change_encoder.difference_aware import UNUSED_KEYS, sine_position
from golden_sets.checkpoint import Case, compare
from golden_sets.common import (
    CHANGE,
    EXACT,
    FEATURES,
    LANGUAGE,
    PLACE,
    Comparison,
    differing,
    distance,
    load,
    load_file,
    read_json,
)


def resampler(folder: Path) -> Iterator[Comparison]:
    """Set E: the change encoder alone, all pairs and all depths in one batch."""
    config, io = read_json(folder / "config.json"), load_file(folder / "io.safetensors")
    depths = range(config["stages"])
    features = torch.stack(
        [torch.stack([io[f"{date}.{depth}"].float() for depth in depths], dim=1) for date in "AB"], dim=1
    )  # (P, 2, S, L, C)
    options = {k: v for k, v in config["cc_expert_args"].items() if k != "embedding_dim"}
    sizes = {"hidden_size": features.shape[-1], "grid": config["grid"], "num_depths": len(depths)}
    module = build_change_encoder({"change_encoder_type": "difference_aware", **options}, **sizes)
    load(module, load_file(folder / "state_dict.safetensors"), unused=UNUSED_KEYS)

    blocks: list[tuple[Tensor, Tensor]] = []
    for layer in module.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: blocks.append(output))
    gates = []
    gate = module.ChangeAwareTokenReduce.feature_map_level_gate
    gate.register_forward_hook(lambda _module, _inputs, output: gates.append(output.sigmoid()))  # (P, S, 1)
    streams = module.streams(features)
    for number, name in enumerate(("output_A", "output_B", "output_change")):
        yield Comparison(name, distance(streams[:, number], io[name]), CHANGE)
    yield Comparison("tokens of the prompt", distance(module(features), streams[:, :2]), EXACT)
    for number, (dates, queries) in enumerate(blocks[: len(module.layers)]):
        found = {"A": dates[:, 0], "B": dates[:, 1], "change": queries}  # pairs first; the golden file has depths first
        ours = {name: x.unflatten(0, (-1, len(depths))).transpose(0, 1).flatten(0, 1) for name, x in found.items()}
        error = max(distance(x, io[f"block{number}.{name}"]) for name, x in ours.items())
        yield Comparison(f"block {number}", error, CHANGE)
    yield Comparison("gates", distance(gates[0].transpose(0, 1), io["gates"]), FEATURES)
    position = sine_position(config["grid"], features.shape[-1])  # (L, C)
    golden = io["position_encoding"].flatten(2)[0].T
    yield Comparison("position encoding", distance(position, golden), FEATURES)


def ccexpert_checkpoint(path: Path) -> Iterator[Comparison]:
    """Set F: a published folder, loaded without conversion, from image files to new tokens."""
    golden, tensors = read_json(path), load_file(path.with_suffix(".safetensors"))
    folder = path.with_name(path.stem.removesuffix("_golden"))
    tower = path.with_name("vision_tower_folder")
    model = BTCChat.from_pretrained(folder, vision_tower=tower, **PLACE)
    images = path.parent / golden["images_folder"]
    cases = [_case(case, tensors, images, model) for case in golden["cases"]]
    yield from _change(cases, model)
    yield from compare(cases, golden["new_tokens"])
    yield from _batch(golden["batch_of_two"], {case.golden["name"]: case for case in cases}, model)
    yield Comparison(
        "preprocessed", differing(pair for record in golden["preprocess"] for pair in _record(record, model)), EXACT
    )


def _case(golden: dict, tensors: dict, images: Path, model: BTCChat) -> Case:
    """The golden question writes ``<image>`` itself, as a record of a data set does."""
    files = [images / name for name in golden["images"]]
    question = Record("golden", "pair", files, [{"from": "human", "value": golden["question"]}])
    return Case(golden, tensors, model, question, golden["caption"])


def _change(cases: list[Case], model: BTCChat) -> Iterator[Comparison]:
    """The depths, the outputs of the change encoder, and the ids of the caption question."""
    depths = change = refined = 0.0
    for case in cases:
        states = model.see(case.batch["frames"])
        depths = max(depths, *(distance(x, case.tensor(f"stage{number}")) for number, x in enumerate(states)))
        streams = model.change_encoder.streams(torch.stack(states, dim=1)[None])[0]  # (1, 2, S, L, C) -> (3, L, C)
        refined = max(refined, distance(streams[:2], case.tensor("resampler_AB")))
        change = max(change, distance(streams[2:], case.tensor("change_features")))
    yield Comparison("depths", depths, FEATURES)
    yield Comparison("refined tokens", refined, CHANGE)
    yield Comparison("change tokens", change, CHANGE)
    shown = f"{model.config.pair_prompt}{model.config.caption_question}"
    asked = [case for case in cases if case.golden["question"] == shown]
    for case in asked[:1]:
        blank = request(model.config.caption_question, "pair", [Image.new("RGB", (8, 8))] * 2)
        ids = model.processor(blank, train=False)["input_ids"].tolist()
        yield Comparison("ids of a caption", differing([(ids, case.golden["input_ids"])]), EXACT)


def _batch(golden: dict, cases: dict[str, Case], model: BTCChat) -> Iterator[Comparison]:
    members = [cases[name] for name in golden["members"]]
    batch = model.processor.collate([case.sample() for case in members])
    pairs = [
        (batch["input_ids"].tolist(), golden["input_ids"]),
        (batch["labels"].tolist(), golden["labels"]),
        (batch["attention_mask"].int().tolist(), golden["attention_mask"]),
    ]
    yield Comparison("batch ids, labels", differing(pairs), EXACT)
    yield Comparison("batch loss", abs(model(**batch).loss.item() - golden["loss"]), LANGUAGE)


def _record(golden: dict, model: BTCChat) -> Iterator[tuple]:
    written = sum(message["value"].count("<image>") for message in golden["conversations"])
    images = [Image.new("RGB", (8, 8))] * written
    record = Record("golden", {0: "text", 1: "image", 2: "pair"}[written], images, golden["conversations"])
    sample = model.processor(record, train=True)
    yield sample["input_ids"].tolist(), golden["input_ids"]
    yield sample["labels"].tolist(), golden["labels"]
