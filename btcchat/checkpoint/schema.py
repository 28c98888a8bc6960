"""The keys that this package reads from a checkpoint's JSON files; `config.read_config` checks files against them.

Other keys are allowed everywhere and are written back unchanged. A number that decides how much memory is taken
before the weights are looked at has an upper bound, far above that of any published model.
"""

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12

from btcchat.limits.schema import Count, Metres, Number, Share

Layers = Annotated[int, Field(ge=1, le=1000)]
Pixels = Annotated[int, Field(ge=1, le=8192)]  # side of the images that a vision tower reads
Positions = Annotated[int, Field(ge=1, le=2**24)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]


QuantizedKind = Literal["int8", "int4"]
QuantizedPart = Literal["llm", "vision_tower"]


class LLMConfig(TypedDict, total=False):
    """llm/config.json, with the keys of transformers."""

    model_type: str
    architectures: list[str]
    vocab_size: Count
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Layers
    num_attention_heads: Count
    num_key_value_heads: Count | None
    head_dim: Count | None
    max_position_embeddings: Positions
    tokenizer_model_max_length: Count | None  # VILA's: maximum tokens in a sample
    tokenizer_padding_side: str | None  # VILA's
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    tie_word_embeddings: bool
    attention_bias: bool
    attention_dropout: Share
    use_sliding_window: bool
    hidden_act: str
    rms_norm_eps: Number
    rope_theta: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    rope_scaling: dict[str, Any] | None
    rope_parameters: dict[str, Any] | None
    pretraining_tp: Annotated[int, Field(ge=1, le=64)]
    initializer_range: Number
    torch_dtype: str | None  # of the stored weights
    dtype: str | None  # the same in newer transformers
    _name_or_path: str | None


class TokenizerConfig(TypedDict, total=False):
    """llm/tokenizer_config.json; transformers reads its other keys."""

    tokenizer_class: str | None


class VisionTowerConfig(TypedDict, total=False):
    """vision_tower/config.json. Which keys there are depends on the kind of tower."""

    vision_tower_type: str | None
    model_type: str
    model_name: str  # of a timm or open_clip tower
    pretrained: bool | str | None
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Layers
    num_stored_layers: Layers  # fewer if a published folder leaves out layers above the selected one
    num_attention_heads: Count
    num_channels: Count
    image_size: Pixels | None
    patch_size: Pixels
    hidden_act: str
    layer_norm_eps: Number
    vision_config: dict[str, Any]  # of a full SigLIP: the sizes of its vision half
    _name_or_path: str | None


class PreprocessorConfig(TypedDict, total=False):
    """vision_tower/preprocessor_config.json, with the keys of transformers."""

    size: Pixels | dict[str, Pixels]
    image_mean: Triple
    image_std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]
    resample: Annotated[int, Field(ge=0, le=5)]
    rescale_factor: Number
    do_normalize: bool | None
    do_rescale: bool | None


class ProjectorConfig(TypedDict, total=False):
    """mm_projector/config.json without ``change_encoder``. Other keys are the projector's own options."""

    mm_projector_type: str
    change_encoder: dict[str, Any] | None


class ChangeEncoderConfig(TypedDict, total=False):
    """``change_encoder`` in mm_projector/config.json. Other keys are options of that encoder."""

    change_encoder_type: str
    cc_n_layers: Annotated[int, Field(ge=0, le=1000)]
    cc_head: Count
    cc_dropout: Share
    per_expert_depth: Annotated[int, Field(ge=0, le=100)]
    mlp_dim: Annotated[int, Field(ge=1, le=100_000)] | None
    downsample_ratio: Annotated[int, Field(ge=1, le=100)]


class AdapterConfig(TypedDict, total=False):
    """llm/adapter_config.json, with the keys of peft's LoraConfig."""

    peft_type: str
    r: Annotated[int, Field(ge=1, le=65536)]
    lora_alpha: Number
    lora_dropout: Share
    target_modules: Annotated[list[str], Field(min_length=1)]


class BaseModel(TypedDict, total=False):
    """``base_model`` in the config.json of an adapter folder."""

    path: str
    fingerprint: str
    parts: list[str]


class ChangeThreshold(TypedDict):
    """``change_threshold`` in config.json: the value of a change map above which a place has changed."""

    value: Share
    chosen_on: str  # the pairs it was calibrated on, in words


class Quantization(TypedDict):
    """``quantization`` in config.json: how the linear layers of ``parts`` are stored."""

    kind: QuantizedKind
    parts: Annotated[list[QuantizedPart], Field(min_length=1)]


class RootConfig(TypedDict, total=False):
    """config.json of a folder in any layout; in LLaVA-NeXT folders it describes all parts."""

    model_type: str
    architectures: list[str] | None
    published_layout: bool  # whether the published code opens it; written, never read
    saved_by: str | None  # btcchat, in a folder that `save` may replace
    base_model: BaseModel | None  # of an adapter folder: see adapter.Base
    plugins: Any  # from which parts come: plugins.recorded checks it
    s2: bool | None
    mm_use_im_start_end: bool | None
    vocab_size: Count
    mm_vision_tower: str | None
    mm_vision_select_layer: str | int | list[int] | None
    mm_vision_select_feature: str | None
    vision_resolution: Pixels | Literal[-1] | None
    num_video_frames: Annotated[int, Field(ge=1, le=4096)] | None
    series_change_tokens: bool | None
    video_change_tokens: bool | None
    conv_version: str | None
    caption_question: str | None
    pair_prompt: str | None
    training_gsd: Metres | None  # per pixel of the training images
    change_threshold: ChangeThreshold | None
    quantization: Quantization | None
    mm_projector_type: str
    mm_resampler_type: str | None
    cc_expert_args: str | dict[str, Any] | None
    image_aspect_ratio: str | None
    mm_patch_merge_type: str | None
    rope_scaling: dict[str, Any] | None
