"""flash-attention 2 compared with torch's own attention, in the language model of the 3B."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from btcchat.eval.encoders.machine import memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.language_model import build_language_model
from gpu_rows.models import SIZES, TINY_LLM
from gpu_rows.setting import Setting, need
from gpu_rows.speed import device_of, median_seconds

ROWS, LENGTH = 8, 1024
HEAD = ("attention", "prefill, ms", "forward and backward, ms", "peak GiB", "largest distance to sdpa")


def measure(setting: Setting) -> Iterator[str]:
    """Rows of unequal lengths, padded on the right, in bfloat16; forward alone, and with all gradients.

    A CPU has no flash-attention; there, transformers' eager attention replaces it, so that every line is run.
    """
    device = device_of(setting)
    rows, length = (2, 16) if setting.tiny else (ROWS, LENGTH)
    config = SIZES["3b"][0] | (TINY_LLM if setting.tiny else {})
    weights: dict[str, Tensor] | None = None
    expected: Tensor | None = None
    lines: list[list[str]] = []
    for name in ("sdpa", "eager" if setting.tiny else "flash_attention_2"):
        if name == "flash_attention_2":
            need("flash_attn")
        with torch.device(device):
            llm = build_language_model(config, attn_implementation=name).to(torch.bfloat16).eval()
        if weights is None:
            weights = llm.state_dict()
        llm.load_state_dict(weights, assign=True)
        embeds, mask = inputs(llm, rows, length)
        with torch.no_grad():
            hidden = forward(llm, embeds, mask)[mask.bool()]  # (tokens, D)
            expected = hidden if expected is None else expected
            distance = float((hidden - expected).abs().max())
            seconds = median_seconds(lambda: forward(llm, embeds, mask), device, 3)  # noqa: B023
        reset_peak(device)
        both = median_seconds(lambda: backward(llm, embeds, mask), device, 3)  # noqa: B023
        peak = f"{memory(device, peak=True) / 1024:.1f}"
        lines.append([name, f"{1000 * seconds:.1f}", f"{1000 * both:.1f}", peak, f"{distance:.3f}"])
        llm.zero_grad(set_to_none=True)
        yield f"{rows} rows of {length // 2} to {length} tokens, bfloat16.\n\n{table(HEAD, lines)}"


def inputs(llm: PreTrainedModel, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Embeddings (rows, length, D) and mask (rows, length), on the model's device."""
    weight = llm.get_input_embeddings().weight
    torch.manual_seed(0)
    embeds = torch.randn(rows, length, weight.shape[1], device=weight.device).to(weight.dtype)
    lengths = torch.linspace(length / 2, length, rows, device=weight.device).long()
    return embeds, (torch.arange(length, device=weight.device) < lengths[:, None]).long()


def forward(llm: PreTrainedModel, embeds: Tensor, mask: Tensor) -> Tensor:
    hidden: Tensor = llm.get_decoder()(inputs_embeds=embeds, attention_mask=mask, use_cache=False)[0]
    return hidden


def backward(llm: PreTrainedModel, embeds: Tensor, mask: Tensor) -> None:
    llm.zero_grad(set_to_none=True)
    forward(llm, embeds, mask)[mask.bool()].float().square().mean().backward()
