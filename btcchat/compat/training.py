"""Workarounds that libraries of training need to work together; each one names the version it is for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig


def allow_random_states() -> None:
    """Let ``torch.load(weights_only=True)``, the default since torch 2.6, read numpy's random state.

    The Trainer of transformers 4.36 saves it in rng_state.pth and loads it on resume.
    """
    import numpy as np

    from btcchat.compat.torch_floor import allow_globals

    multiarray = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1
    allow_globals([multiarray.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))])


def set_precision(name: str) -> None:
    """Make a training run compute in ``name`` (no, bf16 or fp16).

    accelerate 0.34 keeps the precision of a process's first run in its shared state, and the Trainer in the
    environment; a second run would silently use it too.
    """
    import os

    from accelerate.state import AcceleratorState

    os.environ["ACCELERATE_MIXED_PRECISION"] = name
    AcceleratorState._reset_state()


def prepare_deepspeed() -> None:
    """Let DeepSpeed on CPUs exchange gradients through gloo, and silence its use of names that torch 2.13 deprecates.

    DeepSpeed 0.19 would first compile an op for processes of one machine, which takes over ten minutes.
    """
    import warnings

    import torch

    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if not torch.cuda.is_available():
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def fill_prefetch_size(config: "HfTrainerDeepSpeedConfig", hidden_size: int) -> None:
    """Fill in ZeRO-3's "auto" prefetch size as a whole number, which DeepSpeed 0.19 requires.

    transformers 4.36 would fill in 0.9 * hidden_size**2.
    """
    config.fill_only("zero_optimization.stage3_prefetch_bucket_size", 9 * hidden_size**2 // 10)


@contextmanager
def whole_weights() -> Iterator[None]:
    """Build a model unsplit under ZeRO-3, which splits it afterwards.

    transformers 4.36 would split the language model while it is built, before its weights are loaded.
    """
    from transformers.integrations import deepspeed as integration

    kept = integration._hf_deepspeed_config_weak_ref
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration._hf_deepspeed_config_weak_ref = kept
