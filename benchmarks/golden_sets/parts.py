"""Sets A, B and C: single parts: change encoder, projector, and vision tower with its preprocessing."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from btcchat.change_encoder import build_change_encoder
from btcchat.change_encoder.attentive import UNUSED_KEYS as UNUSED_CHANGE_KEYS
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_encoder.siglip import UNUSED_KEYS as UNUSED_VISION_KEYS
from btcchat.multimodal_projector import build_projector
from golden_sets.common import CHANGE, FEATURES, GREY, Comparison, distance, grey_levels, load, load_file, read_json


def attentive(folder: Path) -> Iterator[Comparison]:
    """Set A: the change encoder alone, all pairs in one batch."""
    made, io = read_json(folder / "config.json")["constructor"], load_file(folder / "io.safetensors")
    options = {"cc_n_layers": made["n_layers"], "cc_head": made["heads"], "cc_dropout": made["dropout"]}
    module = _change_encoder(options, load_file(folder / "state_dict.safetensors"), "", io["img1"])
    features = torch.stack([io["img1"], io["img2"]], dim=1)[:, :, None]  # (P, 2, 1, L, C)
    yield Comparison("change tokens", distance(module(features)[:, 0], io["output"]), CHANGE)
    if "output_pair0_swapped" in io:
        swapped = module(features[:1].flip(1))[:, 0]
        yield Comparison("dates swapped", distance(swapped, io["output_pair0_swapped"]), CHANGE)
    if "cos_map" in io:
        yield Comparison("cosine field", distance(module.cosine_field(features), io["cos_map"]), FEATURES)


def projector(folder: Path) -> Iterator[Comparison]:
    """Set B: single images, pairs and video frames through change encoder and projector, one forward of each."""
    spec = read_json(folder / "config.json")
    config, io = spec["config"], load_file(folder / "io.safetensors")
    weights, features = load_file(folder / "state_dict.safetensors"), io["features"]  # (frames, L, C)
    encoder = _change_encoder(config["mm_projector_cfg"], weights, "change.", features)
    single = _projector({"mm_projector_type": "mlp_downsample"}, weights, "single.", features, config["hidden_size"])

    segments, fused, start = [], [], 0
    for count in spec["im_num"]:
        frames = features[start : start + count]
        start += count
        if count == 2:  # in these sets two images are always a pair
            fused.append(encoder(frames[None, :, None])[:, 0])  # (1, L, C)
            frames = fused[-1]
        segments.append(frames)
    if "fused_pairs" in io:
        yield Comparison("change tokens", distance(torch.cat(fused), io["fused_pairs"]), CHANGE)
    yield Comparison("projected", distance(single(torch.cat(segments)), io["output"]), FEATURES)


def downsample(folder: Path) -> Iterator[Comparison]:
    """Set B: the projector alone, in both published token orders."""
    config, io = read_json(folder / "config.json"), load_file(folder / "io.safetensors")
    weights = load_file(folder / "state_dict.safetensors")
    for order, key in (("column", "output_vila15"), ("row", "output_vila_main")):
        options = {"mm_projector_type": config["mm_projector_type"], "token_order": order}
        module = _projector(options, weights, "layers.", io["features"], config["hidden_size"])
        yield Comparison(f"token order {order}", distance(module(io["features"]), io[key]), FEATURES)


def siglip(folder: Path) -> Iterator[Comparison]:
    """Set C: the vision tower at every depth, its preprocessing, and other resolutions."""
    config, cases = read_json(folder / "config.json"), read_json(folder / "cases.json")
    weights, io = load_file(folder / "state_dict.safetensors"), load_file(folder / "io.safetensors")

    def tower(layers: int | list[int], feature: str = "cls_patch") -> torch.nn.Module:
        module = build_vision_tower(dict(config), select_layer=layers, select_feature=feature)
        return load(module, weights, unused=UNUSED_VISION_KEYS)

    states = tower(list(range(config["num_hidden_layers"] + 1)))(io["pixel_values"])
    yield Comparison(
        "hidden states", max(distance(s, io[f"hidden_states.{i}"]) for i, s in enumerate(states)), FEATURES
    )
    for key in sorted(io):
        if match := re.fullmatch(r"features_layer(-?\d+)_(\w+)", key):
            features = tower(int(match[1]), match[2])(io["pixel_values"])[0]
            yield Comparison(f"layer {match[1]} {match[2]}", distance(features, io[key]), FEATURES)
    yield from _siglip_pixels(folder, cases)
    yield from _siglip_resized(folder, cases, tower, weights)


def _siglip_pixels(folder: Path, cases: dict) -> Iterator[Comparison]:
    base, golden = read_json(folder / "preprocessor_config.json"), load_file(folder / "pixel_values.safetensors")
    images = {name: Image.open(folder / "images" / name).convert("RGB") for name in cases["images"]}
    size, big = cases["processor_size"], cases["processor_size_big"]
    square = {"height": size, "width": size}
    # group of keys -> (size, image_aspect_ratio); preprocess_batch is the processor alone, which squashes
    ways = {mode: (square, mode) for mode in cases["modes"]} | {
        "preprocess_batch": (square, "resize"),
        "pad_big": ({"height": big, "width": big}, "pad"),
        "shortest_edge": ({"shortest_edge": size}, "resize"),
    }
    for group, (target, aspect_ratio) in ways.items():
        processor = ImageProcessor.from_config({**base, "size": target}, aspect_ratio=aspect_ratio)
        if group in golden:
            pairs = list(zip(images.values(), golden[group], strict=True))
        else:
            named = {key.split("/", 1)[1]: value for key, value in golden.items() if key.startswith(f"{group}/")}
            pairs = [(images[name], value) for name, value in named.items()]
        if pairs:
            error = max(grey_levels(processor.normalise(processor(image)), value, processor) for image, value in pairs)
            yield Comparison(f"pixels {group}", error, GREY)


def _siglip_resized(folder: Path, cases: dict, tower: Callable, weights: dict) -> Iterator[Comparison]:
    golden = load_file(folder / "resize_pos.safetensors")
    name = "vision_model.embeddings.position_embedding.weight"
    for resolution in cases["resize_resolutions"]:
        values = {key.split(".", 1)[1]: v for key, v in golden.items() if key.startswith(f"r{resolution}.")}
        positions, zero = values["position_embedding"], cases["zero_position_rows"][str(resolution)]
        keep = [row for row in range(len(positions)) if row not in zero]
        module = tower(-2)
        module.resize(resolution)
        ours = module.state_dict()[name]
        error = distance(ours[keep], positions[keep]) if ours.shape == positions.shape else float("inf")
        yield Comparison(f"positions {resolution}", error, FEATURES)
        if not error <= FEATURES:
            continue
        # Where the published code gives zeros (at integer positions), the stored row itself is correct.
        stored = weights[name].float()
        at = [round(row / max(len(positions) - 1, 1) * (len(stored) - 1)) for row in zero]
        yield Comparison(f"positions {resolution}, integer rows", distance(ours[zero], stored[at]), FEATURES)
        # The published features were computed with those zero rows, so load the published positions to compare.
        for key in values:
            if match := re.fullmatch(r"features_layer(-?\d+)_(\w+)", key):
                module = tower(int(match[1]), match[2])
                module.resize(resolution)
                module.load_state_dict(module.state_dict() | {name: positions})
                features = module(values["pixel_values"])[0]
                yield Comparison(f"layer {match[1]} at {resolution}", distance(features, values[key]), FEATURES)


def _change_encoder(options: dict, weights: dict, prefix: str, features: Tensor) -> torch.nn.Module:
    tokens, width = features.shape[-2:]
    config = {"change_encoder_type": "attentive", **{k: v for k, v in options.items() if k.startswith("cc_")}}
    module = build_change_encoder(config, hidden_size=width, grid=round(tokens**0.5), num_depths=1)
    return load(module, weights, prefix, UNUSED_CHANGE_KEYS)


def _projector(config: dict, weights: dict, prefix: str, features: Tensor, out_features: int) -> torch.nn.Module:
    module = build_projector(config, in_features=features.shape[-1], out_features=out_features)
    return load(module, weights, prefix)
