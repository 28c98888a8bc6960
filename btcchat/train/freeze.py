"""Which parts are trained: the five ``tune_*`` flags."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from btcchat.checkpoint.adapter import lora_layers
from btcchat.errors import BTCChatError
from btcchat.model import BTCChatModel
from btcchat.train.training_arguments import TrainingArguments

RATES = {  # flag -> the parts that it is for
    "mm_vision_tower_lr": ["vision_tower"],
    "mm_projector_lr": ["change_encoder", "mm_projector"],
    "cc_projector_lr": ["change_encoder"],
}


@dataclass
class ModelPart:
    """A part of the model: whether it is trained, the flag that decides it, and its own learning rate if it has one."""

    name: str
    module: nn.Module
    trainable: bool
    flag: str
    own_rate: float | None = None  # None: --learning_rate

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())


def check_tuned(flags: TrainingArguments) -> None:
    """Raise BTCChatError if the flags alone leave nothing to train, or give a frozen part a learning rate."""
    chosen = _chosen(flags)
    if not flags.lora_enable and not any(trainable for trainable, _ in chosen.values()):
        raise _nothing("every tune_* flag is False")
    for name, affected in RATES.items():
        rate = getattr(flags, name)
        if rate is not None and not any(chosen[part][0] for part in affected):
            frozen = " and ".join(f"{part} is frozen (--{chosen[part][1]} False)" for part in affected)
            raise BTCChatError(f"--{name} is {rate:g}, but {frozen}; train it, or leave the rate out")


def freeze(model: BTCChatModel, flags: TrainingArguments) -> list[ModelPart]:
    """Set ``requires_grad`` of every parameter from the ``tune_*`` flags and return the parts.

    ``tune_mm_projector`` covers the change encoder and the projector; ``tune_cc_projector`` (the change encoder)
    and ``tune_single_projector`` (the projector), if given, override it; likewise ``mm_projector_lr`` and
    ``cc_projector_lr``. `check_tuned` has checked the flags. Raises BTCChatError if no part that they train has
    parameters.
    """
    rate = flags.mm_projector_lr
    rates = {
        "vision_tower": flags.mm_vision_tower_lr,
        "change_encoder": rate if flags.cc_projector_lr is None else flags.cc_projector_lr,
        "mm_projector": rate,
    }
    parts = [ModelPart(name, getattr(model, name), *chosen, rates.get(name)) for name, chosen in _chosen(flags).items()]
    model.requires_grad_(False)
    for part in parts:
        part.module.requires_grad_(part.trainable)
    if lora_layers(model.llm):
        parts = [*parts[:-1], *_llm_with_adapter(model.llm, flags)]
    if not any(part.trainable and part.num_parameters for part in parts):
        raise _nothing(", ".join(f"{part.name} (--{part.flag}) has no parameters" for part in parts if part.trainable))
    return parts


def _nothing(reason: str) -> BTCChatError:
    return BTCChatError(
        f"nothing to train: {reason}; set one of --tune_vision_tower, --tune_mm_projector, --tune_cc_projector, "
        "--tune_single_projector, --tune_language_model, --lora_enable to True"
    )


def _llm_with_adapter(llm: PreTrainedModel, flags: TrainingArguments) -> list[ModelPart]:
    """The frozen language model and its LoRA adapter. Raises BTCChatError if the flags train its own weights too."""
    if flags.tune_language_model:
        raise BTCChatError(
            "--tune_language_model True, but the checkpoint is an adapter; continue with --lora_enable True, "
            "or merge it first: btcchat export --merge ADAPTER OUT"
        )
    adapter = nn.ParameterList(p for name, p in llm.named_parameters() if "lora_" in name)
    base = nn.ParameterList(p for name, p in llm.named_parameters() if "lora_" not in name)
    adapter.requires_grad_(flags.lora_enable)
    return [
        ModelPart("llm", base, False, "tune_language_model"),
        ModelPart("lora", adapter, flags.lora_enable, "lora_enable"),
    ]


def _chosen(flags: TrainingArguments) -> dict[str, tuple[bool, str]]:
    """Part -> (trainable, the flag that decides it)."""
    return {
        "vision_tower": (flags.tune_vision_tower, "tune_vision_tower"),
        "change_encoder": _refined(flags, "tune_cc_projector"),
        "mm_projector": _refined(flags, "tune_single_projector"),
        "llm": (flags.tune_language_model, "tune_language_model"),
    }


def _refined(flags: TrainingArguments, name: str) -> tuple[bool, str]:
    """The part's own flag if given, else --tune_mm_projector."""
    own = getattr(flags, name)
    return (flags.tune_mm_projector, "tune_mm_projector") if own is None else (own, name)


def parts_table(parts: Iterable[ModelPart], learning_rate: float) -> str:
    """Which parts are trained, one per line. learning_rate: that of the parts without their own."""
    parts = list(parts)
    rows = [("module", "parameters", "trainable", "lr")]
    for part in parts:
        rate = f"{learning_rate if part.own_rate is None else part.own_rate:g}" if part.trainable else "-"
        rows.append((part.name, f"{part.num_parameters:,}", "yes" if part.trainable else "no", rate))
    total = sum(part.num_parameters for part in parts)
    trained = sum(part.num_parameters for part in parts if part.trainable)
    rows.append(("all", f"{total:,}", f"{trained:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {yes:>{widths[2]}}  {rate:>{widths[3]}}".rstrip()
        for name, count, yes, rate in rows
    )
