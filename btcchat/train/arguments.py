"""The flags of a training run. Each is a dataclass field; the Trainer's own come from transformers."""

import difflib
import json
import sys
from dataclasses import dataclass, field, fields

from transformers import HfArgumentParser
from transformers import TrainingArguments as TrainerArguments

from btcchat.config import read_layers
from btcchat.errors import BTCChatError


@dataclass
class ModelArguments:
    """What is trained. The architecture is the checkpoint's; a flag that contradicts it is an error."""

    model_name_or_path: str = field(metadata={"help": "Checkpoint to start from: a folder or a hub id."})
    from_origin: bool = field(
        default=False,
        metadata={"help": "The checkpoint is an original VILA-1.5 one: take its projector, start the change encoder."},
    )
    chg: bool | None = field(
        default=None,
        metadata={"help": "True: pairs go through a change encoder; False: both dates go on as they are (concat)."},
    )
    chg_type: str | None = field(
        default=None, metadata={"help": "Change encoder: Chg2Cap (attentive), or a registered name. Default: saved."}
    )
    cc_n_layers: int | None = field(default=None, metadata={"help": "Transformer blocks of the change encoder."})
    cc_head: int | None = field(default=None, metadata={"help": "Attention heads of the change encoder."})
    cc_dropout: float | None = field(default=None, metadata={"help": "Dropout of the change encoder, 0 to 1."})
    cc_expert_args: str | None = field(
        default=None,
        metadata={"help": "Further options of the change encoder as JSON, e.g. '{\"per_expert_depth\": 2}'."},
    )
    series_change_tokens: bool | None = field(
        default=None,
        metadata={"help": "Put the change tokens of consecutive dates between the dates of a series. Default: saved."},
    )
    video_change_tokens: bool | None = field(
        default=None, metadata={"help": "The same between the frames of a video. Default: saved."}
    )
    mm_vision_select_layer: str | None = field(
        default=None,
        metadata={
            "help": "Hidden layer of the vision tower, or several: '[-11,-8,-5,-2]'. Checked against the checkpoint; "
            "with --from_origin it is set."
        },
    )
    mm_vision_select_feature: str | None = field(
        default=None, metadata={"help": "cls_patch or patch; checked against the checkpoint."}
    )

    def __post_init__(self):
        if self.mm_vision_select_layer is not None:
            self.mm_vision_select_layer = read_layers(self.mm_vision_select_layer)
        if isinstance(self.cc_expert_args, str):
            try:
                self.cc_expert_args = json.loads(self.cc_expert_args)
            except json.JSONDecodeError:
                raise BTCChatError(f"--cc_expert_args is no JSON: {self.cc_expert_args}") from None


@dataclass
class DataArguments:
    """What it is trained on, and how a sample is made of a record."""

    data_mixture: str = field(
        metadata={"help": "Data sets, 'a+b@first:500*3', 'mine.yaml' or a mixture's name; see docs/data.md."}
    )
    data_root: str | None = field(
        default=None, metadata={"help": "Folder the sets' paths are relative to. Default: $BTCCHAT_DATA."}
    )
    mixture_folder: str | None = field(
        default=None, metadata={"help": "Folder of YAML files that describe your own sets, beside the shipped ones."}
    )
    bad_samples: str = field(
        default="stop",
        metadata={"help": "An image that cannot be read stops the run (stop), or is left out and told of (skip)."},
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Most tokens of a process's batch, its padding and image tokens included (text is estimated); "
            "--per_device_train_batch_size is then the most samples. Default: only that."
        },
    )
    version: str | None = field(
        default=None, metadata={"help": "Conversation template: v1, or plain for alignment. Default: the checkpoint's."}
    )
    caption_question: str | None = field(
        default=None, metadata={"help": "What `btcchat caption` is to ask the model. Default: the checkpoint's."}
    )
    pair_prompt: str | None = field(
        default=None,
        metadata={"help": "What stands before a pair's question, <image> a date, as in the data. Default: saved."},
    )
    image_aspect_ratio: str | None = field(
        default=None, metadata={"help": "Image that is not square: pad, resize or square. Default: the checkpoint's."}
    )
    num_video_frames: int | None = field(
        default=None, metadata={"help": "Frames sampled from a video. Default: the checkpoint's."}
    )
    model_max_length: int | None = field(
        default=None, metadata={"help": "Tokens of a sample with its image tokens; longer text is cut. Default: saved."}
    )


@dataclass
class TrainingArguments(TrainerArguments):
    """How it is trained: the Trainer's arguments with this project's defaults, and what is tuned."""

    tune_vision_tower: bool = field(default=False, metadata={"help": "Train the vision tower."})
    tune_mm_projector: bool = field(default=False, metadata={"help": "Train the projector and the change encoder."})
    tune_cc_projector: bool | None = field(
        default=None, metadata={"help": "Train the change encoder. Default: as --tune_mm_projector."}
    )
    tune_single_projector: bool | None = field(
        default=None, metadata={"help": "Train the projector proper. Default: as --tune_mm_projector."}
    )
    tune_language_model: bool = field(default=False, metadata={"help": "Train the language model."})
    resume: bool = field(
        default=False, metadata={"help": "Go on from the last complete checkpoint in --output_dir, if there is one."}
    )

    eval_mixture: str | None = field(
        default=None, metadata={"help": "Data sets that the model answers while it is trained, e.g. levir_cc:val."}
    )
    eval_strategy: str = field(
        default="no", metadata={"help": "When it does: no, epoch, or steps (every --eval_steps optimizer steps)."}
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={"help": "The score by which OUTPUT_DIR/best is kept. Default: S*m, or the accuracy of answers."},
    )
    i_know_this_is_the_test_split: bool = field(
        default=False, metadata={"help": "Allow a test split in --eval_mixture; every report will say so."}
    )

    optim: str = field(default="adamw_torch_fused", metadata={"help": "Optimizer, a name of transformers."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_ratio: float = field(default=0.03, metadata={"help": "Share of the steps in which the rate rises."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two log lines."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide a loss that is not finite."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; older ones are deleted."})
    dataloader_num_workers: int = field(default=1, metadata={"help": "Processes that read and resize images."})
    report_to: str = field(default="none", metadata={"help": "Where else logs go: tensorboard, wandb or none."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: samples have no spare columns."})


# Flags of the Trainer that our run would ignore, or that would undo what it promises. (flag, way out)
WITHOUT_EFFECT = {
    "auto_find_batch_size": "set --per_device_train_batch_size",
    "dataloader_drop_last": "samples are spread evenly over the batches, none is dropped",
    "evaluation_strategy": "score a checkpoint after training",
    "do_eval": "score a checkpoint after training",
    "do_predict": "use btcchat caption or ask",
    "gradient_checkpointing": "it is not supported yet",
    "group_by_length": "batches are always grouped by length",
    "ignore_data_skip": "a resumed run goes on where it stopped",
    "label_smoothing_factor": "the loss is the plain cross entropy",
    "load_best_model_at_end": "score the checkpoints after training",
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "past_index": "no memory is carried from batch to batch",
    "push_to_hub": "upload the finished folder yourself",
    "remove_unused_columns": "samples have no spare columns",
    "save_only_model": "a checkpoint is there to be resumed; the finished folder has the model only",
    "split_batches": "give the batch size of one process",
}


def parse_arguments(argv: list[str] | None = None) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """Flags to dataclasses. Raises BTCChatError for an unknown flag, one without effect, or two that contradict."""
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments), allow_abbrev=False)
    argv = sys.argv[1:] if argv is None else argv
    try:
        *arguments, rest = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    except ValueError as error:  # the Trainer's own checks, e.g. --bf16 with --fp16
        raise BTCChatError(" ".join(str(error).split())) from None
    if rest:
        near = difflib.get_close_matches(rest[0], list(parser._option_string_actions), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise BTCChatError(f"unknown flag '{rest[0]}'{hint}; --help lists them")
    check(*arguments)
    return tuple(arguments)


def check(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    """Everything that can be wrong between flags, in one place."""
    defaults = {f.name: f.default for f in fields(TrainingArguments)}
    for flag, way_out in WITHOUT_EFFECT.items():
        given = getattr(training_args, flag)
        if getattr(given, "value", given) != getattr(defaults[flag], "value", defaults[flag]):
            raise BTCChatError(f"--{flag} {getattr(given, 'value', given)} has no effect here; {way_out}")
    if model_args.chg is False and model_args.chg_type not in (None, "concat"):
        raise BTCChatError(
            f"--chg False contradicts --chg_type {model_args.chg_type}; leave one out (False means concat)"
        )
    for name, low, high in (("cc_dropout", 0, 1), ("cc_n_layers", 0, None), ("cc_head", 1, None)):
        value = getattr(model_args, name)
        if value is not None and not (low <= value and (high is None or value <= high)):
            raise BTCChatError(f"--{name} is {value}, expected {low} " + (f"to {high}" if high else "or more"))
    for name in ("num_video_frames", "model_max_length", "max_tokens_per_batch"):
        value = getattr(data_args, name)
        if value is not None and value < 1:
            raise BTCChatError(f"--{name} is {value}, expected 1 or more")
