"""The parts of a model from its config: built, and what they make of a sample counted. No weights are read."""

from accelerate import init_empty_weights
from transformers import PreTrainedTokenizerBase

from btcchat.change_encoder import build_change_encoder
from btcchat.change_encoder.protocol import ChangeEncoder, ChangeEncoderModule, PoolsTokens
from btcchat.checkpoint.config import BTCChatConfig, read_config
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.language_model import load_tokenizer
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_encoder.protocol import VisionTower, VisionTowerModule
from btcchat.multimodal_projector import build_projector
from btcchat.multimodal_projector.protocol import Projector, ProjectorModule
from btcchat.prompt.token_layout import TokenLayout


def vision_tower_of(config: BTCChatConfig) -> VisionTowerModule:
    return build_vision_tower(
        config.vision_tower,
        select_layer=config.select_layers,
        select_feature=config.mm_vision_select_feature,
    )


def change_encoder_of(config: BTCChatConfig, tower: VisionTower) -> ChangeEncoderModule:
    return build_change_encoder(
        config.known_change_encoder, hidden_size=tower.hidden_size, grid=tower.grid, num_depths=tower.num_depths
    )


def projector_of(config: BTCChatConfig, tower: VisionTower) -> ProjectorModule:
    projector = build_projector(
        config.mm_projector, in_features=tower.hidden_size, out_features=config.llm["hidden_size"]
    )
    projector.num_tokens(tower.num_tokens)  # raises now where the two do not fit
    return projector


def resize_tower(tower: VisionTower, config: BTCChatConfig) -> None:
    if config.vision_resolution not in (-1, tower.resolution):
        tower.resize(config.vision_resolution)


def layout_of(
    config: BTCChatConfig, tower: VisionTower, change_encoder: ChangeEncoder, mm_projector: Projector
) -> TokenLayout:
    """The counts of a sample's tokens that follow from the parts."""
    count = tower.num_tokens
    pooled = change_encoder.num_tokens(count) if isinstance(change_encoder, PoolsTokens) else count
    return TokenLayout(
        image_tokens=mm_projector.num_tokens(count),
        change_tokens=mm_projector.num_tokens(pooled),
        change_segments=change_encoder.segments,
        change_between=tuple(name for name in ("series", "video") if config.has_change_tokens(name)),
    )


def token_layout(config: BTCChatConfig) -> tuple[TokenLayout, VisionTowerModule]:
    """The layout, and the vision tower that it was counted with: parts without memory for weights."""
    with init_empty_weights(include_buffers=False):
        tower = vision_tower_of(config)
        resize_tower(tower, config)
        parts = tower, change_encoder_of(config, tower), projector_of(config, tower)
    return layout_of(config, *parts), tower


def read_tokenizer(source: CheckpointSource) -> PreTrainedTokenizerBase:
    return load_tokenizer(source.llm_folder)


def read_image_processor(source: CheckpointSource, tower: VisionTower) -> ImageProcessor:
    """As the checkpoint's preprocessor_config.json says, at the tower's size."""
    file = source.tower_folder / "preprocessor_config.json"
    config = read_config(file) if file.exists() else tower.default_preprocessor_config()
    processor = ImageProcessor.from_config(config, aspect_ratio=source.config.image_aspect_ratio)
    if not isinstance(processor.size, int):
        processor.size = (tower.resolution, tower.resolution)
    return processor
