"""The three models that are measured, built on the device with random weights."""

import torch
from PIL import Image

from btcchat import BTCChat, Record, request
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.processor import Batch
from btcchat.prompt import CAPTION_QUESTION
from full_size import LLM, VISION
from random_model import random_model

ATTENTIVE = {"change_encoder_type": "attentive", "cc_n_layers": 0, "cc_head": 8, "cc_dropout": 0.0}
QWEN2_7B = {  # Qwen/Qwen2-7B-Instruct
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
MID = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}  # benchmarks/generate.py
# Name -> (language model, vision tower, other fields of the config)
SIZES = {
    "mid": (LLM | MID | {"intermediate_size": 2048}, VISION | MID | {"intermediate_size": 3072}, {}),
    "3b": (LLM, VISION, {}),
    "7b": (
        QWEN2_7B,
        VISION | {"num_stored_layers": 26},  # as LLaVA-OneVision stores it
        {
            "change_encoder": {"change_encoder_type": "difference_aware", "per_expert_depth": 2},
            "mm_projector": {"mm_projector_type": "mlp2x_gelu"},
            "mm_vision_select_layer": [-11, -8, -5, -2],
        },
    ),
}
TINY_LLM = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY_LLM |= {"vocab_size": 2000, "max_position_embeddings": 1024}
TINY_VISION = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "image_size": 70}
ANSWER = "two houses are built in the top left corner and a road is built beside the trees in the middle of the scene"


def build(name: str, device: torch.device, *, dtype: torch.dtype = torch.bfloat16, tiny: bool = False) -> BTCChat:
    """The model ``name`` of SIZES. tiny: the same parts and as many layers in the tower, but narrow."""
    llm, vision, fields = SIZES[name]
    if tiny:
        llm, vision = llm | TINY_LLM, vision | TINY_VISION
        llm |= {"num_key_value_heads": 2} if "num_key_value_heads" in llm else {}
    config = BTCChatConfig(llm=dict(llm), vision_tower=dict(vision), **{"change_encoder": ATTENTIVE, **fields})
    model = random_model(config, dtype, str(device)).to(device, dtype).eval()
    with torch.no_grad():  # never write special tokens, so that no answer ends early, or words not in the tokenizer
        known = len(model.tokenizer)
        head = model.llm.get_output_embeddings().weight
        head[:3] = 0
        head[known:] = 0
    return model


def pairs(model: BTCChat, count: int, *, train: bool = False) -> Batch:
    """A batch that repeats a question about a pair (with ``train`` also its answer) ``count`` times."""
    side = model.vision_tower.resolution
    images = [Image.effect_noise((side, side), 60 + 40 * date).convert("RGB") for date in range(2)]
    record = request(CAPTION_QUESTION, "pair", images)
    if train:
        talk = [*record.conversations, {"from": "gpt", "value": ANSWER}]
        record = Record("gpu.py", "pair", images, talk)
    return model.processor.collate([model.processor(record, train=train)] * count)


def length(model: BTCChat, batch: Batch) -> int:
    """Tokens of a row of `pairs`, including those of its images."""
    segments = model.layout.lengths("pair", 2)
    return batch["input_ids"].shape[1] - len(segments) + sum(segments)
