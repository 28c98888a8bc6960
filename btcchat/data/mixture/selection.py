"""What a mixture takes from an indexed set."""

import numpy as np

from btcchat.data.mixture.sampling import RowNumbers, captioned, sample
from btcchat.data.mixture.terms import Term
from btcchat.data.records import CODES, Record, Records


class Selection:
    """The samples of one set: its selected records or, if flattened, one sample for each of their captions."""

    def __init__(self, records: Records, term: Term, seed: int):
        self.records, self.term, self.captions = records, term, term.captions
        self.rows: RowNumbers = sample(term.sampling, len(records), name=term.name, seed=seed)
        self._caption_of: np.ndarray | None = None
        if term.captions == "flatten_list":
            counts = np.maximum(self.of_rows(np.asarray(records.num_captions)), 1)
            self.rows = np.repeat(self.rows, counts)
            starts = np.repeat(np.cumsum(counts) - counts, counts)
            self._caption_of = np.arange(len(self.rows)) - starts

    def __len__(self) -> int:
        return len(self.rows)

    def of_rows(self, values: np.ndarray) -> np.ndarray:
        """One value per sample, from ``values`` with one per row of the set."""
        return values[self.rows.start : self.rows.stop] if isinstance(self.rows, range) else values[self.rows]

    def record(self, index: int, draw: tuple[int, ...]) -> Record:
        """draw: the seed for the choice of a random caption."""
        choices = captioned(self.records[int(self.rows[index])], self.captions, draw)
        return choices[0 if self._caption_of is None else self._caption_of[index]]

    def modality(self, index: int) -> str:
        return CODES[self.records.modality_codes[int(self.rows[index])]]
