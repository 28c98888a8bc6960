"""The start of a run: the checkpoint it resumes, if any, and its model."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch

from btcchat.api import BTCChat
from btcchat.checkpoint.folder import is_language_model, leaves_out_tower
from btcchat.checkpoint.load import Placement, from_parts
from btcchat.errors import BTCChatError
from btcchat.train.agree import check_agreement, check_encoder
from btcchat.train.arguments import DataArguments, ModelArguments
from btcchat.train.checkpoints import checkpoints, delete_unfinished, fault, number, step_of
from btcchat.train.encoder_flags import encoder_name
from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)


class StartingPoint(NamedTuple):
    """checkpoint: the one to resume, or None. replaced: those that --overwrite_output_dir deletes."""

    checkpoint: str | None
    replaced: list[Path]


def starting_point(args: TrainingArguments) -> StartingPoint:
    """Where the run starts. Raises BTCChatError if a fresh run would mix with an earlier one or replace a finished
    one, or if the run to resume has no complete checkpoint.
    """
    output_dir = Path(args.output_dir)
    delete_unfinished(output_dir)
    earlier = checkpoints(output_dir)
    chosen = None
    if args.resume_from_checkpoint:
        chosen = Path(args.resume_from_checkpoint)
        if reason := fault(chosen):
            raise BTCChatError(
                f"--resume_from_checkpoint {chosen} is not a complete checkpoint: {reason}; give another"
            )
        earlier = [path for path in earlier if number(path) > step_of(chosen)]  # this run does not continue them
    elif args.resume and earlier:
        return StartingPoint(str(_newest_complete(earlier, args)), [])
    if not args.overwrite_output_dir:
        if earlier:
            raise BTCChatError(
                f"{args.output_dir} holds {earlier[-1].name} of an earlier run; continue it with --resume True, "
                "or start again with --overwrite_output_dir True (the checkpoints are deleted)"
            )
        if chosen is None and (output_dir / "config.json").is_file():
            raise BTCChatError(
                f"{args.output_dir} holds a finished model and no checkpoint to resume; give another --output_dir, "
                "or replace the model with --overwrite_output_dir True"
            )
    if args.resume and chosen is None:
        logger.info("no complete checkpoint to resume: starting from the beginning")
    return StartingPoint(None if chosen is None else str(chosen), earlier)


def _newest_complete(earlier: list[Path], args: TrainingArguments) -> Path:
    reasons: list[str] = []
    for checkpoint in reversed(earlier):
        if (reason := fault(checkpoint)) is None:
            if args.process_index == 0:
                for line in reasons:
                    logger.warning("%s, so an earlier checkpoint is resumed", line)
                logger.info("resuming from %s", checkpoint)
            return checkpoint
        reasons.append(f"{checkpoint} is not complete ({reason})")
    raise BTCChatError(f"{reasons[0]}, and no earlier one is; start again with --overwrite_output_dir True")


def load_model(
    model_args: ModelArguments,
    data_args: DataArguments,
    checkpoint: str | None,
    device: str = "cpu",
    attention: str | None = None,
) -> BTCChat:
    """The model in float32, from the checkpoint to resume or else from ``model_name_or_path``.

    A language model there is joined with ``vision_tower`` by fresh parts. The data flags (template, frames, aspect
    ratio, length) go into the model's config, and are saved with it.
    """
    path = checkpoint or model_args.model_name_or_path
    if checkpoint is None and is_language_model(path):
        return _join(model_args, data_args, device, attention)
    # A checkpoint to resume already has these settings, so it is loaded with their defaults.
    fresh = model_args if checkpoint is None else ModelArguments(path)
    tower = model_args.vision_tower
    model = BTCChat.from_pretrained(
        path,
        device=device,
        dtype=torch.float32,  # also under --bf16, which is autocast: bfloat16 weights are too coarse for small steps
        vision_tower=tower if tower is not None and leaves_out_tower(path) else None,
        from_origin=fresh.from_origin,
        fresh_change_encoder=fresh.fresh_change_encoder,
        chg_type="concat" if fresh.chg is False else fresh.chg_type,
        cc_args=fresh.encoder_options,
        fresh_mm_projector=fresh.fresh_mm_projector,
        mm_projector_type=fresh.mm_projector if fresh.fresh_mm_projector else None,
        attn_implementation=attention,
        conv_version=data_args.version,
        caption_question=data_args.caption_question,
        pair_prompt=data_args.pair_prompt,
        num_video_frames=data_args.num_video_frames,
        image_aspect_ratio=data_args.image_aspect_ratio,
        mm_vision_select_layer=fresh.mm_vision_select_layer if fresh.starts_change_encoder else None,
        series_change_tokens=model_args.series_change_tokens,
        video_change_tokens=model_args.video_change_tokens,
        reading=data_args.reading,
    )
    if model.config.quantization is not None:
        kind = model.config.quantization["kind"]
        raise BTCChatError(
            f"{path} has {kind} weights, which cannot be trained; start from the checkpoint that it was quantised from"
        )
    if checkpoint is not None:
        check_encoder(model_args, model.config)
    return _apply_flags(model, model_args, data_args)


def _join(model_args: ModelArguments, data_args: DataArguments, device: str, attention: str | None) -> BTCChat:
    """A language model and a vision tower, joined by a fresh projector and change encoder."""
    if model_args.vision_tower is None:
        raise BTCChatError(
            f"{model_args.model_name_or_path} is a language model; name the vision tower to join it with, e.g. "
            "--vision_tower google/siglip2-base-patch16-256"
        )
    fields: dict[str, Any] = {
        "conv_version": data_args.version,
        "caption_question": data_args.caption_question,
        "pair_prompt": data_args.pair_prompt,
        "num_video_frames": data_args.num_video_frames,
        "image_aspect_ratio": data_args.image_aspect_ratio,
        "mm_vision_select_layer": model_args.mm_vision_select_layer,
        "mm_vision_select_feature": model_args.mm_vision_select_feature,
        "series_change_tokens": model_args.series_change_tokens,
        "video_change_tokens": model_args.video_change_tokens,
    }
    encoder = {"change_encoder_type": encoder_name(vars(model_args)) or "attentive", **model_args.encoder_options}
    model = from_parts(
        BTCChat,
        Placement(device, torch.float32, attention),
        vision_tower=model_args.vision_tower,
        llm=model_args.model_name_or_path,
        mm_projector=model_args.mm_projector or "mlp_downsample",
        change_encoder=encoder,
        fields={name: value for name, value in fields.items() if value is not None},
    )
    model.processor.reading = data_args.reading
    model.processor.check()
    return _apply_flags(model, model_args, data_args)


def _apply_flags(model: BTCChat, model_args: ModelArguments, data_args: DataArguments) -> BTCChat:
    if data_args.model_max_length is not None:
        model.config.model_max_length = data_args.model_max_length
    check_agreement(model_args, model.config)
    return model
