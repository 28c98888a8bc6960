"""Build a model's parts from its config, and count the tokens they make of a sample. No weights are read."""

from functools import partial
from typing import cast

from transformers import PreTrainedTokenizerBase

from btcchat.change_encoder import build_change_encoder, canonical, encoder_defaults
from btcchat.change_encoder.contract import Sizes as EncoderSizes
from btcchat.change_encoder.contract import check_encoder
from btcchat.change_encoder.protocol import ChangeEncoder, ChangeEncoderModule, PoolsTokens
from btcchat.checkpoint.config import BTCChatConfig, read_config
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.schema import ChangeEncoderConfig, PreprocessorConfig, ProjectorConfig
from btcchat.errors import BTCChatError
from btcchat.language_model.tokenizer import load_tokenizer
from btcchat.layers.empty_weights import init_empty_weights
from btcchat.multimodal_encoder import build_vision_tower, tower_name
from btcchat.multimodal_encoder.contract import check_tower
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_encoder.protocol import VisionTower, VisionTowerModule
from btcchat.multimodal_projector import build_projector, projector_defaults, projector_name
from btcchat.multimodal_projector.contract import Sizes as ProjectorSizes
from btcchat.multimodal_projector.contract import check_projector
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
    projector.num_tokens(tower.num_tokens)  # raises here if the two do not fit
    return projector


def record_defaults(config: BTCChatConfig) -> None:
    """Store the defaults of options that the configs of the change encoder and the projector leave out.

    A saved model keeps them if a later version of a plugin has other defaults.
    """
    encoder = canonical(config.known_change_encoder)
    options = encoder_defaults(encoder["change_encoder_type"]) | encoder
    config.change_encoder = cast(ChangeEncoderConfig, options)
    config.mm_projector = cast(ProjectorConfig, projector_defaults(config.mm_projector) | {**config.mm_projector})


def check_parts(
    config: BTCChatConfig,
    tower: VisionTower,
    change_encoder: ChangeEncoderModule,
    mm_projector: ProjectorModule,
    device: str = "cpu",
) -> None:
    """Check parts from outside the package against their contracts, on small instances.

    Raises BTCChatError naming the part. See `check_vision_tower` for the tower.
    """
    sizes = EncoderSizes(tower.hidden_size, tower.grid, tower.num_depths)
    encoder_config = config.known_change_encoder
    name = canonical(encoder_config)["change_encoder_type"]
    check_encoder(name, change_encoder, partial(build_change_encoder, encoder_config), sizes, device)
    widths = (tower.hidden_size, config.llm["hidden_size"])
    counts = dict.fromkeys((tower.num_tokens, tokens_of(change_encoder, tower)))
    build = partial(build_projector, config.mm_projector)
    name = projector_name(config.mm_projector)
    check_projector(name, mm_projector, build, ProjectorSizes(*widths, tuple(counts)), device)


def check_vision_tower(config: BTCChatConfig, tower: VisionTowerModule) -> None:
    """The same for the model's own tower, with its weights: it is too large to build twice."""
    check_tower(tower_name(config.vision_tower), tower)


def tokens_of(change_encoder: ChangeEncoder, tower: VisionTower) -> int:
    """L': tokens of a change segment before the projector."""
    count = tower.num_tokens
    return change_encoder.num_tokens(count) if isinstance(change_encoder, PoolsTokens) else count


def resize_tower(tower: VisionTower, config: BTCChatConfig) -> None:
    if config.vision_resolution not in (-1, tower.resolution):
        tower.resize(config.vision_resolution)


def layout_of(
    config: BTCChatConfig, tower: VisionTower, change_encoder: ChangeEncoder, mm_projector: Projector
) -> TokenLayout:
    """How many tokens a sample has, as its parts determine it."""
    return TokenLayout(
        image_tokens=mm_projector.num_tokens(tower.num_tokens),
        change_tokens=_change_tokens(config, tower, change_encoder, mm_projector),
        change_segments=change_encoder.segments,
        change_between=tuple(name for name in ("series", "video") if config.has_change_tokens(name)),
    )


def _change_tokens(
    config: BTCChatConfig, tower: VisionTower, change_encoder: ChangeEncoder, mm_projector: Projector
) -> int:
    """Tokens of a change segment. Raises BTCChatError naming the change encoder if the projector does not take them."""
    count = tokens_of(change_encoder, tower)
    try:
        return mm_projector.num_tokens(count)
    except BTCChatError as error:
        name = canonical(config.known_change_encoder)["change_encoder_type"]
        raise BTCChatError(
            f"change encoder '{name}': num_tokens({tower.num_tokens}) is {count}, but projector "
            f"'{projector_name(config.mm_projector)}' does not take {count} tokens; correct num_tokens, or use another "
            "projector, e.g. --fresh_mm_projector True --mm_projector mlp2x_gelu"
        ) from error


def token_layout(config: BTCChatConfig) -> tuple[TokenLayout, VisionTowerModule]:
    """The layout, and the vision tower that it was computed with: parts without memory for weights."""
    with init_empty_weights():
        tower = vision_tower_of(config)
        resize_tower(tower, config)
        parts = tower, change_encoder_of(config, tower), projector_of(config, tower)
    return layout_of(config, *parts), tower


def read_tokenizer(source: CheckpointSource) -> PreTrainedTokenizerBase:
    return load_tokenizer(source.llm_folder)


def read_image_processor(source: CheckpointSource, tower: VisionTower) -> ImageProcessor:
    """The image processor of the checkpoint's preprocessor_config.json, at the tower's size."""
    file = source.tower_folder / "preprocessor_config.json"
    config = read_config(file, PreprocessorConfig) if file.exists() else tower.default_preprocessor_config()
    processor = ImageProcessor.from_config(config, aspect_ratio=source.config.image_aspect_ratio)
    if not isinstance(processor.size, int):
        processor.size = (tower.resolution, tower.resolution)
    return processor
