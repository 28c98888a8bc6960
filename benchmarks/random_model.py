"""A whole model with random weights, built in memory."""

import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from btcchat import BTCChat, Processor, prompt
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.checkpoint.parts import change_encoder_of, layout_of, projector_of, vision_tower_of
from btcchat.language_model import build_language_model
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic.start import train_tokenizer


def random_model(config: BTCChatConfig, dtype: torch.dtype, device: str = "cpu") -> BTCChat:
    """A model of the config's sizes, created on ``device`` in ``dtype``; it is the same at each call."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            tower = vision_tower_of(config)
            encoder, projector = change_encoder_of(config, tower), projector_of(config, tower)
            llm = build_language_model(config.llm)
    finally:
        torch.set_default_dtype(before)
    image_processor = ImageProcessor.from_config(tower.default_preprocessor_config(), config.image_aspect_ratio)
    layout = layout_of(config, tower, encoder, projector)
    return BTCChat(
        vision_tower=tower,
        change_encoder=encoder,
        mm_projector=projector,
        llm=llm,
        processor=Processor(config, prompt_tokenizer(), image_processor, layout),
    )


def prompt_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer that knows the words of the prompt, so that prompts are about as long as with the real one."""
    corpus = [prompt.render([prompt.Turn("user", [CAPTION_QUESTION])])] * 10
    with tempfile.TemporaryDirectory() as folder:
        return train_tokenizer(corpus, 800, Path(folder))
