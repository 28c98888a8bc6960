"""Check that recorded decoding steps give the plain loop's answers on the GPU; time new shapes in torch's attention."""

from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btcchat import BTCChat
from btcchat.compat.decoding import takes_finished_masks
from btcchat.decoding import recorded
from btcchat.eval.encoders.markdown import table
from btcchat.generation import Decoder, GenerationOptions, read_prompts
from btcchat.layers.attention_kernels import without_cudnn
from gpu_rows.models import build, pairs
from gpu_rows.setting import Setting
from gpu_rows.speed import device_of, seconds_of

HEAD = ("dtype", "answers equal", "tokens equal", "shapes recorded")
SHAPES = 8


def measure(setting: Setting) -> Iterator[str]:
    """Raises RuntimeError if answers in float32 differ, or no step was recorded.

    One answer may differ: two tokens can be equally likely up to the order of a sum.
    """
    device = device_of(setting)
    new_tokens = 8 if setting.tiny else 40
    lines: list[list[object]] = []
    text = ""
    for dtype in (torch.float32, torch.bfloat16):
        model = build("mid", device, dtype=dtype, tiny=setting.tiny).requires_grad_(False)
        [prompt] = read_prompts(model, pairs(model, 1))
        prompts = [prompt[: len(prompt) - 3 * number] for number in range(12)]
        with mock.patch.object(recorded, "can_record", fixed_on_cpu if setting.tiny else recorded.can_record):
            found, shapes = answers(model, prompts, new_tokens)
        with mock.patch.object(recorded, "can_record", lambda decoder: False):
            expected, _ = answers(model, prompts, new_tokens)
        rows = sum(one == other for one, other in zip(found, expected, strict=True))
        both = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=False)]
        tokens = sum(one == other for one, other in both)
        name = str(dtype).removeprefix("torch.")
        lines.append([name, f"{rows} of {len(found)}", f"{tokens} of {len(both)}", shapes])
        text = f"12 rows of different lengths, half of which join later.\n\n{table(HEAD, lines)}"
        yield text
        if dtype == torch.float32 and rows < len(found) - 1:
            raise RuntimeError(f"float32: {rows} of {len(found)} answers equal those of the plain loop")
        if not (shapes or setting.tiny):
            raise RuntimeError("no step was recorded")
    if device.type == "cuda":
        first, again = new_shapes(device)
        with without_cudnn(device):
            other, other_again = new_shapes(device)
        yield (
            f"{text}\n\nAttention of one token on a new number of keys, the first time and again: {first:.1f} and "
            f"{again:.2f} ms as torch chooses, {other:.1f} and {other_again:.2f} ms without cuDNN."
        )


@torch.no_grad()
def answers(model: BTCChat, prompts: list[Tensor], new_tokens: int) -> tuple[list[list[int]], int]:
    """The ids of an answer to each prompt, and how many shapes were recorded."""
    decoder = Decoder(model)
    rows = [decoder.join(one, GenerationOptions(new_tokens)) for one in prompts[::2]]
    for _ in range(4):
        decoder.step()
    rows += [decoder.join(one, GenerationOptions(new_tokens)) for one in prompts[1::2]]
    decoder.finish()
    steps = getattr(decoder._cache, "_steps", {}).values()
    return [row.ids for row in rows], sum(step.graph is not None for step in steps)


def fixed_on_cpu(decoder: nn.Module) -> bool:
    """For --tiny: use the fixed shapes of recorded steps, which a CPU computes each time."""
    return takes_finished_masks()


def new_shapes(device: torch.device) -> tuple[float, float]:
    """Milliseconds of attention on new numbers of keys, and on the same numbers again."""
    query = torch.randn(3, 8, 1, 128, device=device).bfloat16()

    def attend(keys: Tensor) -> float:
        return seconds_of(lambda: F.scaled_dot_product_attention(query, keys, keys), device)

    given = [torch.randn(3, 8, 301 + number, 128, device=device).bfloat16() for number in range(SHAPES + 1)]
    attend(given[0])
    first = sum(map(attend, given[1:])) / SHAPES
    return 1000 * first, 1000 * sum(map(attend, given[1:])) / SHAPES
