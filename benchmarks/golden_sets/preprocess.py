"""Set G: from records of a data set to texts, ids and labels."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from btcchat import prompt
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.language_model.tokenizer import load_tokenizer
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.processor import Processor
from btcchat.prompt.token_layout import TokenLayout
from golden_sets.common import EXACT, Comparison, differing, read_json


def preprocess(path: Path) -> Iterator[Comparison]:
    """Set G: from records of a data set to texts, ids and labels."""
    golden = read_json(path)
    limit = golden["model_max_length"]
    folder = path.parent.parent / re.match(r"[\w./-]+", golden["tokenizer"])[0]
    tokenizer = load_tokenizer(folder)
    cleaned, texts, ids, labels, encodings = [], [], [], [], {}
    for case in golden["cases"]:
        turns = _record(case)
        spoken = [turn["value"] for turn in case["after_preprocess_multimodal"]]
        if case["after_preprocess_multimodal"][0]["from"] == "gpt":
            spoken = spoken[1:]
        written = ("".join(part if isinstance(part, str) else part.text for part in turn.content) for turn in turns)
        cleaned += zip(written, spoken, strict=True)
        template = prompt.TEMPLATES[golden["conversation"]]
        if case["no_system_prompt"]:
            template = dataclasses.replace(template, system="")
        texts.append((prompt.render(turns, template), case["prompt"]))
        encoded = prompt.encode(turns, tokenizer, template, train=True)
        encodings[case["name"]] = encoded
        if not case["has_image"]:  # the published tokenizer cuts text; samples with images are cut by the collator
            encoded = prompt.fit(encoded, [], limit, train=True)
        ids.append((encoded.input_ids, case["input_ids"]))
        if not case["mismatch_warning"]:  # in these the published code masks everything; ours need not
            labels.append((encoded.labels, case["labels"]))
    yield Comparison("cleaned-up turns", differing(cleaned), EXACT)
    yield Comparison("texts", differing(texts), EXACT)
    yield Comparison("ids", differing(ids), EXACT)
    yield Comparison("labels", differing(labels), EXACT)
    pixels = ImageProcessor((8, 8), [0.5] * 3, [0.5] * 3)
    yield from _collated(golden, encodings, Processor(BTCChatConfig(), tokenizer, pixels, TokenLayout(1, 1, 1)))


def _record(case: dict) -> list[prompt.Turn]:
    count = case["n_images"] if case["has_image"] else 0
    modality = "video" if case["video"] else {0: "text", 1: "image", 2: "pair"}[count]
    segments = 1 if modality == "pair" else count
    return prompt.turns_from_record(case["conversations"], segments=segments, modality=modality)


def _collated(golden: dict, encodings: dict, processor: Processor) -> Iterator[Comparison]:
    collated, gives_up = golden["collated"], {c["name"] for c in golden["cases"] if c["mismatch_warning"]}
    members = [encodings[name] for name in collated["members"]]
    cut = [prompt.fit(one, [1] * one.placeholders, golden["model_max_length"], train=True) for one in members]
    samples = [
        {
            "input_ids": torch.tensor(encoded.input_ids),
            "labels": torch.tensor(encoded.labels),
            "frames": torch.zeros(0, 3, 0, 0, dtype=torch.uint8),
            "modality": "text",
        }
        for encoded in cut
    ]
    batch = processor.collate(samples)
    pairs = [
        (batch["input_ids"].tolist(), collated["input_ids"]),
        (batch["attention_mask"].int().tolist(), [[int(m) for m in row] for row in collated["attention_mask"]]),
    ]
    rows = zip(collated["members"], batch["labels"].tolist(), collated["labels"], strict=True)
    pairs += [(ours, theirs) for name, ours, theirs in rows if name not in gives_up]
    yield Comparison("collated", differing(pairs), EXACT)
