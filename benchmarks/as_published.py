"""A btcchat model run as the published evaluator runs it: the same weights, one pair at a time.

Images go through Hugging Face's processor. Attention in tower and language model is written out, with the softmax in
float32 and a full square mask. The answer comes from transformers' `generate`, which (in 4.36) computes logits at every
prompt position, and is decoded at the end. Nothing is packed, fused, batched or read ahead.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from btcchat import BTCChat
from btcchat.eval.runs.answer import question_record
from btcchat.eval.runs.samples import Sample
from btcchat.language_model import build_language_model
from btcchat.multimodal_encoder import siglip
from preprocess import hugging_face


class AsPublished:
    """``AsPublished(model)(samples, new_tokens)`` -> captions by id. Shares the model's weights."""

    def __init__(self, model: BTCChat):
        self.model = model
        with torch.device("meta"):
            self.llm = build_language_model(model.llm.config.to_dict(), attn_implementation="eager")
        self.llm.load_state_dict(model.llm.state_dict(), assign=True)
        for ours, own in zip(model.llm.modules(), self.llm.modules(), strict=True):
            for name, buffer in ours.named_buffers(recurse=False):
                own.register_buffer(name, buffer, persistent=False)
        self.llm.eval()
        self.process = hugging_face(model.vision_tower.resolution)[1]

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample], new_tokens: int) -> dict[str, str]:
        with plain_tower():
            return {sample.id: self._answer(sample, new_tokens) for sample in samples}

    def _answer(self, sample: Sample, new_tokens: int) -> str:
        model, record = self.model, question_record(sample, None)
        images = [Image.open(file).convert("RGB") for file in record.sources]
        pixels = torch.stack([self.process(image) for image in images])
        item = model.processor(record, torch.zeros(len(images), 0), train=False)
        batch = model.processor.collate([item])
        merged = model.embed(**{**batch, "frames": None, "labels": None, "pixel_values": pixels})
        ids = self.llm.generate(
            inputs_embeds=merged.inputs_embeds,
            attention_mask=merged.attention_mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
        text: str = model.tokenizer.batch_decode(ids, skip_special_tokens=True)[0]
        return text.strip()


@contextmanager
def plain_tower() -> Iterator[None]:
    """Compute SigLIP's blocks as transformers 4.36 to 4.4x does, all images at once."""
    with (
        mock.patch.object(siglip, "packs", lambda x, layers: False),
        mock.patch.object(siglip, "attention", _attention),
        mock.patch.object(siglip, "gelu", lambda x, form: F.gelu(x, approximate=form)),
        mock.patch.object(siglip, "PART", 2**62),
    ):
        yield


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return weights.softmax(-1, dtype=torch.float32).to(q.dtype) @ v
