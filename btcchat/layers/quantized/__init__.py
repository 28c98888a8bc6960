"""Linear layers of 8 and 4 bits: by torch's own operators on the CPU, by bitsandbytes on CUDA."""

from torch import nn


def put(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Make ``layer`` the submodule ``name`` of ``root`` (set_submodule in torch 2.5)."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, layer)
