"""Captions a second of one of the models in bfloat16, at batch 1 to 64, and what share of the GPU's peak it gets."""

from collections.abc import Iterator

import torch

from btcchat import BTCChat
from btcchat.eval.encoders.machine import memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions, generate_ids
from btcchat.processor import Batch
from gpu_rows.models import build, length, pairs
from gpu_rows.setting import Setting
from gpu_rows.speed import device_of, flops_of, gemm_peak, peak_line, seconds_of, waiter
from measure import Clock

BATCHES, NEW_TOKENS = (1, 2, 4, 8, 16, 32, 64), 32
HEAD = (
    "batch",
    "captions/s",
    "vision, ms (share)",
    "change + projector, ms",
    "prefill, ms (share)",
    "decode, tokens/s",
)


def measure(setting: Setting, size: str) -> Iterator[str]:
    """From uint8 frames in the host's memory to new ids; reading and resizing images is not part of it."""
    device = device_of(setting)
    batches, new_tokens = ((1, 2), 4) if setting.tiny else (BATCHES, NEW_TOKENS)
    peak = gemm_peak(device, torch.bfloat16)
    model = build(size, device, tiny=setting.tiny).requires_grad_(False)
    parameters = sum(p.numel() for p in model.parameters())
    one = pairs(model, 1)
    work = {"vision": flops_of(lambda: model.see(one["frames"])), "prefill": flops_of(lambda: prefill(model, one))}
    intro = (
        f"{parameters / 1e6:,.0f} M parameters, random. A pair and its question are {length(model, one)} tokens, "
        f"{new_tokens} are written. {peak_line(peak)}. A pair takes {work['vision'] / 1e12:.3g} TFLOP in vision and "
        f"{work['prefill'] / 1e12:.3g} in prefill."
    )
    rows: list[list[object]] = []
    for count in batches:
        batch = pairs(model, count)
        rest = reset_peak(device)
        generate_ids(model, batch, GenerationOptions(2))  # the first call of each kernel chooses how it is computed
        seconds = seconds_of(lambda: generate_ids(model, batch, GenerationOptions(new_tokens)), device)  # noqa: B023
        taken = "-" if rest is None else f"{memory(device, peak=True) / 1024:.1f}"
        parts = parts_of(model, batch, new_tokens, device)
        shares = {name: 100 * count * flops / (parts[name] * peak) for name, flops in work.items()}
        rows.append(
            [
                count,
                f"{count / seconds:.2f}",
                f"{1000 * parts['vision']:.1f} ({shares['vision']:.0f} %)",
                f"{1000 * parts['between']:.1f}",
                f"{1000 * parts['prefill']:.1f} ({shares['prefill']:.0f} %)",
                f"{count * (new_tokens - 1) / parts['decode']:.0f}",
                taken,
            ]
        )
        yield f"{intro}\n\n{table([*HEAD, 'peak GiB'], rows)}"


def prefill(model: BTCChat, batch: Batch) -> None:
    """The language model on a prompt, and its head on the last token, as in generation."""
    places = length(model, batch)
    width = model.config.hidden_size
    weight = model.llm.get_input_embeddings().weight
    prompt = torch.zeros(1, places, width, device=weight.device, dtype=weight.dtype)
    hidden = model.llm.get_decoder()(inputs_embeds=prompt, use_cache=False)[0]
    model.llm.get_output_embeddings()(hidden[:, -1:])


def parts_of(model: BTCChat, batch: Batch, new_tokens: int, device: torch.device) -> dict[str, float]:
    """Seconds of each part, in a run that waits for the GPU around every call."""
    with Clock(model, waiter(device)) as clock:
        generate_ids(model, batch, GenerationOptions(new_tokens))
    parts = dict.fromkeys(("vision", "between", "prefill", "decode"), 0.0)
    for name, value, tokens in clock.calls:
        if name == "llm":
            parts["prefill" if tokens > 1 else "decode"] += value
        else:
            parts["vision" if name == "vision_tower" else "between"] += value
    return parts
