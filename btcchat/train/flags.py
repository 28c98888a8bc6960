"""Parse the command line, with errors for flags that are unknown, have no effect or contradict others."""

import argparse
import difflib
import importlib.util
import logging
import sys
from typing import NoReturn

from transformers import HfArgumentParser

from btcchat.clues.store import check_flags
from btcchat.console.parser import HelpParser
from btcchat.errors import BTCChatError, choose, number
from btcchat.train.arguments import DataArguments, ModelArguments
from btcchat.train.distributed import check_processes, zero_stage
from btcchat.train.lora import check_lora
from btcchat.train.optimizer import OPTIMIZERS, check_schedule
from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)

# Well-known flags of transformers' Trainer that this loop does not have -> what to do instead
EVALUATION = "evaluate with --eval_mixture and --eval_strategy, or a checkpoint with btcchat eval"
MISSING = {
    **dict.fromkeys(("do_eval", "load_best_model_at_end", "greater_is_better"), EVALUATION),
    **dict.fromkeys(("fsdp", "fsdp_config"), "split weights with --deepspeed zero3"),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_token"), "upload the finished folder yourself"),
    **dict.fromkeys(("half_precision_backend", "fp16_backend", "fp16_opt_level"), "use --bf16 or --fp16"),
    "auto_find_batch_size": "set --per_device_train_batch_size",
    "dataloader_drop_last": "samples are spread evenly over the batches, so none is dropped",
    "do_train": "this command always trains; leave the flag out",
    "full_determinism": "runs with the same seed on the same machine are identical",
    "group_by_length": "batches are grouped by length by default; --random_batches True disables that",
    "ignore_data_skip": "a resumed run continues where it stopped",
    "label_smoothing_factor": "use --label_smoothing",
    "no_cuda": "use --use_cpu True",
    "remove_unused_columns": "samples have no unused columns",
    "save_only_model": "checkpoints are for resuming; the finished folder has only the model",
    "save_safetensors": "weights are always written as safetensors",
    "torch_compile": "torch.compile is not supported",
}
# Flags of the published commands that have no effect here, and are ignored with a warning -> why
PUBLISHED = {
    "lazy_preprocess": "records are always read lazily",
    "per_device_eval_batch_size": "--eval_mixture is answered 16 samples at a time",
    "vflan_no_system_prompt": "no data set here leaves out the system prompt",
}
# flag -> its least and its largest value
RANGES: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("cc_dropout", "clue_dropout", "label_smoothing", "warmup_ratio"), (0, 1)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (0, 1)),
    **dict.fromkeys(("cc_head", "num_video_frames", "model_max_length", "max_tokens_per_batch"), (1, None)),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), (1, None)),
    **dict.fromkeys(("cc_n_layers", "dataloader_num_workers", "num_train_epochs", "warmup_steps"), (0, None)),
    **dict.fromkeys(("learning_rate", "mm_vision_tower_lr", "mm_projector_lr", "cc_projector_lr"), (0, None)),
    **dict.fromkeys(("mask_loss", "weight_decay", "adam_epsilon", "max_grad_norm"), (0, None)),
    **dict.fromkeys(("seed", "data_seed"), (0, 2**32 - 1)),
}
PLUGIN_HELP = "Python module that adds parts; may be repeated, and is imported before the other flags are read."
REPORTS = {"tensorboard": "tensorboard", "wandb": "wandb", "none": None}  # --report_to -> package


class FlagHelp(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of a flag to its help, but not "(default: None)"."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action, argparse._StoreFalseAction):
            return f"Set --{action.dest} to False."
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(HfArgumentParser):
    """An error is a BTCChatError, without the usage text."""

    _print_message = HelpParser._print_message

    def error(self, message: str) -> NoReturn:
        raise BTCChatError(f"{message.replace('argument ', '')}; --help lists the flags")


def parse_arguments(argv: list[str] | None = None) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """Flags to dataclasses. Raises BTCChatError for a flag that is unknown, has no effect or contradicts another."""
    parser = Parser(
        (ModelArguments, DataArguments, TrainingArguments),
        allow_abbrev=False,
        formatter_class=FlagHelp,
        epilog="--preset NAME adds the flags of a preset (see `btcchat train --list`); --preset NAME --smoke runs two "
        "steps of it on a random model.",
    )
    parser.add_argument("--plugin", metavar="MODULE", default=argparse.SUPPRESS, help=PLUGIN_HELP)
    for action in parser._actions:
        if action.dest == "local_rank":  # only the deepspeed command gives it
            action.help = argparse.SUPPRESS
    argv = _without_published(sys.argv[1:] if argv is None else argv)
    try:
        parsed = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    except ValueError as error:  # from the parser, e.g. an invalid truth value
        raise BTCChatError(" ".join(str(error).split())) from None
    model_args, data_args, training_args, rest = parsed
    if rest:
        flag = rest[0].partition("=")[0]
        if way_out := MISSING.get(flag.removeprefix("--")):
            raise BTCChatError(f"there is no flag {flag} here; {way_out}")
        names = [name for name, action in parser._option_string_actions.items() if action.help != argparse.SUPPRESS]
        near = difflib.get_close_matches(rest[0], names, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise BTCChatError(f"unknown flag '{rest[0]}'{hint}; --help lists the flags")
    check(model_args, data_args, training_args)
    return model_args, data_args, training_args


def _without_published(argv: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for flag in PUBLISHED:
        parser.add_argument(f"--{flag}", nargs="?")
    published, rest = parser.parse_known_args(argv)
    for flag in vars(published):
        logger.warning("--%s has no effect here: %s", flag, PUBLISHED[flag])
    return rest


# LLaVA-NeXT's names in --mm_tunable_parts -> ours
TUNABLE_PARTS = {
    "mm_vision_tower": "tune_vision_tower",
    "mm_vision_resampler": "tune_cc_projector",
    "mm_mlp_adapter": "tune_single_projector",
    "mm_language_model": "tune_language_model",
}


def read_tunable_parts(args: TrainingArguments) -> None:
    """Set the ``tune_*`` flags from --mm_tunable_parts. Raises BTCChatError if one of them is given too."""
    if not args.mm_tunable_parts:
        return
    for flag in (*TUNABLE_PARTS.values(), "tune_mm_projector"):
        optional = flag in ("tune_cc_projector", "tune_single_projector")  # None by default, so False was given
        if getattr(args, flag) or (optional and getattr(args, flag) is not None):
            raise BTCChatError(f"--mm_tunable_parts and --{flag} both select the trained parts; give only one of them")
    for part in args.mm_tunable_parts.split(","):
        setattr(args, choose("part in --mm_tunable_parts", part.strip(), TUNABLE_PARTS), True)


def check(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    """Raise BTCChatError for flags that have no effect, are out of range or contradict each other."""
    read_tunable_parts(training_args)
    check_processes(training_args)
    check_lora(training_args)
    for name in training_args.report_to:
        package = choose("value of --report_to", name, REPORTS)
        if package is not None and importlib.util.find_spec(package) is None:
            raise BTCChatError(f"--report_to {name} needs the package {package}: pip install {package}")
    choose("value of --optim", training_args.optim, OPTIMIZERS)
    if model_args.chg is False and model_args.chg_type not in (None, "concat"):
        raise BTCChatError(
            f"--chg False contradicts --chg_type {model_args.chg_type}; leave one out (False means concat)"
        )
    options = model_args.encoder_options
    for name, (low, high) in RANGES.items():
        groups = (model_args, data_args, training_args)
        value = options.get(name, next(getattr(group, name) for group in groups if hasattr(group, name)))
        if isinstance(value, int | float) and not low <= value <= (sys.float_info.max if high is None else high):
            raise BTCChatError(f"--{name} is {number(value)}, expected {low} " + (f"to {high}" if high else "or more"))
    for name in ("save", "logging"):
        steps = getattr(training_args, f"{name}_steps")
        if getattr(training_args, f"{name}_strategy") == "steps" and not 0 < steps <= sys.float_info.max:
            raise BTCChatError(
                f"--{name}_steps is {number(steps)}, expected more than 0; for none, use --{name}_strategy no"
            )
    check_schedule(training_args)
    if training_args.max_steps <= 0 and training_args.num_train_epochs <= 0:
        raise BTCChatError("--num_train_epochs and --max_steps are both 0; set one of them to say how long to train")
    if training_args.eval_mixture is None:
        for name in ("metric_for_best_model", "eval_steps"):
            if (value := getattr(training_args, name)) is not None:
                raise BTCChatError(f"--{name} {number(value)} has no effect without --eval_mixture")
    if data_args.random_batches and data_args.max_tokens_per_batch is not None:
        raise BTCChatError(
            "--max_tokens_per_batch builds batches from the samples' lengths, which --random_batches ignores; leave "
            "one of them out"
        )
    _ = data_args.reading  # raises BTCChatError
    mode, dropout = data_args.prompt_augmentation, data_args.clue_dropout
    check_flags(mode, data_args.clues, data_args.clue_model)
    if dropout and mode == "off":
        raise BTCChatError(f"--clue_dropout {number(dropout)} has no effect with --prompt_augmentation off")
    if training_args.mask_loss and zero_stage(training_args.deepspeed) == 3:
        raise BTCChatError("--mask_loss needs whole weights, which ZeRO stage 3 splits; use --deepspeed zero2")
    _check_cache(data_args, training_args)


def _check_cache(data_args: DataArguments, training_args: TrainingArguments) -> None:
    if data_args.cache_vision_features is None:
        return
    if training_args.tune_vision_tower:
        raise BTCChatError(
            "--cache_vision_features keeps the features of a frozen vision tower, but --tune_vision_tower True trains "
            "it; leave one of them out"
        )
    if zero_stage(training_args.deepspeed) == 3:
        raise BTCChatError(
            "--cache_vision_features does not work with ZeRO stage 3, whose processes must all run the tower in every "
            "step; use --deepspeed zero2, or leave the flag out"
        )
