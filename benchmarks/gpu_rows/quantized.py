"""`--quantize` on a GPU, by bitsandbytes: speed and memory of a 3B model, and captions of the packaged model."""

from collections.abc import Iterator
from functools import partial

import torch
from PIL import Image

from btcchat import BTCChat, Record, request
from btcchat.checkpoint.quantize import quantize
from btcchat.decoding import recorded
from btcchat.eval.encoders.machine import memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions, generate_ids
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic import make_pair
from gpu_rows.captions import NEW_TOKENS
from gpu_rows.models import build, pairs
from gpu_rows.setting import Setting, need
from gpu_rows.speed import device_of, seconds_of

BATCHES = (1, 16)
DRAWN, HELD_OUT = 64, 900 * 10_000_000  # pairs of benchmarks/tiny_quality.py
KINDS = (None, "int4", "int8")  # the slowest last
SPEED = ("weights", "batch", "captions/s", "prompt and first token, ms", "decode, ms a step", "recorded", "peak GiB")
SAME = ("weights", "captions as without a GPU", "captions as on the GPU without --quantize")


def measure(setting: Setting) -> Iterator[str]:
    """With --tiny, btcchat's own layers for a CPU are measured."""
    device = device_of(setting)
    if not setting.tiny:
        need("bitsandbytes")
    same = list(packaged(setting, device))
    text = f"The packaged model in bfloat16, {len(drawn(setting))} held-out drawn pairs:\n\n{table(SAME, same)}"
    yield text
    rows: list[list[object]] = []
    for kind in KINDS:
        for row in speeds(setting, device, kind):
            rows.append(row)
            yield f"{text}\n\nBTCChat 3B, random weights:\n\n{table(SPEED, rows)}"


def packaged(setting: Setting, device: torch.device) -> Iterator[list[object]]:
    records = drawn(setting)

    def captions(kind: str | None, place: str) -> list[str]:
        model = BTCChat.from_pretrained(device=place, dtype="bfloat16", quantize=kind)
        return model.answer(records, GenerationOptions(NEW_TOKENS))

    on_cpu, plain = captions(None, "cpu"), captions(None, str(device))
    for kind in KINDS:
        own = plain if kind is None else captions(kind, str(device))
        equal = [f"{sum(map(str.__eq__, own, other))} of {len(own)}" for other in (on_cpu, plain)]
        yield [kind or "as they are", *equal]


def drawn(setting: Setting) -> list[Record]:
    samples = [make_pair(HELD_OUT + number, heldout=True) for number in range(2 if setting.tiny else DRAWN)]
    return [request(CAPTION_QUESTION, "pair", list(map(Image.fromarray, sample.images))) for sample in samples]


def speeds(setting: Setting, device: torch.device, kind: str | None) -> Iterator[list[object]]:
    model = build("3b", device, tiny=setting.tiny).requires_grad_(False)
    if kind is not None:
        quantize(model, kind, str(device))
    new_tokens = 4 if setting.tiny else NEW_TOKENS
    for count in (1, 2) if setting.tiny else BATCHES:
        batch = pairs(model, count)
        write = partial(generate_ids, model, batch)
        rest = reset_peak(device)
        for _ in range(2):  # the second time records the steps
            write(GenerationOptions(new_tokens))
        whole = seconds_of(lambda: write(GenerationOptions(new_tokens)), device)  # noqa: B023
        once = seconds_of(lambda: write(GenerationOptions(1)), device)  # noqa: B023
        step = (whole - once) / (new_tokens - 1)
        taken = "-" if rest is None else f"{memory(device, peak=True) / 1024:.1f}"
        steps = "yes" if recorded.can_record(model.llm.get_decoder()) else "no"
        yield [
            kind or "bfloat16",
            count,
            f"{count / whole:.2f}",
            f"{1000 * once:.1f}",
            f"{1000 * step:.2f}",
            steps,
            taken,
        ]
