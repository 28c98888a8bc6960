"""The flags of a training run: which model, which data. How it is trained: training_arguments.py."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from btcchat.checkpoint.config import read_layers
from btcchat.train.encoder_flags import OBJECTS, encoder_options
from btcchat.train.image_flags import ImageArguments
from btcchat.train.json_flag import read_json_flag
from btcchat.train.training_arguments import TrainingArguments

if TYPE_CHECKING:  # as `__post_init__` leaves them
    LayersFlag: TypeAlias = int | list[int] | None
    JsonFlag: TypeAlias = dict[str, Any] | None
else:  # as the parser reads them
    LayersFlag = JsonFlag = str | None


@dataclass
class ModelArguments:
    """Which model is trained. The architecture is the checkpoint's; a flag that contradicts it is an error."""

    model_name_or_path: str = field(
        metadata={
            "help": "Checkpoint to start from: a folder, a hub id, or tiny, the packaged model; or a language model, "
            "which is joined with --vision_tower by a fresh projector and change encoder."
        }
    )
    from_origin: bool = field(
        default=False,
        metadata={"help": "The checkpoint has no change encoder (VILA-1.5, LLaVA-OneVision): start a fresh one."},
    )
    fresh_change_encoder: bool = field(
        default=False,
        metadata={
            "help": "Start a fresh change encoder of --chg_type (default: the checkpoint's kind), whatever the "
            "checkpoint has; vision tower, projector and language model are kept."
        },
    )
    chg: bool | None = field(
        default=None,
        metadata={
            "help": "True: pairs go through a change encoder; False: both dates are passed on unchanged (concat)."
        },
    )
    chg_type: str | None = field(
        default=None,
        metadata={
            "help": "Change encoder: Chg2Cap (attentive), cc_expert (difference_aware) or concat. Default: the "
            "checkpoint's."
        },
    )
    cc_args: JsonFlag = field(
        default=None,
        metadata={"help": 'Options of the change encoder as JSON, e.g. \'{"cc_n_layers": 1, "cc_head": 8}\'.'},
    )
    cc_n_layers: int | None = field(
        default=None, metadata={"help": "Transformer blocks of the change encoder; an option of --cc_args."}
    )
    cc_head: int | None = field(
        default=None, metadata={"help": "Attention heads of the change encoder; an option of --cc_args."}
    )
    cc_dropout: float | None = field(
        default=None, metadata={"help": "Dropout of the change encoder, 0 to 1; an option of --cc_args."}
    )
    cc_expert_args: JsonFlag = field(default=None, metadata={"help": "CCExpert's name for --cc_args."})
    series_change_tokens: bool | None = field(
        default=None,
        metadata={"help": "Insert change tokens between the dates of a series. Default: the checkpoint's setting."},
    )
    video_change_tokens: bool | None = field(
        default=None, metadata={"help": "The same for the frames of a video. Default: the checkpoint's setting."}
    )
    vision_tower: str | None = field(
        default=None,
        metadata={
            "help": "A folder or google/siglip-SIZE-patchP-R; must agree with the checkpoint. Needed for a published "
            "LLaVA-NeXT folder, which lacks its tower's sizes, and for a language model, which is joined with it."
        },
    )
    mm_projector: str | None = field(
        default=None,
        metadata={
            "help": "Projector, e.g. mlp_downsample; must agree with the checkpoint unless --fresh_mm_projector "
            "replaces it.",
            "aliases": ["--mm_projector_type"],
        },
    )
    fresh_mm_projector: bool = field(
        default=False,
        metadata={
            "help": "Start a fresh projector of --mm_projector (default: the checkpoint's); all other parts are kept."
        },
    )
    mm_use_im_start_end: bool | None = field(
        default=None, metadata={"help": "Special tokens around an image; only False is supported."}
    )
    mm_use_im_patch_token: bool | None = field(default=None, metadata={"help": "As --mm_use_im_start_end."})
    mm_vision_select_layer: LayersFlag = field(
        default=None,
        metadata={
            "help": "Hidden layer of the vision tower, or several: '[-11,-8,-5,-2]'. Must agree with the checkpoint "
            "unless the change encoder is fresh."
        },
    )
    mm_vision_select_feature: str | None = field(
        default=None, metadata={"help": "cls_patch or patch; must agree with the checkpoint."}
    )

    def __post_init__(self) -> None:
        if self.mm_vision_select_layer is not None:
            self.mm_vision_select_layer = read_layers(self.mm_vision_select_layer)
        for name in OBJECTS:
            setattr(self, name, read_json_flag(name, getattr(self, name)))

    @property
    def starts_change_encoder(self) -> bool:
        """Whether the run starts with a fresh change encoder."""
        return self.from_origin or self.fresh_change_encoder

    @property
    def encoder_options(self) -> dict[str, Any]:
        """Options of the change encoder, from all flags. Raises BTCChatError if two flags disagree on one."""
        return encoder_options(vars(self))


@dataclass
class DataArguments(ImageArguments):
    """Which data it is trained on, and how a record becomes a sample."""

    data_mixture: str = field(
        metadata={"help": "Data sets, 'a+b@first:500*3', 'mine.yaml' or a mixture's name; see docs/data.md."}
    )
    data_root: str | None = field(
        default=None, metadata={"help": "Folder the sets' paths are relative to. Default: $BTCCHAT_DATA."}
    )
    mixture_folder: str | None = field(
        default=None, metadata={"help": "Folder of YAML files that describe your own sets, besides the shipped ones."}
    )
    bad_samples: str = field(
        default="stop",
        metadata={"help": "An image that cannot be read stops the run (stop), or is left out and reported (skip)."},
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Maximum tokens in a process's batch, padding and image tokens included (text is estimated); "
            "--per_device_train_batch_size still limits its samples. Default: no limit on tokens."
        },
    )
    random_batches: bool = field(
        default=False,
        metadata={"help": "Draw batches at random, the same for every model, instead of grouping similar lengths."},
    )
    version: str | None = field(
        default=None,
        metadata={
            "help": "Conversation template: v1, qwen_1_5, chatml, qwen3, llama3, or plain for alignment. Default: the "
            "checkpoint's."
        },
    )
    caption_question: str | None = field(
        default=None,
        metadata={"help": "The question that `btcchat caption` asks the model. Default: the checkpoint's."},
    )
    pair_prompt: str | None = field(
        default=None,
        metadata={"help": "Text before a pair's question; <image> marks a date. Default: the checkpoint's."},
    )
    image_aspect_ratio: str | None = field(
        default=None, metadata={"help": "For an image that is not square: pad, resize or square. Default: as saved."}
    )
    num_video_frames: int | None = field(
        default=None, metadata={"help": "Frames sampled from a video. Default: the checkpoint's."}
    )
    model_max_length: int | None = field(
        default=None,
        metadata={"help": "Maximum tokens in a sample, images included; longer text is cut. Default: as saved."},
    )
    cache_vision_features: str | None = field(
        default=None,
        metadata={"help": "Folder that caches the frozen vision tower's features of each image; see docs/training.md."},
    )
    augment_pairs: bool = field(
        default=False,
        metadata={"help": "Flip and rotate pairs at random, both dates alike; words such as left are swapped too."},
    )
    prompt_augmentation: str = field(
        default="off",
        metadata={"help": "Clues in prompts: off, cached (read from --clues) or online (written before step 1)."},
    )
    clues: str | None = field(default=None, metadata={"help": "With cached: the folder that btcchat augment wrote."})
    clue_model: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint that writes the clues, or 'self'; with cached, the one that must have written them."
        },
    )
    clue_dropout: float = field(
        default=0.0,
        metadata={"help": "Share of prompts left without a clue, 0 to 1, so that the model also works without clues."},
    )


@dataclass(frozen=True)
class RunArguments:
    """The flags of a run, in their three groups."""

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments

    @property
    def main_process(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.training.main_process
