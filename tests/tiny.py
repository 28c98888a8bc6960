"""A random model of a few thousand weights, for tests that need a complete model."""

from pathlib import Path

from btcchat.compat.configs import published_rope
from btcchat.synthetic.start import Sizes, init_model, train_qwen2_tokenizer, train_tokenizer

SIZES = Sizes(
    resolution=32,
    patch=8,
    vision_width=16,
    vision_layers=2,
    vision_heads=2,
    llm_width=32,
    llm_layers=2,
    llm_heads=2,
    llm_hidden=48,
    vocabulary=400,
    context=512,
)
ATTENTIVE = {"change_encoder_type": "attentive", "cc_n_layers": 1, "cc_head": 8, "cc_dropout": 0.0}
CORPUS = [
    "a chat between a curious user and an artificial intelligence assistant.",
    "two houses are built in the top left corner .",
    "the scene is the same as before .",
    "What changed between the two images? USER: ASSISTANT:",
] * 20


def rope_of(model) -> tuple:
    """rope_theta and rope_scaling that a language model computes with, under the names of transformers 4."""
    config = published_rope(model.config.to_dict())
    return config["rope_theta"], config.get("rope_scaling")


def qwen2_tokenizer():
    return train_qwen2_tokenizer(CORPUS, SIZES.vocabulary)


def tiny_model(folder: Path, *, change_encoder: dict | None = ATTENTIVE, seed: int = 0, llm: str = "llama", **fields):
    """A random model; its tokenizer's file is in ``folder``. fields: of BTCChatConfig."""
    if llm == "qwen2":
        tokenizer, fields = qwen2_tokenizer(), {"conv_version": "qwen_1_5", **fields}
    else:
        tokenizer = train_tokenizer(CORPUS, SIZES.vocabulary, folder / "tokenizer")
    return init_model(tokenizer, SIZES, seed=seed, change_encoder=change_encoder, llm=llm, **fields)
