"""What the pinned libraries need to work together; each entry says which version it is for."""


def allow_random_states() -> None:
    """Let ``torch.load(weights_only=True)``, the default since torch 2.6, read numpy's random state.

    The Trainer of transformers 4.36 saves it in rng_state.pth and loads it on resume.
    """
    import numpy as np
    import torch

    multiarray = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1
    torch.serialization.add_safe_globals(
        [multiarray.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]
    )


def set_precision(name: str) -> None:
    """Make a training run compute in ``name`` (no, bf16 or fp16).

    accelerate 0.34 keeps the precision of a process's first run in its shared state, and the Trainer in the
    environment; a second run would silently be given it too.
    """
    import os

    from accelerate.state import AcceleratorState

    os.environ["ACCELERATE_MIXED_PRECISION"] = name
    AcceleratorState._reset_state()


def new_tokens(ids):
    """What ``generate(inputs_embeds=...)`` gave, without the BOS column that transformers before 4.38 puts first."""
    import transformers
    from packaging.version import Version

    return ids[:, 1:] if Version(transformers.__version__) < Version("4.38") else ids
