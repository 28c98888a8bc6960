"""Which parts are trained: the five ``tune_*`` flags."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from btcchat.errors import BTCChatError


@dataclass
class Part:
    """A part of the model and what becomes of it. ``flag``: the one that decides."""

    name: str
    module: nn.Module
    trainable: bool
    flag: str

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())


def freeze(model: nn.Module, flags) -> list[Part]:
    """Set ``requires_grad`` of every parameter by the ``tune_*`` flags and return the parts.

    ``tune_mm_projector`` is the change encoder and the projector proper; ``tune_cc_projector`` (the change encoder)
    and ``tune_single_projector`` (the projector proper), where given, refine it. Raises BTCChatError when nothing
    is left to train.
    """
    general = flags.tune_mm_projector
    parts = [
        Part("vision_tower", model.vision_tower, flags.tune_vision_tower, "tune_vision_tower"),
        Part("change_encoder", model.change_encoder, *_refined(flags, "tune_cc_projector", general)),
        Part("mm_projector", model.mm_projector, *_refined(flags, "tune_single_projector", general)),
        Part("llm", model.llm, flags.tune_language_model, "tune_language_model"),
    ]
    model.requires_grad_(False)
    for part in parts:
        part.module.requires_grad_(part.trainable)
    if not any(part.trainable and part.num_parameters for part in parts):
        asked = ", ".join(f"{part.name} (--{part.flag}) has no parameters" for part in parts if part.trainable)
        raise BTCChatError(
            f"nothing to train: {asked or 'every tune_* flag is False'}; set one of --tune_vision_tower, "
            "--tune_mm_projector, --tune_cc_projector, --tune_single_projector, --tune_language_model to True"
        )
    return parts


def _refined(flags, name: str, general: bool) -> tuple[bool, str]:
    own = getattr(flags, name)
    return (general, "tune_mm_projector") if own is None else (own, name)


def table(parts: Iterable[Part], learning_rate: float) -> str:
    """What is trained, for the log: one line a part."""
    parts = list(parts)
    rows = [("module", "parameters", "trainable", "lr")]
    for part in parts:
        rate = f"{learning_rate:g}" if part.trainable else "-"
        rows.append((part.name, f"{part.num_parameters:,}", "yes" if part.trainable else "no", rate))
    total = sum(part.num_parameters for part in parts)
    trained = sum(part.num_parameters for part in parts if part.trainable)
    rows.append(("all", f"{total:,}", f"{trained:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {yes:>{widths[2]}}  {rate:>{widths[3]}}".rstrip()
        for name, count, yes, rate in rows
    )
