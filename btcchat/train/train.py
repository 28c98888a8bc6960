"""A training run, top to bottom."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from btcchat.api import BTCChat
from btcchat.clues.apply import AddClue
from btcchat.clues.ask import from_cache
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
from btcchat.train.arguments import DataArguments, ModelArguments, RunArguments
from btcchat.train.checkpoints import delete
from btcchat.train.clues import prepare_clues
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.evaluate import Evaluation, read_eval_sets
from btcchat.train.feature_cache import FeatureCache
from btcchat.train.freeze import ModelPart, check_tuned, freeze, parts_table
from btcchat.train.frozen_tower import FrozenTower
from btcchat.train.lora import add_lora
from btcchat.train.map_loss import changed_share, check_masks
from btcchat.train.memory import ReturnMemory
from btcchat.train.output_folder import Watch, output_folder
from btcchat.train.run_record import run_record, write_run_record
from btcchat.train.scene_facts import note_scene_facts
from btcchat.train.start import load_model, starting_point
from btcchat.train.trainer import Hook, Trainer
from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)


def train(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: TrainingArguments,
    hooks: Sequence[Hook] = (),
) -> Trainer:
    """Train, save the model and training.json to ``output_dir``, and return the Trainer."""
    args = RunArguments(model_args, data_args, training_args)
    if not args.main_process:
        logging.getLogger("btcchat").setLevel(logging.WARNING)  # the main process logs for all
    with output_folder(training_args) as lock:
        if lock is not None:
            hooks = [*hooks, Watch(lock, training_args.output_dir)]
        return _train(args, hooks)


def _train(args: RunArguments, hooks: Sequence[Hook]) -> Trainer:
    data_args, training_args = args.data, args.training
    set_seed(training_args.seed)  # before the model: the weights of a fresh change encoder depend on it

    # Check the flags first, before weights are read.
    check_tuned(training_args)
    eval_sets = read_eval_sets(training_args, data_args)
    terms(data_args.data_mixture, known_sets(data_args.mixture_folder))
    with training_args.accelerator.main_process_first():
        checkpoint, replaced = starting_point(training_args)

    model = _model(args, checkpoint)
    parts = _freeze(args, model)
    encoder = _encoder(args, model)
    dataset, estimate = _data(args, model, encoder.cache)
    note_scene_facts(model.config, parts, dataset)
    clues = _clues(args, model, dataset, estimate, checkpoint, eval_sets)
    trainer = _trainer(args, model, parts, encoder, dataset, estimate, checkpoint)
    if eval_sets:
        trainer.hooks.append(Evaluation(trainer, eval_sets, None if clues is None else from_cache(clues.clues)))
    trainer.hooks += [ReturnMemory(), *hooks]

    # Nothing in output_dir is deleted or written before all of this has succeeded.
    if trainer.record is not None:
        for folder in replaced:
            delete(folder)
        write_run_record(Path(training_args.output_dir), trainer.record)

    _run(args, trainer, checkpoint)
    return trainer


def _model(args: RunArguments, checkpoint: str | None) -> BTCChat:
    """The model on its device, with fresh LoRA layers if flags ask for them."""
    training = args.training
    # bitsandbytes quantises on the way from the CPU to the GPU
    device = str(training.device) if training.bits == 16 else "cpu"
    # The attention is chosen by the dtype of autocast: the weights are float32.
    attention = pick_attention(str(training.device), training.computes_in, gradients=True)
    model = load_model(args.model, args.data, checkpoint, device, attention)
    model.label_smoothing = training.label_smoothing
    if training.lora_enable:
        add_lora(model, args.model.model_name_or_path, training)
        model.to(training.device)
    return model


def _freeze(args: RunArguments, model: BTCChat) -> list[ModelPart]:
    """Freeze all parts but those of the ``tune_*`` flags, and print which parts are trained."""
    parts = freeze(model, args.training)
    if model.base is not None and args.training.tune_vision_tower:
        model.base.parts = ["llm"]  # from now on the adapter has its own tower
    if args.main_process:
        print(parts_table(parts, args.training.learning_rate))
        encoder, projector = parts[1:3]
        if args.model.starts_change_encoder and encoder.num_parameters and not encoder.trainable:
            logger.warning(
                "the change encoder is fresh and frozen: its features of pairs are random; set --tune_cc_projector"
            )
        if args.model.fresh_mm_projector and projector.num_parameters and not projector.trainable:
            logger.warning(
                "the projector is fresh and frozen: what the language model sees is random; set --tune_single_projector"
            )
    return parts


def _encoder(args: RunArguments, model: BTCChat) -> TrainingEncoder:
    """How frames become features: every part in every process, the tower in bfloat16 or not, from a cache or not."""
    training = args.training
    encoder = TrainingEncoder(every_part=training.world_size > 1, mask_loss=training.mask_loss)
    if training.bf16 and not training.deepspeed and not training.tune_vision_tower:
        encoder.tower = FrozenTower(model.vision_tower)
    if args.data.cache_vision_features is not None:
        computed = {
            "mixed_precision": training.mixed_precision,
            "tf32": training.tf32,
            "weights cast": bool(training.deepspeed) or encoder.tower is not None,
        }
        encoder.cache = FeatureCache.of(args.data.cache_vision_features, model, computed)
    return encoder


def _data(
    args: RunArguments, model: BTCChat, cache: FeatureCache | None
) -> tuple[Mixture | StreamMixture, LengthEstimate]:
    """The mixture as samples, and the estimate of their lengths. Raises BTCChatError for a bad row."""
    training, data, processor = args.training, args.data, model.processor
    dataset = build_datasets(
        data.data_mixture,
        SampleMaker(processor, cache, model.vision_tower.grid if training.mask_loss else None),
        data_root=data.data_root,
        folder=data.mixture_folder,
        seed=training.seed if training.data_seed is None else training.data_seed,
        bad_samples=data.bad_samples,
    )
    if isinstance(dataset, StreamMixture) and training.max_steps <= 0:
        raise BTCChatError("the length of a streamed mixture is not known in advance; give --max_steps")
    if data.bad_samples == "stop":
        check_before(dataset, processor)
    if training.mask_loss:
        check_masks(model, dataset)
    estimate = LengthEstimate(processor)
    estimate.calibrate(dataset.some(256))
    return dataset, estimate


@dataclass(frozen=True)
class SampleMaker:
    """``make(record)`` -> a training sample. Where ``cache`` has the features of its frames, they replace the frames.

    grid: patches per side; if given, a pair also gets the changed share of each patch, from its mask.
    """

    processor: Processor
    cache: FeatureCache | None = None
    grid: int | None = None

    def __call__(self, record: Record) -> Sample:
        sample = self.processor(record, train=True)
        if self.grid is not None and record.modality == "pair":
            padded = self.processor.image_processor.aspect_ratio == "pad"
            sample["changed"] = changed_share(record, self.grid, padded=padded)
        return sample if self.cache is None else self.cache.take(sample)


def _clues(
    args: RunArguments,
    model: BTCChat,
    dataset: Mixture | StreamMixture,
    estimate: LengthEstimate,
    checkpoint: str | None,
    eval_sets: Sequence[EvalSet],
) -> AddClue | None:
    """Let ``dataset`` add clues to its records and augment pairs, as the flags ask."""
    evaluated = [sample.record for eval_set in eval_sets for sample in eval_set.samples]
    clues = prepare_clues(args, model, dataset, checkpoint, evaluated)
    dataset.augment = clues
    if clues is not None:
        estimate.clue_tokens = clues.tokens
    if args.data.augment_pairs:
        dataset.augment = PairViews(dataset.augment)
    return clues


def _trainer(
    args: RunArguments,
    model: BTCChat,
    parts: list[ModelPart],
    encoder: TrainingEncoder,
    dataset: Mixture | StreamMixture,
    estimate: LengthEstimate,
    checkpoint: str | None,
) -> Trainer:
    return Trainer(
        model,
        args.training,
        dataset,
        estimate=same_length if args.data.random_batches else estimate,
        encoder=encoder,
        max_tokens=args.data.max_tokens_per_batch,
        parts=parts,
        record=run_record(args, model, parts, dataset, checkpoint) if args.main_process else None,
    )


def _run(args: RunArguments, trainer: Trainer, checkpoint: str | None) -> None:
    """All steps from ``checkpoint`` to the end, then save the model and the log."""
    if not args.main_process:
        set_seed(args.training.seed + args.training.process_index)  # each process draws its own dropout
    if trainer.train(None if checkpoint is None else Path(checkpoint)):
        trainer.report_faults()
    trainer.save_model(trainer.output_dir)
    if args.main_process:
        trainer.state.write(trainer.output_dir)  # btcchat report plots its log


def same_length(modality: str, frames: int, characters: int) -> int:
    """An estimate that gives all samples the same length, so that batches are drawn at random."""
    return 1
