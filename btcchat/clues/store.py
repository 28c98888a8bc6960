"""Clues on disk: what a clue model said about the images of a record, found again by what the images hold.

A folder of clues is of one model: ``clues.json`` says which one, what it was asked and how; ``clues*.jsonl`` have a
line for each image, pair, series or video: its modality, its files (path, bytes, time of change, SHA-256) and the
clue. Written by `btcchat augment`, read by ``--prompt_augmentation cached --clues FOLDER``.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic reads no other on Python < 3.12

from btcchat.data.mixture.hashes import FileHashes, joined
from btcchat.data.records import Record
from btcchat.errors import BTCChatError, choose
from btcchat.files import Appender, read_json, read_rows, write_json
from btcchat.media.frames import Sources
from btcchat.media.reading import DEFAULT, Reading
from btcchat.media.source import Embedded, existing_file, list_images
from btcchat.outputs.lock import Lock, beside

PROMPT_AUGMENTATION = {
    "off": "no clue is added; one that a record has of its own stays",
    "cached": "clues that btcchat augment has written",
    "online": "the clue model is asked first",
}
CLUE_QUESTIONS = {  # what a clue model is asked about the images; a folder of clues names them
    "image": "Describe this image in one or two sentences.",
    "pair": "What is different between these two images of the same place? Answer in one or two sentences.",
    "series": "These images show one place at different dates. What happened? Answer in one or two sentences.",
    "video": "What happens in this video? Answer in one or two sentences.",
}
AGAIN = "run btcchat augment with that --out again"
FAULT = "is not a clue; choose another folder of clues"
SHOWN = 5  # records without a clue that an error names


class ClueFacts(TypedDict, total=False):
    """clues.json, as far as code here reads it."""

    model: str
    identity: str
    questions: dict[str, str]
    reading: dict[str, str | None]  # see Reading.record; not in a folder of an older version


class Clues:
    """The clues of ``folder``, by modality and the images' content. ``about``: what clues.json says of the model.

    reading: how images are read now. Raises BTCChatError for a folder without clues or of images that were read in
    another way, or a line that is not a clue.
    """

    def __init__(self, folder: str | Path, *, reading: Reading = DEFAULT) -> None:
        self._load(Path(folder))
        _check_reading(self.about, reading, self.folder)

    def _load(self, folder: Path) -> None:
        self.folder = folder
        self.about = read_about(self.folder)
        self.hashes = FileHashes()
        self._texts: dict[str, str] = {}  # key -> clue
        self._written: dict[str, str] = {}  # path -> hash when its clue was written
        for path in sorted(self.folder.glob("clues*.jsonl")):
            for number, row in read_rows(path, FAULT):
                self._take(row, f"{path} line {number}")

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def empty(self) -> int:
        """How many clues say nothing; a prompt then has none."""
        return sum(not clue.strip() for clue in self._texts.values())

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def key(self, modality: str, sources: Sources) -> str:
        """What these images are kept under: it depends on what the files hold, not on their names."""
        return f"{modality} {joined([self.hashes(path) for path in files_of(modality, sources)])}"

    def find(self, modality: str, sources: Sources) -> str | None:
        """The clue of these images, "" where the model had nothing to say; None where there is no clue of them."""
        return self._texts.get(self.key(modality, sources))

    def of(self, modality: str, sources: Sources) -> str:
        """As :meth:`find`, but a clue that is not there is an error, which tells a changed file from a new one."""
        if modality == "text":
            return ""
        clue = self.find(modality, sources)
        if clue is not None:
            return clue
        files = files_of(modality, sources)
        for file in files:
            written = None if isinstance(file, Embedded) else self._written.get(_name(file))
            if written not in (None, self.hashes(file)):
                raise BTCChatError(f"{file} has changed since its clue was written to {self.folder}; {AGAIN}")
        names = ", ".join(map(str, files[:2]))
        raise BTCChatError(f"no clue of {names} ({modality}) in {self.folder}; {AGAIN}")

    def check(self, records: Iterable[Record]) -> None:
        """Raises BTCChatError, which counts and names them, where records have no clue, neither their own nor here."""
        missing: list[str] = []
        last: tuple[str, Sources] | None = None
        for record in records:
            if record.clue or (record.modality, record.sources) == last:
                continue  # rows of the same images often follow one another
            try:
                self.of(record.modality, record.sources)
                last = record.modality, record.sources
            except BTCChatError as error:
                missing.append(f"{record.where}: {error}".removesuffix(f"; {AGAIN}"))
        if missing:
            more = f" (and {len(missing) - SHOWN} more)" if len(missing) > SHOWN else ""
            count = f"{len(missing)} record{'s have' if len(missing) > 1 else ' has'} no clue"
            raise BTCChatError(f"{count}: {'; '.join(missing[:SHOWN])}{more}; {AGAIN}")

    def _take(self, row: dict[str, Any], where: str) -> None:
        try:
            files, clue = row["files"], str(row["clue"])
            for file in files:
                self.hashes.known[file["path"]] = (file["bytes"], file["changed"], file["sha256"])
                self._written[file["path"]] = file["sha256"]
            self._texts[f"{row['modality']} {joined([file['sha256'] for file in files])}"] = clue
        except (KeyError, TypeError) as error:
            raise BTCChatError(f"{where} {FAULT}") from error


class ClueWriter(Clues):
    """Clues that are added to; :meth:`add` returns when they are on the disk. The folder is made where it is not there.

    writer: the number of the process, where several write at a time, each its own file. Raises BTCChatError where the
    folder holds clues of another model, other questions or settings, or another process writes the same file.
    """

    def __init__(self, folder: str | Path, about: dict[str, Any], writer: int = 0) -> None:
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise BTCChatError(f"{folder} is a file; give a folder for the clues")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / (f"clues-{writer}.jsonl" if writer else "clues.jsonl")
        self._lock = Lock(beside(file), str(folder))
        try:
            self._open(folder, about)
            self._file = Appender(file)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, folder: Path, about: dict[str, Any]) -> None:
        there = list(folder.glob("clues*.jsonl"))  # looked for first: another process writes clues.json before them
        if not (folder / "clues.json").exists():
            if there:
                raise BTCChatError(
                    f"{folder} has clues but no clues.json that says of which model; choose another folder"
                )
            write_json(folder / "clues.json", about)
        self._load(folder)
        agree(self.about, about, folder)

    def add(self, clues: list[tuple[str, Sources, str]]) -> None:
        """Keep (modality, sources, clue) of each."""
        rows = []
        for modality, sources, clue in clues:
            self._texts[self.key(modality, sources)] = clue
            files = []
            for file in files_of(modality, sources):
                size, changed, sha256 = self.hashes.facts(file)
                files.append({"path": _name(file), "bytes": size, "changed": changed, "sha256": sha256})
            rows.append({"modality": modality, "files": files, "clue": clue})
        self._file.append(rows)

    def __enter__(self) -> "ClueWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()


def read_about(folder: Path) -> dict[str, Any]:
    """What clues.json says. Raises BTCChatError if there is none, or it does not say which model the clues are of."""
    missing = f"{folder} is not a folder of clues, which btcchat augment writes"
    again = "write the clues again with btcchat augment"
    keys = ("model", "identity", "questions")
    return read_json(folder / "clues.json", *keys, schema=ClueFacts, missing=missing, way_out=again)


def agree(about: dict[str, Any], requested: dict[str, Any], folder: Path) -> None:
    """Raise BTCChatError where ``about``, which ``folder`` says of its clues, is not what is ``requested``."""
    if about["identity"] != requested["identity"]:
        theirs, wanted = (f"{facts['model']} ({facts['identity'][:12]})" for facts in (about, requested))
        raise BTCChatError(f"{folder} has clues of the model {theirs}, not of {wanted}; choose another, or delete it")
    for name, value in requested.items():
        if name not in ("model", "identity") and about.get(name) != value:
            theirs = f"{name} {about.get(name)}"
            raise BTCChatError(f"{folder} has clues with {theirs}, not {value}; choose another, or delete it")


def _check_reading(about: dict[str, Any], reading: Reading, folder: Path) -> None:
    """Raise BTCChatError where the clues are of images that were not read in this way."""
    default = DEFAULT.record()
    theirs = default | (about.get("reading") or {})
    if theirs != reading.record():
        flags = " ".join(f"--{name} {value}" for name, value in theirs.items() if value != default[name])
        raise BTCChatError(
            f"{folder} has clues of images read with {flags or 'the default --bands, --stretch and --nodata'}; read "
            "them in the same way now, or run btcchat augment with today's flags and another --out"
        )


def _name(file: str | Embedded) -> str:
    return str(file) if isinstance(file, Embedded) else os.path.abspath(file)


def files_of(modality: str, sources: Sources) -> list[str | Embedded]:
    """The files whose content decides what is seen; of a folder of frames, all its images."""
    items = sources if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    if len(items) == 1 and modality in ("series", "video"):
        only = items[0]
        if isinstance(only, str | os.PathLike) and os.path.isdir(only):
            items = list_images(only)
    kind = "video" if modality == "video" else "image"
    files = []
    for item in items:
        if not isinstance(item, str | os.PathLike | Embedded):
            raise BTCChatError(f"clues are found by files, and this {kind} is in memory; give its path")
        files.append(existing_file(item, kind))
    return [file if isinstance(file, Embedded) else str(file) for file in files]


def check_flags(mode: str, clues: str | None, clue_model: str | None) -> None:
    """What can be wrong between the flags of prompt augmentation. Raises BTCChatError."""
    choose("prompt_augmentation", mode, PROMPT_AUGMENTATION)
    if mode == "cached" and clues is None:
        raise BTCChatError("--prompt_augmentation cached needs --clues DIR, which btcchat augment has written")
    if mode != "cached" and clues is not None:
        raise BTCChatError(f"--clues {clues} has no effect with --prompt_augmentation {mode}; it goes with cached")
    if mode == "off" and clue_model is not None:
        raise BTCChatError(f"--clue_model {clue_model} has no effect with --prompt_augmentation off")
