"""Add its clue to a record before the sample is made; in training, drop some clues at random."""

from dataclasses import dataclass, replace

import numpy as np

from btcchat.clues.store import Clues
from btcchat.data.records import Record
from btcchat.errors import BTCChatError

DRAWN_FOR_CLUES = 1  # appended to the draw, so that dropping a clue and choosing a caption are independent


@dataclass
class AddClue:
    """Return a record with its clue; one with a clue of its own keeps it. ``dropout``: share of records without."""

    clues: Clues
    dropout: float = 0.0

    def __call__(self, record: Record, draw: tuple[int, ...]) -> Record:
        """draw: what dropping depends on (seed, epoch, index). Raises BTCChatError if the record has no clue."""
        if self.dropout and np.random.default_rng((*draw, DRAWN_FOR_CLUES)).random() < self.dropout:
            return replace(record, clue=None)
        if record.clue:
            return record
        try:
            return replace(record, clue=self.clues.of(record.modality, record.sources) or None)
        except BTCChatError as error:
            raise BTCChatError(f"{record.where}: {error}") from error

    @property
    def tokens(self) -> int:
        """About how many tokens a clue adds to a prompt: as many as the clue model could generate."""
        return int(self.clues.about.get("max_new_tokens", 0))
