"""The clues of a training run (prompt augmentation), read or written before its first step."""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch

from btcchat.api import BTCChat
from btcchat.clues.apply import AddClue
from btcchat.clues.ask import SELF, clue_model_of, describe, open_clues, records_of, write_clues
from btcchat.clues.store import ClueWriter
from btcchat.data.records import Record
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)


def prepare_clues(
    model_args,
    data_args,
    training_args,
    model: BTCChat,
    mixture,
    checkpoint: str | None,
    evaluated: Sequence[Record] = (),
) -> AddClue | None:
    """How a record gets its clue; None without prompt augmentation. Raises BTCChatError where a record has no clue,
    of the mixture or of those that are ``evaluated`` while training.

    online: the model, its adapter off, or the one that --clue_model names is asked now, each process about its share,
    and what it says is kept in output_dir/clues: a resumed run (``checkpoint``) does not ask again.
    """
    mode = data_args.prompt_augmentation
    if mode == "off":
        return None
    if model.config.conv_version == "plain":
        raise BTCChatError(f"--prompt_augmentation {mode}: template plain writes no question and no clue; use v1")

    def records() -> Iterator[Record]:
        return chain(records_of(mixture), evaluated)

    folder = data_args.clues
    if mode == "online":
        folder = Path(training_args.output_dir) / "clues"
        if checkpoint is None:
            asked = _asked(model_args, data_args, training_args, model)
            path = data_args.clue_model
            about = describe(model_args.model_name_or_path if path in (None, SELF) else path, asked)
            rank, world = training_args.process_index, training_args.world_size
            with ClueWriter(folder, about, writer=rank) as writer:
                share = (record for number, record in enumerate(records()) if number % world == rank)
                _write(asked, share, writer, training_args.per_device_train_batch_size)
            if world > 1:
                torch.distributed.barrier()
    clues = open_clues(folder, data_args.clue_model if mode == "cached" else None)
    clues.check(records())
    logger.info("prompt augmentation: %d clues of %s (%s)", len(clues), clues.about["model"], folder)
    return AddClue(clues, data_args.clue_dropout)


def _asked(model_args, data_args, training_args, model: BTCChat) -> BTCChat:
    if model_args.from_origin and data_args.clue_model in (None, SELF):
        raise BTCChatError(
            "--from_origin starts a fresh change encoder, and clues about pairs would be asked through it; name the "
            f"original checkpoint: --clue_model {model_args.model_name_or_path}"
        )

    def load(path: str) -> BTCChat:
        return BTCChat.from_pretrained(path, device=str(training_args.device))

    return clue_model_of(model, data_args.clue_model, load)


def _write(model: BTCChat, records: Iterator[Record], writer: ClueWriter, batch_size: int) -> None:
    before = len(writer)
    for fault in write_clues(model, records, writer, batch_size=batch_size):
        if fault:
            raise BTCChatError(fault)
        if len(writer) // 1000 > before // 1000:
            before = len(writer)
            logger.info("prompt augmentation: %d clues written", before)
