"""The clues of a training run (prompt augmentation), read or written before its first step."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import torch

from btcchat.api import BTCChat
from btcchat.clues.apply import AddClue
from btcchat.clues.ask import SELF, clue_model_of, describe, open_clues, records_of, write_clues
from btcchat.clues.store import ClueWriter
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.train.arguments import RunArguments

logger = logging.getLogger(__name__)

FRESH = {  # flag -> the part of the model that is then untrained
    "from_origin": "change encoder",
    "fresh_change_encoder": "change encoder",
    "fresh_mm_projector": "projector",
}


def prepare_clues(
    args: RunArguments,
    model: BTCChat,
    mixture: Mixture | StreamMixture,
    checkpoint: str | None,
    evaluated: Sequence[Record] = (),
) -> AddClue | None:
    """The step that adds a clue to a record, or None without prompt augmentation.

    With online, the clues are written now, to output_dir/clues; a resumed run (``checkpoint``) reuses the clues it
    wrote before. Raises BTCChatError if a record of the mixture, or one that is ``evaluated`` while training, has no
    clue.
    """
    mode = args.data.prompt_augmentation
    if mode == "off":
        return None
    if model.config.conv_version == "plain":
        raise BTCChatError(f"--prompt_augmentation {mode}: template plain has no room for a clue; use --version v1")

    def records() -> Iterator[Record]:
        return chain(records_of(mixture), evaluated)

    if mode == "online":
        folder = Path(args.training.output_dir) / "clues"
        if checkpoint is None:
            _write_clues(args, model, records(), folder)
        clues = open_clues(folder, args.data.reading)
    else:
        assert args.data.clues is not None  # see clues.store.check_flags
        clues = open_clues(args.data.clues, args.data.reading, args.data.clue_model)
    clues.check(records())
    logger.info("prompt augmentation: %d clues of %s (%s)", len(clues), clues.about["model"], clues.folder)
    return AddClue(clues, args.data.clue_dropout)


def _write_clues(args: RunArguments, model: BTCChat, records: Iterator[Record], folder: Path) -> None:
    """Write the clues of all records to ``folder``; each process writes its share."""
    name, training = args.data.clue_model, args.training
    clue_model = _clue_model(args, model)
    about = describe(args.model.model_name_or_path if name in (None, SELF) else name, clue_model)
    rank, world = training.process_index, training.world_size
    # flash-attn, chosen for the autocast of the training, does not compute in float32, as the weights are.
    flash = clue_model is model and str(model.llm.config._attn_implementation).startswith("flash")
    with ClueWriter(folder, about, writer=rank) as writer, training.autocast() if flash else nullcontext():
        share = (record for number, record in enumerate(records) if number % world == rank)
        reported = len(writer)
        for fault in write_clues(clue_model, share, writer, batch_size=training.per_device_train_batch_size):
            if fault:
                raise BTCChatError(fault)
            if len(writer) // 1000 > reported // 1000:
                reported = len(writer)
                logger.info("prompt augmentation: %d clues written", reported)
    if world > 1:
        torch.distributed.barrier()


def _clue_model(args: RunArguments, model: BTCChat) -> BTCChat:
    """The model that --clue_model names, or ``model`` itself, whose adapter is switched off meanwhile."""
    fresh = next((flag for flag in FRESH if getattr(args.model, flag)), None)
    if fresh is not None and args.data.clue_model in (None, SELF):
        raise BTCChatError(
            f"--{fresh} starts a fresh {FRESH[fresh]}, and clues that it writes would be random; name the original "
            f"checkpoint: --clue_model {args.model.model_name_or_path}"
        )

    def load(path: str) -> BTCChat:
        return BTCChat.from_pretrained(path, device=str(args.training.device), reading=args.data.reading)

    clue_model: BTCChat = clue_model_of(model, args.data.clue_model, load)
    return clue_model
