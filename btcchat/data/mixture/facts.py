"""The data a run has read, for its record: each set of a mixture, how much of it, and a fingerprint of its files."""

from glob import glob
from pathlib import Path
from typing import TypedDict

import numpy as np

from btcchat.data.mixture.hashes import file_hash, joined
from btcchat.data.mixture.mixture import Mixture
from btcchat.data.mixture.selection import Selection
from btcchat.data.mixture.stream import Chunks, Stream, StreamMixture
from btcchat.data.records import Records
from btcchat.data.records.arrow_rows import ArrowRows
from btcchat.data.records.rows import HUB
from btcchat.data.records.shards import Shards

TABLES = (".arrow", ".parquet", ".json", ".jsonl")  # files in the folder of a saved data set


class Fingerprint(TypedDict, total=False):
    """Identifies the files of a set; empty for a streamed data set of the hub."""

    files: int  # of a folder, a glob or shards
    bytes: int
    sha256: str  # hashes of files that are read as a whole
    sha256_of_names_and_sizes: str  # of shards
    fingerprint: str  # by which `datasets` identifies a data set of the hub


class Extent(TypedDict, total=False):
    """How much of a set is read: records and samples, or shards if it is streamed."""

    split: str  # of a data set of the hub, like subset
    subset: str
    records: int
    samples: int  # more than records if each caption makes a sample
    shards: int


class SetFacts(Extent, Fingerprint):
    """One share of a set that a run reads."""

    set: str  # as in a mixture: "levir_cc:train@first:5"
    annotation: str
    repeats: int  # how often it is read in an epoch


def facts(mixture: Mixture | StreamMixture) -> list[SetFacts]:
    """One entry for each used share of each set."""
    known: dict[tuple[str, int], SetFacts] = {}
    fingerprints: dict[int, Fingerprint] = {}  # by source
    for member in mixture.sets:
        member = member.selection if isinstance(member, Chunks) else member
        source = member.shards if isinstance(member, Stream) else member.records
        key = member.term.label, id(source)
        if key in known:
            known[key]["repeats"] += 1
            continue
        if id(source) not in fingerprints:
            fingerprints[id(source)] = _fingerprint(source)
        known[key] = {
            "set": member.term.label,
            "annotation": str(source.path),
            **_extent(member),
            "repeats": 1,
            **fingerprints[id(source)],
        }
    return list(known.values())


def _extent(member: Selection | Stream) -> Extent:
    description, extent = member.term.description, Extent()
    if "split" in description:
        extent["split"] = description["split"]
    if "subset" in description:
        extent["subset"] = description["subset"]
    if isinstance(member, Stream):
        extent["shards"] = len(member)
    else:
        extent["records"], extent["samples"] = len(np.unique(member.rows)), len(member)
    return extent


def _fingerprint(source: Records | Shards) -> Fingerprint:
    if isinstance(source, Shards):
        files = [] if source.files[0].startswith(HUB) else source.files
        sizes = {file: Path(file).stat().st_size for file in files if Path(file).is_file()}
        if not files:
            return {}
        listed = [f"{Path(file).name} {sizes.get(file)}" for file in files]
        return {"files": len(files), "bytes": sum(sizes.values()), "sha256_of_names_and_sizes": joined(listed)}
    if isinstance(source.rows, ArrowRows) and str(source.path).startswith(HUB):
        return {"fingerprint": source.rows.fingerprint}
    path = Path(source.path)
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    paths = sorted(path.rglob("*") if path.is_dir() else (Path(match) for match in glob(str(path))))
    tables = [file for file in paths if file.suffix in TABLES]
    size = sum(file.stat().st_size for file in tables)
    hashes = [f"{file.name} {file_hash(file)}" for file in tables]
    return {"files": len(tables), "bytes": size, "sha256": joined(hashes)}
