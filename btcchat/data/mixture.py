"""Data sets by name, and mixtures of them: ``a+b*3`` is set a once and set b three times.

What sets exist is data: each YAML file in datasets_mixture/ maps a name to its annotation file and image root, both
relative to the data root, and to what else is worth knowing about it (licence, citation, metres a pixel).
"""

import os
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import yaml

from btcchat.data.records import CODES, Record, Records
from btcchat.errors import BTCChatError, choose
from btcchat.resources import resource

REQUIRED = {"annotation", "images"}
# kind: of `btcchat data convert`; source: where it is downloaded; gsd: ground sampling distance, metres a pixel
DESCRIPTIVE = {"description", "kind", "source", "license", "citation", "gsd"}


class Mixture:
    """The records of several sets behind one another, as samples: ``mixture[i]`` is ``make_sample(record)``.

    A set listed n times counts n times. ``make_sample`` may raise BTCChatError; the record's file and row are added.
    """

    def __init__(self, sets: list[Records], make_sample: Callable[[Record], dict]):
        self.sets, self.make_sample = sets, make_sample
        self._ends = list(accumulate(len(records) for records in sets))

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = bisect_right(self._ends, index)
        return self.sets[which][index - (self._ends[which - 1] if which else 0)]

    def __getitem__(self, index: int) -> dict:
        record = self.record(index)
        try:
            return self.make_sample(record)
        except BTCChatError as error:
            raise BTCChatError(f"{record.where}: {error}") from error

    def lengths(self, estimate: Callable[[str, int, int], int]) -> np.ndarray:
        """``estimate(modality, frames, characters)`` of every sample, without reading one. frames -1: a video."""
        per_set = {
            id(records): np.array(
                [
                    estimate(CODES[code], frames, characters)
                    for code, frames, characters in zip(
                        records.modality_codes, records.frames, records.characters, strict=True
                    )
                ],
                dtype=np.int32,
            )
            for records in self.sets
        }
        return np.concatenate([per_set[id(records)] for records in self.sets])


def build_datasets(
    mixture: str,
    make_sample: Callable[[Record], dict],
    *,
    data_root: str | Path | None = None,
    folder: str | Path | None = None,
) -> Mixture:
    """The mixture ``"a+b*3"`` of the sets that the YAML files of ``folder`` name.

    data_root: what their paths are relative to; default the environment variable BTCCHAT_DATA.
    Raises BTCChatError for an unknown name (the choices are listed), a bad repeat, a missing file, a bad record.
    """
    known = known_sets(mixture_folder(folder))
    chosen = [(choose("data set", name, known), name, repeat) for name, repeat in parse_mixture(mixture)]
    data_root = data_root or os.environ.get("BTCCHAT_DATA")
    if not data_root:
        raise BTCChatError("no folder of data; give --data_root or set the environment variable BTCCHAT_DATA")
    root = Path(data_root)
    read = {name: Records(root / row["annotation"], root / row["images"]) for row, name, _ in chosen}
    return Mixture([read[name] for _, name, repeat in chosen for _ in range(repeat)], make_sample)


def parse_mixture(mixture: str) -> list[tuple[str, int]]:
    """``"a+b*3"`` -> ``[("a", 1), ("b", 3)]``."""
    terms = []
    for term in mixture.split("+"):
        name, star, repeat = (piece.strip() for piece in term.partition("*"))
        if not name or (star and not (repeat.isdecimal() and int(repeat) > 0)):
            raise BTCChatError(f"data mixture '{mixture}': '{term}' is not a set's name, or NAME*TIMES with TIMES >= 1")
        terms.append((name, int(repeat) if star else 1))
    return terms


def mixture_folder(folder: str | Path | None = None) -> Path:
    """Where the YAML files are: ``folder``, or the datasets_mixture/ that comes with the package."""
    path = Path(folder) if folder else resource("datasets_mixture")
    if not path.is_dir():
        raise BTCChatError(f"no folder {path} of data set descriptions (*.yaml); give one with --mixture_folder")
    return path


def known_sets(folder: Path) -> dict[str, dict]:
    """Name -> description, over all YAML files of ``folder``."""
    known = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise BTCChatError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise BTCChatError(f"{path} names no data sets; expected NAME: {{annotation: ..., images: ...}}")
        for name, row in content.items():
            if name in known:
                raise BTCChatError(f"{path}: data set '{name}' is described twice; rename one")
            if not isinstance(row, dict) or not set(row) >= REQUIRED or set(row) - REQUIRED - DESCRIPTIVE:
                raise BTCChatError(
                    f"{path}: data set '{name}' must give {', '.join(sorted(REQUIRED))} and may give "
                    f"{', '.join(sorted(DESCRIPTIVE))}"
                )
            known[name] = row
    return known
