"""Shared by all golden sets: comparing two values, and loading weights into a part."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from btcchat.multimodal_encoder.preprocess import ImageProcessor

# Absolute tolerances: the measured error of float32 against float64, with room for another order of summation.
CHANGE = 2e-4  # set A; its outputs reach 135
FEATURES = 2e-5  # sets B and C, and the image features of D
LANGUAGE = 1e-4  # embeddings, hidden states, logits, log-probabilities, losses
EXACT = 0  # texts, ids, labels: how many differ
GREY = 1.001  # pixels, in grey levels of 255; the thousandth is for float32

# Where parts and checkpoints are computed, as arguments of from_pretrained; benchmarks/gpu.py changes it.
PLACE = {"device": "cpu", "dtype": "float32"}


class Comparison(NamedTuple):
    """The error of one of our values, or of several, against the golden ones."""

    what: str
    error: float  # largest absolute error; for EXACT the number of entries that differ
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    @property
    def used(self) -> float:
        """The error as a share of the tolerance."""
        return self.error / self.tolerance if self.tolerance else float("inf") if self.error else 0.0

    def columns(self) -> str:
        error = f"{self.error:.0f}" if self.tolerance == EXACT and self.error < float("inf") else f"{self.error:.1e}"
        tolerance = "exact" if self.tolerance == EXACT else f"{self.tolerance:.0e}"
        return f"{self.what:<34}{error:>14}{tolerance:>11}  {'pass' if self.passed else 'FAIL'}"


def distance(ours: Tensor, golden: Tensor) -> float:
    """Largest absolute difference; infinite if the shapes differ or a value is not finite."""
    if ours.shape != golden.shape or not ours.isfinite().all():
        return float("inf")
    return (ours.double() - golden.to(ours.device).double()).abs().max().item() if golden.numel() else 0.0


def differing(pairs: Iterable[tuple]) -> int:
    """How many (ours, golden) pairs are not equal."""
    return sum(ours != golden for ours, golden in pairs)


def load(module: torch.nn.Module, weights: dict, prefix: str = "", unused: Iterable[str] = ()) -> torch.nn.Module:
    """Load the ``prefix`` part of ``weights`` into ``module``, strictly, in float32, on the device of ``PLACE``."""
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    own = {key: value for key, value in own.items() if not any(re.fullmatch(p, key) for p in unused)}
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in own.items()})
    return module.to(PLACE["device"]).eval()


def load_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the device of ``PLACE``."""
    return safetensors.torch.load_file(path, device=PLACE["device"])


def grey_levels(ours: Tensor, golden: Tensor, processor: ImageProcessor) -> float:
    """Largest difference in grey levels of 255."""
    if ours.shape != golden.shape:
        return float("inf")
    std = torch.tensor(processor.std)[:, None, None]
    return ((ours - golden.to(ours.device)).abs() * std / processor.rescale_factor).max().item()


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
