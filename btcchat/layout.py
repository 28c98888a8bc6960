"""Where the parts of a checkpoint folder lie. This is our layout, VILA-1.5's; llava_next.py has the other one."""

from dataclasses import dataclass, field
from pathlib import Path

from btcchat.config import BTCChatConfig
from btcchat.weights import Weights


@dataclass
class Source:
    """What a model is made of. Weights go by the names of our layout, wherever they lie."""

    config: BTCChatConfig
    llm: Weights
    vision_tower: Weights
    mm_projector: Weights | None  # projector and change encoder; None: both start fresh
    llm_folder: Path  # with the tokenizer, and a config.json that says torch_dtype
    tower_folder: Path  # with preprocessor_config.json, where there is one
    notes: list[str] = field(default_factory=list)  # what its files say and is read otherwise, told when it is loaded


def open_folder(folder: Path) -> Source:
    """Read the configs and the headers of the weight files. Raises BTCChatError for what is missing or malformed."""
    return Source(
        BTCChatConfig.load(folder),
        **{part: Weights.of(folder / part) for part in ("llm", "vision_tower", "mm_projector")},
        llm_folder=folder / "llm",
        tower_folder=folder / "vision_tower",
    )


def open_parts(config: BTCChatConfig, llm_folder: Path, tower_folder: Path) -> Source:
    """A language model and a vision tower from folders of their own, to be joined by fresh parts."""
    return Source(config, Weights.of(llm_folder), Weights.of(tower_folder), None, llm_folder, tower_folder)
