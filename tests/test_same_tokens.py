"""At inference a model gets the same tokens and pixels as in training, however a record is written.

Training reads a record with its answer; inference reads the same record without it, or a person's question (`request`),
which has no ``<image>``. All of them are compared over the product of everything that can differ.
"""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from btcchat import Record, request
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.prompt import CAPTION_QUESTION, IGNORE_INDEX
from tests.test_model import picture
from tests.tiny import ATTENTIVE, tiny_model

FRAMES = {"text": 0, "image": 1, "pair": 2, "series": 3, "video": 4}
STYLES = ("none", "one", "one per frame", "one per segment")
DATES = ["2010", "2012", "2019"]
EARLIER, FRAME = "a house .", "<|im_start|><|im_end|>\n"
QUESTIONS = ["What changed?", CAPTION_QUESTION]


class Pooled(nn.Module):
    """An encoder whose change tokens are fewer than a frame's."""

    segments = 1

    def __init__(self, *, hidden_size: int, grid: int, num_depths: int):
        super().__init__()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features[:, 1:, -1] - features[:, :1, -1])[:, :, :4]

    def num_tokens(self, tokens: int) -> int:
        return 4


ENCODERS = {
    "attentive": (ATTENTIVE, -1),
    "concat": ({"change_encoder_type": "concat"}, -1),
    "difference_aware": ({"change_encoder_type": "difference_aware", "mlp_dim": 24}, [-2, -1]),
    "pooled": ({"change_encoder_type": "pooled"}, -1),
}


@pytest.fixture(
    scope="module",
    params=[
        *product(ENCODERS, ["llama", "qwen2"], [False]),
        *product(["attentive", "difference_aware"], ["llama"], [True]),
    ],
    ids=str,
)
def model(request, tmp_path_factory):
    """Every encoder with every template, with and without change tokens between the frames of a series."""
    (name, llm, between), folder = request.param, tmp_path_factory.mktemp("model")
    encoder, layers = ENCODERS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHANGE_ENCODERS, "pooled", Pooled)
        return tiny_model(
            folder,
            change_encoder=encoder,
            llm=llm,
            mm_vision_select_layer=layers,
            series_change_tokens=between,
            num_video_frames=4,
            caption_question="What is different?",
        )


def written(question: str, style: str, frames: int, segments: int) -> str:
    """``question`` as written in a data set's record."""
    count = {"none": 0, "one": min(frames, 1), "one per frame": frames, "one per segment": segments}[style]
    return "<image>\n" * count + question


def combinations(model):
    """(record without its last answer, the same as a person asks it, answer)."""
    segments = {name: model.layout.num_segments(name, count) for name, count in FRAMES.items()}
    pair_prompts = ["", " and ".join(["see <image>"] * segments["pair"]) + ".\n"]
    ways = product(FRAMES, STYLES, [False, True], [None, "captioning"], [None, "about 4 %"], QUESTIONS, pair_prompts)
    for modality, style, dated, task, clue, question, pair_prompt in ways:
        if (modality != "pair" and (pair_prompt or question != QUESTIONS[0])) or (
            dated and modality not in ("pair", "series")
        ):
            continue
        model.config.pair_prompt = pair_prompt
        frames = [picture(seed) for seed in range(FRAMES[modality])]
        hints = {"dates": DATES[: len(frames)] if dated else None, "task": task, "clue": clue}
        first = written(question, style, len(frames), segments[modality])
        for earlier in ([], [("first?", EARLIER)]):
            history = [
                {"from": who, "value": text}
                for pair in earlier
                for who, text in zip(("human", "gpt"), pair, strict=True)
            ]
            record = [*history, {"from": "human", "value": question}]
            record[0] = {
                "from": "human",
                "value": first if not earlier else written("first?", style, len(frames), segments[modality]),
            }
            asked = Record("record", modality, frames, record, **hints)
            yield asked, request(question, modality, frames, history=history, **hints), "two houses are built ."


def test_training_and_inference_read_the_same_tokens_and_pixels(model):
    compared, different = 0, []
    for asked, typed, answer in combinations(model):
        taught = replace(asked, conversations=[*asked.conversations, {"from": "gpt", "value": answer}])
        sample = model.processor(taught, train=True)
        for record in (asked, typed):
            prompt = model.processor(record, train=False)
            length = len(prompt["input_ids"])
            compared += 1
            same = torch.equal(sample["input_ids"][:length], prompt["input_ids"])
            if not (same and torch.equal(sample["frames"], prompt["frames"])):
                different.append((taught, record))
            learned = sample["labels"] != IGNORE_INDEX
            if not (learned[length:].all() and learned_by_the_way(model, sample, length) <= known_to_be_learned(model)):
                different.append((taught, record))
    assert different[:3] == []
    assert compared > 300


def learned_by_the_way(model, sample, length: int) -> set[int]:
    """The ids in the prompt that have a label."""
    return set(sample["labels"][:length].tolist()) - {IGNORE_INDEX}


def known_to_be_learned(model) -> set[int]:
    """The answers of earlier turns; in ChatML also its special tokens and the header of an answer, as published."""
    tokenizer = model.tokenizer
    texts = [f" {EARLIER}", EARLIER] + ([] if model.config.conv_version == "v1" else ["assistant\n", FRAME])
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    return {*sum(ids, []), tokenizer.eos_token_id}
