"""Where the parts of a checkpoint folder are. This is our layout, VILA-1.5's; llava_next.py has the other one."""

from dataclasses import dataclass, field
from pathlib import Path

from btcchat.checkpoint.config import PARTS, BTCChatConfig
from btcchat.checkpoint.weights import Weights
from btcchat.language_model import read_settings
from btcchat.language_model.sizes import check_sizes as check_llm_sizes
from btcchat.multimodal_encoder import check_sizes


@dataclass
class CheckpointSource:
    """The parts that a model is built from. Weights have the names of our layout, whichever files hold them."""

    config: BTCChatConfig
    llm: Weights
    vision_tower: Weights
    mm_projector: Weights | None  # projector and change encoder; None: both start fresh
    llm_folder: Path  # with the tokenizer, and a config.json that says the weights' dtype
    tower_folder: Path  # with preprocessor_config.json, if there is one
    notes: list[str] = field(default_factory=list)  # warnings to log when it is loaded


def open_folder(folder: Path) -> CheckpointSource:
    """Read the configs and the headers of the weight files. Raises BTCChatError for what is missing or malformed."""
    config = BTCChatConfig.load(folder)
    weights = {part: Weights.of(folder / part) for part in PARTS}
    file = folder / "vision_tower" / "config.json"
    check_sizes(config.vision_tower, weights["vision_tower"], file, "download or save the checkpoint again")
    return CheckpointSource(
        config,
        llm=weights["llm"],
        vision_tower=weights["vision_tower"],
        mm_projector=weights["mm_projector"],
        llm_folder=folder / "llm",
        tower_folder=folder / "vision_tower",
    )


def open_parts(config: BTCChatConfig, llm_folder: Path, tower_folder: Path) -> CheckpointSource:
    """A language model and a vision tower in separate folders, to be joined by fresh parts."""
    tower = Weights.of(tower_folder)
    check_sizes(config.vision_tower, tower, tower_folder / "config.json", "download or save the tower again")
    llm = Weights.of(llm_folder)
    check_llm_sizes(read_settings(config.llm), llm)
    return CheckpointSource(config, llm, tower, None, llm_folder, tower_folder)
