"""The comparisons of benchmarks/golden.py on the GPU: in float32 without TF32, and in bfloat16."""

from collections.abc import Iterator
from pathlib import Path

import torch

import golden
from golden_sets import common
from golden_sets.common import EXACT, GREY, Comparison
from gpu_rows.setting import NotRunError, Setting
from gpu_rows.speed import device_of

# Tolerances of whole checkpoints in bfloat16, by a word in the comparison's name: three times the largest error on a
# CPU, where tensors are off by 0.47 (values reach 20), losses by 0.015, and one answer of five has another word.
BFLOAT16 = {"greedy ids": 3, "loss": 0.05, "": 1.4}


@torch.no_grad()
def measure(setting: Setting) -> Iterator[str]:
    """Sets of whole checkpoints are computed in both, sets of parts in float32 only. The log has every comparison."""
    if not setting.golden:
        raise NotRunError("there are no golden sets; give a folder with --golden or --packed")
    common.PLACE["device"] = str(device_of(setting))
    # Tolerances are those of float32: TF32 keeps 10 bits of 23.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    text, failed, total = "", 0, 0
    for title, dtype in (("float32, TF32 off", "float32"), ("bfloat16, whole checkpoints", "bfloat16")):
        text += f"{title}:\n\n```\n"
        for name, rows in compared(setting, dtype):
            for row in rows:
                print(f"{dtype:<10}{name:<32}{row.columns()}", flush=True)
            worst = max(rows, key=lambda row: (not row.passed, row.used))
            shown = [row for row in rows if row is worst or not row.passed]
            text += "".join(f"{name:<32}{len(rows):>3} compared  {row.columns()}\n" for row in shown)
            failed, total = failed + sum(not row.passed for row in rows), total + len(rows)
            yield f"{text}```\n\n{total - failed} of {total} comparisons pass so far\n"
        text += "```\n\n"
    if not total:
        raise NotRunError(f"{setting.golden} has no golden sets")
    yield f"{text}**{total - failed} of {total} comparisons pass**\n"
    if failed:
        raise RuntimeError(f"{failed} of {total} comparisons fail")


def compared(setting: Setting, dtype: str) -> Iterator[tuple[str, list[Comparison]]]:
    """Name and comparisons of each set."""
    common.PLACE["dtype"] = dtype
    for name, rows in golden.run(Path(setting.golden)):
        if dtype == "float32":
            yield name, rows
        elif "checkpoint" in name:
            yield name, [in_bfloat16(row) for row in rows]


def in_bfloat16(row: Comparison) -> Comparison:
    """The same comparison with the tolerance of bfloat16."""
    if row.tolerance in (EXACT, GREY) and row.what != "greedy ids":
        return row
    return row._replace(tolerance=next(most for word, most in BFLOAT16.items() if word in row.what))
