"""Sets that are read sequentially, a shard at a time: tar files as in WebDataset, or streamed Parquet.

A sample of a tar shard consists of the files with the same name up to the first dot: ``0001.json`` (a record) and
``0001.before.png``, ``0001.after.png``. The record names them, or they are its images in natural order. ``datasets``
reads such tars too, but only if all samples have the same files and JSON keys, unlike a mixture of modalities.
"""

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from glob import glob
from itertools import groupby
from pathlib import PurePosixPath

from btcchat.data.records.record import MEDIA_KEYS, Record, parse
from btcchat.data.records.rows import HUB, decoded
from btcchat.errors import BTCChatError
from btcchat.limits.regular import regular
from btcchat.media.source import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Embedded, natural_key

MOST_SHARDS = 100_000  # shards that one pattern may name
MOST_BYTES = 2**29  # total size of the files of one sample in a tar shard, all of which are in memory
MOST_HEADER = 2**20


def open_shards(annotation: list[str], image_root: str, *, split: str = "train", subset: str | None = None) -> "Shards":
    """A list of tar files, or one Parquet file or data set of the hub with its ``split`` and ``subset``."""
    if is_tar(annotation[0]):
        return TarShards(annotation, image_root)
    return StreamedRows(annotation, image_root, split=split, subset=subset)


def is_tar(path: str) -> bool:
    return path.endswith((".tar", ".tar.gz", ".tgz"))


class Shards:
    """Shards of records, each read sequentially."""

    path: str  # as in the description of the set
    files: list[str]  # paths or addresses; for tars, one per shard
    image_root: str

    def __len__(self) -> int:
        raise NotImplementedError

    def rows(self, shard: int) -> Iterator[tuple[str, object]]:
        """Yield the place of each row of a shard, for messages, and the row or a BTCChatError."""
        raise NotImplementedError

    def read(self, shard: int) -> Iterator[Record]:
        """Read the records of a shard. Raises BTCChatError naming shard and row."""
        return (parse(row, where, self.image_root) for where, row in self.rows(shard))


class TarShards(Shards):
    """Tar files, local or at an address that fsspec supports (https, hf, s3); they are streamed, not stored on disk."""

    def __init__(self, patterns: list[str], image_root: str):
        self.path = ", ".join(patterns)
        self.files = [shard for pattern in patterns for shard in _expanded(pattern)]
        self.image_root = image_root

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, shard: int) -> Iterator[tuple[str, object]]:
        url = self.files[shard]
        for key, files in groupby(_files(url), key=lambda file: _key(file.name)):
            yield f"{PurePosixPath(url).name} sample {key}", _row(list(files))


class StreamedRows(Shards):
    """A data set of the hub, or Parquet files, streamed by ``datasets``."""

    def __init__(self, annotation: list[str], image_root: str, *, split: str = "train", subset: str | None = None):
        from btcchat.data.records.arrow_rows import encoded, load

        self.path, self.files, self.image_root = ", ".join(annotation), annotation, image_root
        if self.path.startswith(HUB):
            dataset = load(self.path.removeprefix(HUB), split=split, subset=subset, streaming=True)
        else:
            dataset = load("parquet", files=annotation, split="train", streaming=True)
        self.dataset = encoded(dataset)

    def __len__(self) -> int:
        return int(self.dataset.num_shards)

    def rows(self, shard: int) -> Iterator[tuple[str, object]]:
        name = f"{self.path} shard {shard + 1}"
        for number, row in enumerate(self.dataset.shard(num_shards=len(self), index=shard), start=1):
            yield f"{name} row {number}", row


def _expanded(pattern: str) -> list[str]:
    """Expand ``train-{000..099}.tar`` and, for local files, ``train-*.tar``."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}", pattern, re.ASCII)
    if match:
        first, last = match.groups()
        numbers = range(int(first[-9:]), int(last[-9:]) + 1)
        if max(len(first), len(last)) > 9 or not 0 < len(numbers) <= MOST_SHARDS:
            raise BTCChatError(
                f"tar shards {pattern[:80]}: {{FIRST..LAST}} must count up and name at most {MOST_SHARDS:,} shards"
            )
        return [pattern.replace(match[0], f"{number:0{len(first)}d}") for number in numbers]
    if "://" in pattern:
        return [pattern]
    paths = sorted(glob(pattern), key=natural_key) if "\0" not in pattern else []
    if not paths:
        raise BTCChatError(f"no tar shard {pattern}; check --data_root and the mixture's YAML")
    return paths


class _Member(tarfile.TarInfo):
    """Refuses a header longer than any name, since tarfile reads it into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isfile() and self.size > MOST_HEADER:
            raise tarfile.ReadError(f"a header has {self.size:,} bytes, the limit is {MOST_HEADER:,}")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def _files(url: str) -> Iterator[Embedded]:
    import fsspec

    key, held = "", 0  # size of the sample that is being read, in bytes
    try:
        if "://" not in url:
            regular(url)
        with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as tar:
            for member in tar:
                hidden = PurePosixPath(member.name).name.startswith(".")
                if not member.isfile() or hidden:
                    continue
                held = member.size + (held if _key(member.name) == key else 0)
                key = _key(member.name)
                if held > MOST_BYTES:
                    raise BTCChatError(
                        f"tar shard {url}: the files of sample {key} have more than {MOST_BYTES:,} bytes; make them "
                        "smaller, or keep them outside the shard"
                    )
                if (content := tar.extractfile(member)) is not None:
                    yield Embedded(member.name, content.read())
    except (OSError, EOFError, ValueError, ImportError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, BTCChatError):
            raise
        raise BTCChatError(f"tar shard {url} cannot be read: {' '.join(str(error).split())}") from error


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _row(files: list[Embedded]) -> object:
    """The record of a sample, with file contents instead of their names."""
    records = [file for file in files if file.suffix == ".json"]
    if len(records) != 1:
        return BTCChatError(f"{len(records)} .json files, expected one; found {', '.join(map(str, files))}")
    row = decoded(records[0].data)
    if not isinstance(row, dict):
        return row
    inside = {PurePosixPath(file.name).name: file for file in files}
    for key in MEDIA_KEYS:
        if row.get(key) is not None:
            several = isinstance(row[key], list)
            paths = row[key] if several else [row[key]]
            media = [inside.get(PurePosixPath(str(path)).name, path) for path in paths]
            return row | {key: media if several else media[0]}
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if videos:
        return row | {"video": videos[0]}
    return row | {"images": sorted(images, key=lambda file: natural_key(file.name))} if images else row
