"""Captions per second of a model in bfloat16, its share of the GPU's peak, and the time of a decoding step."""

from collections.abc import Iterator
from functools import partial
from unittest import mock

import torch

from btcchat import BTCChat
from btcchat.decoding import recorded
from btcchat.eval.encoders.machine import memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions, generate_ids, read_prompts
from btcchat.processor import Batch
from gpu_rows.models import build, length, pairs
from gpu_rows.setting import Setting
from gpu_rows.speed import device_of, flops_of, gemm_peak, peak_line, seconds_of, waiter
from measure import Clock

BATCHES = {"mid": (1, 8, 64), "3b": (1, 8, 16, 32, 64), "7b": (1, 8, 16)}
COMPARED = (1, 16)  # batch sizes at which the other, slow ways are measured too
NEW_TOKENS = 32
HEAD = (
    "batch",
    "captions/s",
    "first time, s",
    "vision, ms (share)",
    "change + projector, ms",
    "prefill, ms (share)",
    "decode, ms a step",
    "plain loop, ms",
    "transformers, ms",
    "rows equal to the plain loop's",
    "peak GiB",
)


def measure(setting: Setting, size: str) -> Iterator[str]:
    """From uint8 frames in host memory to new ids, without reading and resizing the images."""
    device = device_of(setting)
    batches, compared, new_tokens = ((1, 2), (2,), 4) if setting.tiny else (BATCHES[size], COMPARED, NEW_TOKENS)
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
        write = partial(generate_ids, model, batch)
        rest = reset_peak(device)
        first = seconds_of(lambda: write(GenerationOptions(new_tokens)), device)  # noqa: B023
        ids = write(GenerationOptions(new_tokens))
        seconds = seconds_of(lambda: write(GenerationOptions(new_tokens)), device)  # noqa: B023
        step = (seconds - seconds_of(lambda: write(GenerationOptions(1)), device)) / (new_tokens - 1)  # noqa: B023
        taken = "-" if rest is None else f"{memory(device, peak=True) / 1024:.1f}"
        parts = parts_of(model, batch, device)
        shares = {name: 100 * count * flops / (parts[name] * peak) for name, flops in work.items()}
        row: list[object] = [
            count,
            f"{count / seconds:.2f}",
            f"{first:.2f}",
            f"{1000 * parts['vision']:.1f} ({shares['vision']:.0f} %)",
            f"{1000 * parts['between']:.1f}",
            f"{1000 * parts['prefill']:.1f} ({shares['prefill']:.0f} %)",
            f"{1000 * step:.2f}",
            *("-", "-", "-"),
            taken,
        ]
        rows.append(row)
        yield f"{intro}\n\n{table(HEAD, rows)}"
        if count in compared:
            plain, same = plain_step(model, batch, new_tokens, ids, device)
            row[7], row[9] = f"{1000 * plain:.2f}", same
            yield f"{intro}\n\n{table(HEAD, rows)}"
            row[8] = f"{1000 * transformers_step(model, batch, new_tokens, device):.2f}"
            yield f"{intro}\n\n{table(HEAD, rows)}"


def prefill(model: BTCChat, batch: Batch) -> None:
    """Run the language model on a prompt and its head on the last token, as in generation."""
    places = length(model, batch)
    width = model.config.hidden_size
    weight = model.llm.get_input_embeddings().weight
    prompt = torch.zeros(1, places, width, device=weight.device, dtype=weight.dtype)
    hidden = model.llm.get_decoder()(inputs_embeds=prompt, use_cache=False)[0]
    model.llm.get_output_embeddings()(hidden[:, -1:])


def plain_step(
    model: BTCChat, batch: Batch, new_tokens: int, ids: list[list[int]], device: torch.device
) -> tuple[float, str]:
    """Seconds per step of our loop without recorded steps, and how many of its rows equal ``ids``."""
    with mock.patch.object(recorded, "can_record", lambda decoder: False):
        found = generate_ids(model, batch, GenerationOptions(new_tokens))
        whole = seconds_of(lambda: generate_ids(model, batch, GenerationOptions(new_tokens)), device)
        once = seconds_of(lambda: generate_ids(model, batch, GenerationOptions(1)), device)
    same = sum(one == other for one, other in zip(ids, found, strict=True))
    return (whole - once) / (new_tokens - 1), f"{same} of {len(ids)}"


@torch.no_grad()
def transformers_step(model: BTCChat, batch: Batch, new_tokens: int, device: torch.device) -> float:
    """Seconds per step of transformers' ``generate`` on the same prompts, after a run that warms up all shapes."""
    prompts = torch.stack(read_prompts(model, batch))  # all equally long
    mask = torch.ones(prompts.shape[:2], dtype=torch.long, device=device)

    def write(count: int) -> None:
        model.llm.generate(
            inputs_embeds=prompts,
            attention_mask=mask,
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id,
            bos_token_id=model.tokenizer.pad_token_id,
        )

    write(new_tokens)
    whole = seconds_of(lambda: write(new_tokens), device)
    return (whole - seconds_of(lambda: write(1), device)) / (new_tokens - 1)


def parts_of(model: BTCChat, batch: Batch, device: torch.device) -> dict[str, float]:
    """Seconds of each part up to the first token, in a run that waits for the GPU before and after every call."""
    with Clock(model, waiter(device)) as clock:
        generate_ids(model, batch, GenerationOptions(1))
    names = {"vision_tower": "vision", "llm": "prefill"}
    parts = dict.fromkeys(("vision", "between", "prefill"), 0.0)
    for name, value, _ in clock.calls:
        parts[names.get(name, "between")] += value
    return parts
