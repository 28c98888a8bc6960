"""A record gets its clue on the way to the sample, or, in training, now and then none."""

from dataclasses import dataclass, replace

import numpy as np

from btcchat.clues.store import Clues
from btcchat.data.records import Record
from btcchat.errors import BTCChatError

DRAWN_FOR_CLUES = 1  # beside the draw, so that dropping a clue and choosing a caption are independent


@dataclass
class AddClue:
    """A record -> the same with its clue. One that has a clue of its own keeps it. ``dropout``: share without."""

    clues: Clues
    dropout: float = 0.0

    def __call__(self, record: Record, draw: tuple[int, ...]) -> Record:
        """draw: what dropping depends on (seed, epoch, index). Raises BTCChatError where there is no clue."""
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
        """About how many a clue adds to a prompt."""
        return int(self.clues.about.get("max_new_tokens", 0))
