"""Set D: a whole published checkpoint, from image files to new tokens."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from btcchat import BTCChat, BTCChatError, Record, prompt, request
from btcchat.decoding.options import GenerationOptions
from btcchat.generation import generate_ids
from btcchat.processor import Batch, Sample
from golden_sets.common import (
    EXACT,
    FEATURES,
    GREY,
    LANGUAGE,
    PLACE,
    Comparison,
    differing,
    distance,
    grey_levels,
    read_json,
)

MODALITIES = {"single": "image", "pair": "pair", "video": "video", "text": "text"}  # the golden file's word -> ours


def checkpoint(path: Path) -> Iterator[Comparison]:
    """Set D: a whole published checkpoint, from image files to new tokens."""
    golden, tensors = read_json(path), load_file(path.with_suffix(".safetensors"))
    folder = path.with_name(path.stem.removesuffix("_golden"))
    model = BTCChat.from_pretrained(folder, **PLACE, **golden["eval_args"])
    cases = [_case(case, tensors, path.parent / golden["images_folder"], model) for case in golden["cases"]]
    yield from compare(cases, golden["new_tokens"])
    named = {case.golden["name"]: case for case in cases}
    for batch in golden["batches"]:
        yield from _golden_batch(batch, [named[name] for name in batch["members"]], model)
    for cut in golden["truncations"]:
        yield from _golden_cut(cut, named[cut["case"]], model)


def compare(cases: list["Case"], new_tokens: int) -> Iterator[Comparison]:
    """A comparison per kind of value, over all cases."""

    def worst(name: str, ours) -> float:
        return max(distance(ours(case), case.tensor(name)) for case in cases if case.tensor(name) is not None)

    seen = [case for case in cases if case.pixels is not None]
    pixels = max(grey_levels(case.pixels, case.tensor("pixel_values"), case.model.image_processor) for case in seen)
    yield Comparison("pixels", pixels, GREY)
    yield Comparison("texts", differing(pair for case in cases for pair in case.texts()), EXACT)
    yield Comparison("ids and labels", differing(pair for case in cases for pair in case.ids()), EXACT)
    yield Comparison("image features", worst("image_features", Case.features), FEATURES)
    yield Comparison("merged embeddings", worst("inputs_embeds", lambda case: case.merged().inputs_embeds[0]), LANGUAGE)
    yield Comparison("hidden states", worst("hidden_last", Case.hidden), LANGUAGE)
    name = "logits" if cases[0].tensor("logits_tail") is None else "logits_tail"  # of all tokens, or the last
    yield Comparison("logits", worst(name, lambda case: case.logits(len(case.tensor(name)))), LANGUAGE)
    yield Comparison("log-probabilities", worst("train_token_logprobs", Case.logprobs), LANGUAGE)
    yield Comparison("losses", max(_gap(case.loss(), case.golden["loss"]) for case in cases), LANGUAGE)
    greedy = ((case.greedy(new_tokens), case.golden["greedy_ids"]) for case in cases)
    yield Comparison("greedy ids", differing(greedy), EXACT)


def _case(golden: dict, tensors: dict, images: Path, model: BTCChat) -> "Case":
    modality, files = MODALITIES[golden["kind"]], [images / name for name in golden["images"]]
    return Case(golden, tensors, model, request(golden["question"], modality, files), golden["answer"])


class Case:
    """A golden question. Everything after the pixels is computed from the golden pixels, so errors do not add up."""

    def __init__(self, golden: dict, tensors: dict, model: BTCChat, question: Record, answer: str):
        self.golden, self.model, self.question = golden, model, question
        self.tensors = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.split(".", 1)[0] == golden["name"]}
        processor = model.processor
        self.batch = processor.collate([processor(question, train=False)])
        del self.batch["labels"]
        frames = self.batch["frames"]
        self.pixels = None if frames is None else processor.image_processor.normalise(frames)
        if frames is not None:
            self.batch["frames"] = self.tensor("pixel_values").float()
        turns = [*question.conversations, {"from": "gpt", "value": answer}]
        self.answered = replace(question, conversations=turns)
        frame_count = self.batch["frame_counts"][0]
        self.turns = processor.turns(self.answered, frame_count)
        self.encoded = prompt.encode(self.turns, processor.tokenizer, processor.template, train=True)

    def tensor(self, name: str) -> Tensor | None:
        return self.tensors.get(name)

    def sample(self, encoded: prompt.Encoded | None = None) -> Sample:
        encoded = encoded or self.encoded
        frames = self.batch["frames"]
        return {
            "input_ids": torch.tensor(encoded.input_ids),
            "labels": torch.tensor(encoded.labels),
            "frames": torch.zeros(0, 3, 0, 0) if frames is None else frames,
            "modality": self.batch["modalities"][0],
        }

    def training_batch(self, encoded: prompt.Encoded | None = None) -> Batch:
        return self.model.processor.collate([self.sample(encoded)])

    def texts(self) -> Iterator[tuple]:
        template = self.model.processor.template
        yield prompt.render(self.turns[:-1], template), self.golden["prompt"]
        if "train_prompt" in self.golden:
            yield prompt.render(self.turns, template), self.golden["train_prompt"]

    def ids(self) -> Iterator[tuple]:
        yield self.batch["input_ids"][0].tolist(), self.golden["input_ids"]
        yield self.encoded.input_ids, self.golden["train_input_ids"]
        yield self.encoded.labels, self.golden["train_labels"]
        yield self.merged().inputs_embeds.shape[1], self.golden["merged_length"]
        merged = self.model.embed(**self.training_batch())
        yield merged.labels[0].tolist(), self.golden["train_merged_labels"]
        yield merged.inputs_embeds.shape[1], self.golden["train_merged_length"]

    def features(self) -> Tensor:
        batch = self.batch
        features, lengths = self.model.encode(batch["frames"], batch["modalities"], batch["frame_counts"])
        return features.unflatten(0, (len(lengths), lengths[0]))  # (K, M, D)

    def merged(self):
        return self.model.embed(**self.batch)

    def hidden(self) -> Tensor:
        merged = self.merged()
        return self.model.llm.get_decoder()(inputs_embeds=merged.inputs_embeds)[0][0]  # (N', D), after the final norm

    def logits(self, count: int) -> Tensor:
        return self.model(**self.batch).logits[0, -count:]

    def logprobs(self) -> Tensor:
        """Log-probability of each supervised token, given those before it."""
        batch = self.training_batch()
        target = self.model.embed(**batch).labels[0, 1:]
        del batch["labels"]
        logprobs = self.model(**batch).logits[0, :-1].log_softmax(-1)  # (N' - 1, vocabulary)
        at = target != prompt.IGNORE_INDEX
        return logprobs[at].gather(1, target[at][:, None])[:, 0]

    def loss(self) -> float:
        return self.model(**self.training_batch()).loss.item()

    def greedy(self, count: int) -> list[int]:
        return generate_ids(self.model, self.batch, GenerationOptions(count))[0]


def _golden_batch(golden: dict, members: list[Case], model: BTCChat) -> Iterator[Comparison]:
    batch = model.processor.collate([case.sample() for case in members])
    merged = model.embed(**batch)
    pairs = [
        (batch["input_ids"].tolist(), golden["input_ids"]),
        (batch["labels"].tolist(), golden["labels"]),
        (merged.attention_mask.sum(1).tolist(), golden["merged_lengths"]),
        (int((merged.labels != prompt.IGNORE_INDEX).sum()), golden["supervised_tokens"]),
    ]
    yield Comparison(f"{golden['name']} ids, labels", differing(pairs), EXACT)
    yield Comparison(f"{golden['name']} loss", _gap(model(**batch).loss.item(), golden["loss"]), LANGUAGE)


def _golden_cut(golden: dict, case: Case, model: BTCChat) -> Iterator[Comparison]:
    """A training sample that is too long. Where the published code leaves no label, ours may refuse to cut it."""
    limit = golden["tokenizer_model_max_length"]
    try:
        encoded = prompt.fit(case.encoded, model.layout.lengths("pair", 2), limit, train=True)
    except BTCChatError:
        yield Comparison(f"cut at {limit}, refused", int(golden["loss"] is not None), EXACT)
        return
    batch = case.training_batch(encoded)
    merged = model.embed(**batch)
    pairs = [(merged.labels[0].tolist(), golden["merged_labels"]), (merged.labels.shape[1], golden["merged_length"])]
    yield Comparison(f"cut at {limit} labels", differing(pairs), EXACT)
    if golden["loss"] is not None:
        yield Comparison(f"cut at {limit} loss", _gap(model(**batch).loss.item(), golden["loss"]), LANGUAGE)


def _gap(ours: float, golden: float) -> float:
    return abs(ours - golden)
