"""The config tree of a checkpoint folder, in the published VILA-1.5 layout.

    config.json                 how the parts are put together (the flat fields below)
    llm/config.json             the language model
    vision_tower/config.json    the vision tower
    mm_projector/config.json    the projector, and under ``change_encoder`` the change encoder

Each fact is read from one place. The root config.json also holds copies of the part configs, because the
published loaders expect them there; they are written, never read.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from btcchat.checkpoint import published
from btcchat.checkpoint.schema import (
    ChangeEncoderConfig,
    ChangeThreshold,
    LLMConfig,
    ProjectorConfig,
    Quantization,
    RootConfig,
    VisionTowerConfig,
)
from btcchat.compat.configs import BASE_FIELDS
from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.limits.schema import check
from btcchat.multimodal_projector import projector_name
from btcchat.outputs.ours import NAME
from btcchat.plugins import PluginRecord, records, require
from btcchat.plugins.recorded import read_records, warn_of_scripts
from btcchat.prompt import CAPTION_QUESTION, get_template

if TYPE_CHECKING:
    from btcchat.multimodal_encoder.protocol import VisionTower

PARTS = {"llm": LLMConfig, "vision_tower": VisionTowerConfig, "mm_projector": ProjectorConfig}
AGAIN = "download or save the checkpoint again"


@dataclass
class BTCChatConfig:
    """The config of a checkpoint. ``llm``, ``vision_tower``, ``mm_projector`` and ``change_encoder`` are its parts'.

    ``change_encoder`` is None if the folder does not say (published folders): then the weights decide.
    """

    llm: LLMConfig = field(default_factory=LLMConfig)
    vision_tower: VisionTowerConfig = field(default_factory=VisionTowerConfig)
    mm_projector: ProjectorConfig = field(default_factory=lambda: ProjectorConfig(mm_projector_type="mlp_downsample"))
    change_encoder: ChangeEncoderConfig | None = None
    mm_vision_select_layer: int | list[int] = -2  # index into the tower's hidden states; a list = several depths
    mm_vision_select_feature: str = "cls_patch"  # cls_patch keeps every token, patch drops token 0
    vision_resolution: int = -1  # pixels per side; -1 = the tower's own image_size
    image_aspect_ratio: str = "resize"  # how to handle an image that is not square
    num_video_frames: int = 8  # frames sampled from a video
    series_change_tokens: bool = False  # put the change tokens of consecutive dates between a series' dates
    video_change_tokens: bool = False  # the same for a video's frames
    conv_version: str = "v1"  # conversation template
    caption_question: str = CAPTION_QUESTION
    pair_prompt: str = ""  # text before a pair's question, <image> for each date; empty: a line per image
    training_gsd: float | None = None  # ground sampling distance of the training images, in metres
    change_threshold: ChangeThreshold | None = None  # of its change maps, and the data it was calibrated on
    quantization: Quantization | None = None  # of its weights: see checkpoint.quantize
    plugins: list[PluginRecord] = field(default_factory=list)  # from which parts come; see record_plugins
    published: RootConfig = field(
        default_factory=RootConfig
    )  # config.json of the LLaVA-NeXT folder it was imported from, for an export

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise BTCChatError for a field with an unknown value."""
        self.mm_vision_select_layer = read_layers(self.mm_vision_select_layer)
        check(self.change_encoder or {}, ChangeEncoderConfig, "change encoder")
        get_template(self.conv_version)  # raises for an unknown name

    @property
    def select_layers(self) -> list[int]:
        layer = self.mm_vision_select_layer
        return [layer] if isinstance(layer, int) else list(layer)

    @property
    def known_change_encoder(self) -> ChangeEncoderConfig:
        """The change encoder's config. Raises BTCChatError before the weights have decided it."""
        if self.change_encoder is None:
            raise BTCChatError("the config does not say which change encoder the model has")
        return self.change_encoder

    @property
    def part_names(self) -> dict[str, str | None]:
        """Kind of part -> its name in this config, which may be an alias or a path unknown to the registry."""
        return {
            "change encoder": (self.change_encoder or {}).get("change_encoder_type"),
            "vision tower": self.vision_tower.get("vision_tower_type"),
            "projector": self.mm_projector.get("mm_projector_type"),
            "prompt template": self.conv_version,
            "language model": self.llm.get("model_type"),
        }

    def record_plugins(self) -> None:
        """Update ``plugins`` to those the parts come from; a part may have been replaced since it was loaded."""
        self.plugins = records(self.part_names)

    def require_plugins(self, folder: Path, kind: str) -> None:
        """Raise BTCChatError if the part ``kind`` of a checkpoint folder comes from a plugin that is not enabled."""
        require(self.plugins, folder, [kind])

    @property
    def model_max_length(self) -> int:
        """Longest prompt with its image tokens, in tokens."""
        llm = self.llm
        return int(llm.get("tokenizer_model_max_length") or llm.get("max_position_embeddings") or 2048)

    @model_max_length.setter
    def model_max_length(self, tokens: int) -> None:
        self.llm["tokenizer_model_max_length"] = tokens

    @property
    def hidden_size(self) -> int:
        """Width of the language model; accelerate sizes DeepSpeed's "auto" buckets by it."""
        return self.llm["hidden_size"]

    def has_change_tokens(self, modality: str) -> bool:
        """Whether change tokens go between the frames of this modality. (A pair has only change tokens.)"""
        return {"series": self.series_change_tokens, "video": self.video_change_tokens}.get(modality, False)

    @classmethod
    def load(cls, folder: Path) -> "BTCChatConfig":
        root: RootConfig = read_config(folder / "config.json", RootConfig)
        check_supported(root, folder)
        plugins = read_records(root.get("plugins"), folder)
        # open_checkpoint requires those of the change encoder and the projector, unless a fresh part replaces them.
        require(plugins, folder, ["vision tower", "prompt template", "language model"])
        flat = {f.name for f in fields(cls)} - {*PARTS, "change_encoder", "plugins"}
        parts: dict[str, Any] = {
            part: read_config(folder / part / "config.json", schema) for part, schema in PARTS.items()
        }
        change_encoder = parts["mm_projector"].pop("change_encoder", None)
        # Published part configs list every default of transformers' base class; what is left is the projector's own.
        parts["mm_projector"] = {k: v for k, v in parts["mm_projector"].items() if k not in BASE_FIELDS}
        if "mm_projector_type" in parts["mm_projector"]:
            parts["mm_projector"]["mm_projector_type"] = projector_name(parts["mm_projector"])
        options: dict[str, Any] = {key: value for key, value in root.items() if key in flat and value is not None}
        return cls(**parts, change_encoder=change_encoder, plugins=plugins, **options)

    def describe_tower(self, tower: "VisionTower") -> None:
        """Record the vision tower's current config and resolution; a resize changes both."""
        self.vision_tower = cast(VisionTowerConfig, dict(tower.config))
        self.vision_resolution = tower.resolution

    def write(self, folder: Path, more: RootConfig | None = None) -> None:
        """Write the part configs that are ours (not llm/, which its own library writes), then config.json last.

        more: further keys of config.json.
        """
        self.record_plugins()
        warn_of_scripts(self.plugins)
        tree = asdict(self)
        for optional in ("plugins", "training_gsd", "change_threshold", "quantization"):
            if not tree[optional]:
                del tree[optional]
        change_encoder = tree.pop("change_encoder")
        parts = {part: tree.pop(part) for part in PARTS}
        parts["mm_projector"] |= {"model_type": "v2l_projector", "change_encoder": change_encoder}
        reason = published.obstacle(self, adapter=bool(more))
        if reason is None:
            published.add_keys(parts)
        else:
            published.say(reason)
        for part in ("vision_tower", "mm_projector"):
            write_json(folder / part / "config.json", parts[part], sort_keys=True)
        copies = {f"{part}_cfg": config for part, config in parts.items()}
        names: RootConfig = {"model_type": "llava_llama", "architectures": ["LlavaLlamaModel"], "saved_by": NAME}
        names["published_layout"] = reason is None
        write_json(folder / "config.json", {**names, **tree, **copies, **(more or {})}, sort_keys=True)


def check_supported(root: RootConfig, folder: Path) -> None:
    """Raise BTCChatError if the config.json of a published folder needs a feature that is not supported."""
    for key, meaning in (("s2", "multi-scale S2 features"), ("mm_use_im_start_end", "image start/end tokens")):
        if root.get(key):
            raise BTCChatError(f"{folder / 'config.json'}: {key} is true; {meaning} are not supported")


def read_layers(layers: str | int | list[int]) -> int | list[int]:
    """mm_vision_select_layer as it is, or from JSON text: "-2", "[-11,-8,-5,-2]" (flags, published CCExpert)."""
    try:
        value: Any = json.loads(layers) if isinstance(layers, str) else layers
    except json.JSONDecodeError:
        value = None
    if not all(type(layer) is int for layer in (value if isinstance(value, list) else [value])):
        raise BTCChatError(
            f"mm_vision_select_layer is {layers!r}, expected one layer such as -2 or a list such as [-5,-2]"
        )
    read: int | list[int] = value
    return read


def read_config(path: Path, schema: type[Any]) -> Any:
    """The JSON object in a file of a checkpoint folder, checked against a type of schema.py. Raises BTCChatError."""
    layout = "a checkpoint folder has config.json, llm/, vision_tower/ and mm_projector/"
    return read_json(path, schema=schema, missing=layout, way_out=AGAIN)
