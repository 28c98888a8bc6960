"""Linear layers of 8 and 4 bits: for the CPU by torch's own operators, for CUDA by bitsandbytes."""

from torch import nn


def put(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Make ``layer`` the submodule ``name`` of ``root`` (torch 2.5 has this as set_submodule)."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, layer)
