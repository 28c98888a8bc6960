"""What a run is told to have read: each set of a mixture, how much of it, and the fingerprint of its files."""

from glob import glob
from pathlib import Path

import numpy as np

from btcchat.data.mixture.hashes import file_hash, joined
from btcchat.data.mixture.mixture import Mixture, Selection
from btcchat.data.mixture.stream import Chunks, StreamMixture
from btcchat.data.records import Records
from btcchat.data.records.rows import HUB
from btcchat.data.records.shards import Shards

TABLES = (".arrow", ".parquet", ".json", ".jsonl")  # files of a folder that is a data set


def facts(mixture: Mixture | StreamMixture) -> list[dict]:
    """Each set once for each share of it that is used: its records and samples, or shards, and how often an epoch
    reads them (``repeats``). Of what is read whole the SHA-256 of its files is given, of streams that of their names
    and sizes; of a data set of the hub what `datasets` knows it by.
    """
    found: dict[tuple, dict] = {}
    fingerprints: dict[int, dict] = {}  # by source
    for one in mixture.sets:
        one = one.selection if isinstance(one, Chunks) else one
        whole = isinstance(one, Selection)
        source = one.records if whole else one.shards
        key = one.term.label, id(source)
        if key in found:
            found[key]["repeats"] += 1
            continue
        if id(source) not in fingerprints:
            fingerprints[id(source)] = _fingerprint(source)
        size = {"records": len(np.unique(one.rows)), "samples": len(one)} if whole else {"shards": len(one)}
        place = {key: one.term.description[key] for key in ("split", "subset") if key in one.term.description}
        found[key] = {"set": one.term.label, "annotation": str(source.path), **place, **size, "repeats": 1}
        found[key] |= fingerprints[id(source)]
    return list(found.values())


def _fingerprint(source: Records | Shards) -> dict:
    """Nothing for a data set of the hub that is streamed."""
    if isinstance(source, Shards):
        files = [] if source.files[0].startswith(HUB) else source.files
        sizes = {file: Path(file).stat().st_size for file in files if Path(file).is_file()}
        if not files:
            return {}
        listed = [f"{Path(file).name} {sizes.get(file)}" for file in files]
        return {"files": len(files), "bytes": sum(sizes.values()), "sha256_of_names_and_sizes": joined(listed)}
    path = Path(source.path)
    if str(source.path).startswith(HUB):
        return {"fingerprint": source.rows.dataset._fingerprint}
    if path.is_file():
        return {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    files = sorted(path.rglob("*") if path.is_dir() else map(Path, glob(str(path))))
    files = [file for file in files if file.suffix in TABLES]
    size = sum(file.stat().st_size for file in files)
    return {"files": len(files), "bytes": size, "sha256": joined([f"{file.name} {file_hash(file)}" for file in files])}
