"""Workarounds for training libraries that do not fit together; each one names the version it is for."""


def forget_accelerator() -> None:
    """Let the next run of this process have its own device, precision and DeepSpeed config.

    accelerate keeps those of the first run in the environment and in state that all Accelerators share.
    """
    import os

    from accelerate.state import AcceleratorState

    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_DEEPSPEED"):
        os.environ.pop(name, None)
    AcceleratorState._reset_state(reset_partial_state=True)


def build_models_whole() -> None:
    """Let transformers build a language model in one piece, into which a checkpoint's weights are read.

    accelerate from 1.1 passes it a ZeRO-3 config as soon as there is one, and transformers would split the empty model.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


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
