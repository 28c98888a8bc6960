"""The JSON files of a checkpoint folder, as far as code here reads them.

Other keys are allowed everywhere and are written back as they were read.
"""

from typing import Any, TypedDict


class LLMConfig(TypedDict, total=False):
    """llm/config.json, in the words of transformers."""

    model_type: str
    architectures: list[str]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    tokenizer_model_max_length: int | None  # VILA's: tokens of the longest sample
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None
    tie_word_embeddings: bool
    initializer_range: float
    torch_dtype: str | None  # of the stored weights
    dtype: str | None  # the same, by the name that newer transformers gives it
    _name_or_path: str


class VisionTowerConfig(TypedDict, total=False):
    """vision_tower/config.json. Which keys there are depends on the kind of tower."""

    vision_tower_type: str
    model_type: str
    model_name: str  # of a tower of timm or open_clip
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_stored_layers: int  # fewer where a published folder leaves out the layers above the selected one
    num_attention_heads: int
    image_size: int
    patch_size: int
    vision_config: dict[str, Any]  # of a full SigLIP: the sizes of its vision half
    _name_or_path: str


class ProjectorConfig(TypedDict, total=False):
    """mm_projector/config.json without ``change_encoder``. Other keys are the projector's own options."""

    mm_projector_type: str


class ChangeEncoderConfig(TypedDict, total=False):
    """``change_encoder`` in mm_projector/config.json. Other keys are options of that encoder."""

    change_encoder_type: str
    cc_n_layers: int
    cc_head: int
    cc_dropout: float


class AdapterConfig(TypedDict, total=False):
    """llm/adapter_config.json, in the words of peft's LoraConfig."""

    peft_type: str
    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: list[str]


class RootConfig(TypedDict, total=False):
    """config.json of a folder in any layout; those of LLaVA-NeXT describe all parts there."""

    model_type: str
    architectures: list[str]
    saved_by: str  # btcchat, in a folder that `save` may replace
    base_model: dict[str, Any]  # of an adapter folder: see adapter.Base
    plugins: list[dict[str, Any]]  # that parts come from: see plugins.recorded
    s2: bool
    mm_use_im_start_end: bool
    vocab_size: int
    mm_vision_tower: str | None
    mm_vision_select_layer: str | int | list[int]
    mm_projector_type: str
    mm_resampler_type: str | None
    cc_expert_args: str | dict[str, Any] | None
    image_aspect_ratio: str | None
    mm_patch_merge_type: str | None
    rope_scaling: dict[str, Any] | None
