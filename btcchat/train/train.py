"""A training run, top to bottom."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from btcchat.api import BTCChat
from btcchat.checkpoint.folder import leaves_out_tower
from btcchat.clues.apply import AddClue
from btcchat.clues.ask import from_cache
from btcchat.compat import allow_random_states, fill_prefetch_size, set_precision, whole_weights
from btcchat.data.check.before import check_before
from btcchat.data.lengths import LengthEstimate
from btcchat.data.mixture import Mixture, build_datasets, known_sets, terms
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.mixture.views import PairViews
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.eval.runs.samples import EvalSet
from btcchat.language_model import pick_attention
from btcchat.processor import Processor, Sample
from btcchat.train.agree import check_agreement
from btcchat.train.arguments import DataArguments, ModelArguments, TrainingArguments
from btcchat.train.checkpoints import complete_checkpoints, delete, delete_unfinished, step_of
from btcchat.train.clues import prepare_clues
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.evaluate import Evaluation, read_eval_sets
from btcchat.train.feature_cache import FeatureCache
from btcchat.train.freeze import Part, freeze, table
from btcchat.train.frozen_tower import FrozenTower
from btcchat.train.lora import add_lora
from btcchat.train.run_record import run_record, write_run_record
from btcchat.train.trainer import BTCChatTrainer

logger = logging.getLogger(__name__)


def train(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> BTCChatTrainer:
    """Train, leave the model in ``output_dir`` (with training.json beside it) and return the Trainer."""
    args = Arguments(model_args, data_args, training_args)
    if not args.first:
        logging.getLogger("btcchat").setLevel(logging.WARNING)  # one process reports what all do
    set_seed(training_args.seed)  # before the model: a fresh change encoder is drawn from it
    eval_sets = read_eval_sets(training_args, data_args)
    terms(data_args.data_mixture, known_sets(data_args.mixture_folder))  # wrong names, before the weights are read
    with training_args.main_process_first(local=False):
        checkpoint, given_up = starting_checkpoint(training_args)

    model = _model(args, checkpoint)
    parts = _freeze(args, model)
    encoder = _encoder(args, model)
    dataset, estimate = _data(args, model.processor, encoder.cache)
    clues = _clues(args, model, dataset, estimate, checkpoint, eval_sets)
    trainer = _trainer(args, model, parts, encoder, dataset, estimate, checkpoint)

    if trainer.record is not None:
        for folder in given_up:  # only now that nothing else can be wrong
            delete(folder)
        write_run_record(Path(training_args.output_dir), trainer.record)
    if eval_sets:
        trainer.add_callback(Evaluation(trainer, eval_sets, None if clues is None else from_cache(clues.clues)))
    if not args.first:
        set_seed(training_args.seed + training_args.process_index)  # each process draws its own dropout
    allow_random_states()
    if trainer.train(resume_from_checkpoint=checkpoint) is not None:
        trainer.report_faults()
        trainer.save_model()
    trainer.save_state()  # its log, of which btcchat report draws the curves
    return trainer


@dataclass(frozen=True)
class Arguments:
    """The flags of a run, in their three groups."""

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.training.process_index == 0


def _model(args: Arguments, checkpoint: str | None) -> BTCChat:
    """The model on its device, with fresh LoRA layers where they are wanted."""
    training = args.training
    with whole_weights():
        # bitsandbytes quantises on the way from the CPU to the GPU
        device = str(training.device) if training.bits == 16 else "cpu"
        on_cpu = training.device.type == "cpu" and training.bf16  # autocast: the weights are float32
        attention = pick_attention("cpu", torch.bfloat16, gradients=True) if on_cpu else None
        model = load_model(args.model, args.data, checkpoint, device, attention)
    if training.lora_enable:
        add_lora(model, args.model.model_name_or_path, training)
        model.to(training.device)
    if training.deepspeed:
        fill_prefetch_size(training.hf_deepspeed_config, model.config.hidden_size)
    return model


def _freeze(args: Arguments, model: BTCChat) -> list[Part]:
    """Freeze what the ``tune_*`` flags do not name, and print what is trained."""
    parts = freeze(model, args.training)
    if model.base is not None and args.training.tune_vision_tower:
        model.base.parts = ["llm"]  # from now on the tower is the adapter's own
    if args.first:
        print(table(parts, args.training.learning_rate))
        encoder = parts[1]
        if args.model.from_origin and encoder.num_parameters and not encoder.trainable:
            logger.warning("the change encoder is fresh and frozen: what pairs give is random; set --tune_cc_projector")
    return parts


def _encoder(args: Arguments, model: BTCChat) -> TrainingEncoder:
    """How frames become features: all parts in each process, a frozen tower in bfloat16, kept features."""
    training = args.training
    encoder = TrainingEncoder(every_part=training.world_size > 1)
    if training.bf16 and not training.deepspeed and not training.tune_vision_tower:
        encoder.tower = FrozenTower(model.vision_tower)
    if args.data.cache_vision_features is not None:
        computed = {"mixed_precision": mixed_precision(training), "tf32": training.tf32}
        computed["weights cast"] = bool(training.deepspeed) or encoder.tower is not None
        encoder.cache = FeatureCache.of(args.data.cache_vision_features, model, computed)
    return encoder


def _data(
    args: Arguments, processor: Processor, cache: FeatureCache | None
) -> tuple[Mixture | StreamMixture, LengthEstimate]:
    """The mixture as samples, and about how long each is. Bad rows are found here, before the first step."""
    training, data = args.training, args.data
    dataset = build_datasets(
        data.data_mixture,
        SampleMaker(processor, cache),
        data_root=data.data_root,
        folder=data.mixture_folder,
        seed=training.seed if training.data_seed is None else training.data_seed,
        bad_samples=data.bad_samples,
    )
    if isinstance(dataset, StreamMixture) and training.max_steps <= 0:
        raise BTCChatError("a streamed mixture has no end that is known beforehand; give --max_steps")
    if data.bad_samples == "stop":
        check_before(dataset, processor)
    estimate = LengthEstimate(processor)
    estimate.calibrate(dataset.some(256))
    return dataset, estimate


@dataclass(frozen=True)
class SampleMaker:
    """``make(record)`` -> a sample that is learned from, with the features that ``cache`` has in place of frames."""

    processor: Processor
    cache: FeatureCache | None = None

    def __call__(self, record: Record) -> Sample:
        sample = self.processor(record, train=True)
        return sample if self.cache is None else self.cache.take(sample)


def _clues(
    args: Arguments,
    model: BTCChat,
    dataset: Mixture | StreamMixture,
    estimate: LengthEstimate,
    checkpoint: str | None,
    eval_sets: Sequence[EvalSet],
) -> AddClue | None:
    """Put clues, and other views of pairs, into the records of ``dataset``."""
    evaluated = [sample.record for one in eval_sets for sample in one.samples]
    clues = prepare_clues(args.model, args.data, args.training, model, dataset, checkpoint, evaluated)
    dataset.augment = clues
    if clues is not None:
        estimate.clue_tokens = clues.tokens
    if args.data.augment_pairs:
        dataset.augment = PairViews(dataset.augment)
    return clues


def _trainer(
    args: Arguments,
    model: BTCChat,
    parts: list[Part],
    encoder: TrainingEncoder,
    dataset: Mixture | StreamMixture,
    estimate: LengthEstimate,
    checkpoint: str | None,
) -> BTCChatTrainer:
    set_precision(mixed_precision(args.training))
    groups = (args.model, args.data, args.training)
    return BTCChatTrainer(
        model,
        args.training,
        data_collator=model.processor.collate,
        train_dataset=dataset,
        estimate=estimate,
        encoder=encoder,
        max_tokens=args.data.max_tokens_per_batch,
        parts=parts,
        record=run_record(groups, model, parts, dataset, checkpoint) if args.first else None,
    )


def mixed_precision(args: TrainingArguments) -> str:
    return "bf16" if args.bf16 else "fp16" if args.fp16 else "no"


def starting_checkpoint(args: TrainingArguments) -> tuple[str | None, list[Path]]:
    """The checkpoint to go on from, or None, and those that --overwrite_output_dir gives up.

    Raises BTCChatError where a fresh run would mix with an old one, or replace a finished one.
    """
    output_dir = Path(args.output_dir)
    delete_unfinished(output_dir)
    found = complete_checkpoints(output_dir)
    chosen = None
    if args.resume_from_checkpoint:
        chosen = Path(args.resume_from_checkpoint)
        missing = [name for name in ("trainer_state.json", "rng_state*.pth") if not list(chosen.glob(name))]
        if missing:  # a finished run's folder has the state too, but nothing to go on with
            raise BTCChatError(f"--resume_from_checkpoint {chosen} is no complete checkpoint: no {missing[0]} there")
        found = [path for path in found if step_of(path) > step_of(chosen)]  # of a run that is given up
    elif args.resume and found:
        logger.info("resuming from %s", found[-1])
        return str(found[-1]), []
    if not args.overwrite_output_dir:
        if found:
            raise BTCChatError(
                f"{args.output_dir} holds {found[-1].name} of an earlier run; go on with --resume True, "
                "or start afresh with --overwrite_output_dir True (the checkpoints are deleted)"
            )
        if chosen is None and (output_dir / "config.json").is_file():
            raise BTCChatError(
                f"{args.output_dir} holds a finished model and no checkpoint to go on from; give another --output_dir, "
                "or replace the model with --overwrite_output_dir True"
            )
    if args.resume and chosen is None:
        logger.info("resuming from nothing: no complete checkpoint, starting afresh")
    return chosen and str(chosen), found


def load_model(
    model_args: ModelArguments,
    data_args: DataArguments,
    checkpoint: str | None,
    device: str = "cpu",
    attention: str | None = None,
) -> BTCChat:
    """The model in float32, from the checkpoint to resume or else from ``model_name_or_path``.

    What the data flags set (template, frames, aspect ratio, length) goes into its config, and is saved with it.
    """
    settings = {
        "conv_version": data_args.version,
        "num_video_frames": data_args.num_video_frames,
        "image_aspect_ratio": data_args.image_aspect_ratio,
        "caption_question": data_args.caption_question,
        "pair_prompt": data_args.pair_prompt,
        "series_change_tokens": model_args.series_change_tokens,
        "video_change_tokens": model_args.video_change_tokens,
        "attn_implementation": attention,
    }
    options = {name: value for name, value in settings.items() if value is not None}
    if checkpoint is None:  # a checkpoint to resume says these itself
        options |= {
            "from_origin": model_args.from_origin,
            "chg_type": "concat" if model_args.chg is False else model_args.chg_type,
            "cc_n_layers": model_args.cc_n_layers,
            "cc_head": model_args.cc_head,
            "cc_dropout": model_args.cc_dropout,
            "cc_args": model_args.cc_expert_args,
        }
        if model_args.from_origin and model_args.mm_vision_select_layer is not None:
            options["mm_vision_select_layer"] = model_args.mm_vision_select_layer
    # float32 also under --bf16, which is autocast: a bf16 weight is too coarse for small steps
    path = checkpoint or model_args.model_name_or_path
    if model_args.vision_tower is not None and leaves_out_tower(path):
        options["vision_tower"] = model_args.vision_tower
    model = BTCChat.from_pretrained(path, device=device, dtype=torch.float32, **options)
    if data_args.model_max_length is not None:
        model.config.model_max_length = data_args.model_max_length
    check_agreement(model_args, model.config)
    return model
