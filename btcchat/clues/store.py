"""Clues on disk: what a clue model said about the images of a record, looked up by the content of the images.

A folder has the clues of one model: ``clues.json`` says which one, what it was asked and how; ``clues*.jsonl`` have a
line for each image, pair, series or video: its modality, its files (path, size in bytes, time of modification, SHA-256)
and the clue. `btcchat augment` writes the folder, ``--prompt_augmentation cached --clues FOLDER`` reads it.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic does not accept typing's on Python < 3.12

from btcchat.data.mixture.hashes import FileHashes, joined
from btcchat.data.records import Record
from btcchat.errors import BTCChatError, choose
from btcchat.files import Appender, read_json, read_rows, write_json
from btcchat.media.frames import Sources
from btcchat.media.reading import DEFAULT, Reading
from btcchat.media.source import Embedded, existing_file, list_images
from btcchat.outputs.lock import Lock, beside

PROMPT_AUGMENTATION = {
    "off": "add no clue; a record keeps a clue of its own",
    "cached": "use clues that btcchat augment has written",
    "online": "ask the clue model before each question",
}
CLUE_QUESTIONS = {  # what a clue model is asked about the images; clues.json records them
    "image": "Describe this image in one or two sentences.",
    "pair": "What is different between these two images of the same place? Answer in one or two sentences.",
    "series": "These images show one place at different dates. What happened? Answer in one or two sentences.",
    "video": "What happens in this video? Answer in one or two sentences.",
}
AGAIN = "run btcchat augment again with this folder as --out"
FAULT = "is not a clue; choose another folder of clues"
SHOWN = 5  # records without a clue that an error names


class ClueFacts(TypedDict, total=False):
    """The keys of clues.json that this module reads."""

    model: str
    identity: str
    questions: dict[str, str]
    reading: dict[str, str | None]  # see Reading.record; missing in a folder of an older version


class Clues:
    """The clues of ``folder``, by modality and the content of the images. ``about``: the contents of clues.json.

    reading: how images are read now. Raises BTCChatError if the folder has no clues, if their images were read in
    another way, or if a line is not a clue.
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
        """How many clues are blank; they are left out of prompts."""
        return sum(not clue.strip() for clue in self._texts.values())

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def key(self, modality: str, sources: Sources) -> str:
        """The key of these images, which depends on the content of the files and not on their names."""
        return f"{modality} {joined([self.hashes(path) for path in files_of(modality, sources)])}"

    def find(self, modality: str, sources: Sources) -> str | None:
        """The clue for these images: "" if the model answered nothing, None if there is no clue."""
        return self._texts.get(self.key(modality, sources))

    def of(self, modality: str, sources: Sources) -> str:
        """Like :meth:`find`, but raises BTCChatError for a missing clue, which says if a file has changed."""
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
        raise BTCChatError(f"no clue for {names} ({modality}) in {self.folder}; {AGAIN}")

    def check(self, records: Iterable[Record]) -> None:
        """Raise BTCChatError, which counts and names them, if records have no clue, neither here nor of their own."""
        missing: list[str] = []
        last: tuple[str, Sources] | None = None
        for record in records:
            if record.clue or (record.modality, record.sources) == last:
                continue  # rows with the same images often follow one another
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
    """Clues to add to; the folder is created if it does not exist. :meth:`add` returns once they are on disk.

    writer: the number of the process, if several write at a time, each to its own file. Raises BTCChatError if the
    folder has clues of another model, other questions or settings, or if another process is writing the same file.
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
        there = list(folder.glob("clues*.jsonl"))  # listed first: another process writes clues.json before them
        if not (folder / "clues.json").exists():
            if there:
                raise BTCChatError(
                    f"{folder} has clues, but clues.json, which names their model, is missing; choose another folder"
                )
            write_json(folder / "clues.json", about)
        self._load(folder)
        agree(self.about, about, folder)

    def add(self, clues: list[tuple[str, Sources, str]]) -> None:
        """Write clues, each as (modality, sources, clue)."""
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
    """The contents of clues.json. Raises BTCChatError if it is missing, or does not say which model wrote the clues."""
    missing = f"{folder} is not a folder of clues; write one with btcchat augment"
    again = "write the clues again with btcchat augment"
    keys = ("model", "identity", "questions")
    return read_json(folder / "clues.json", *keys, schema=ClueFacts, missing=missing, way_out=again)


def agree(about: dict[str, Any], requested: dict[str, Any], folder: Path) -> None:
    """Raise BTCChatError if ``about``, the clues.json of ``folder``, differs from what is ``requested``."""
    if about["identity"] != requested["identity"]:
        theirs, wanted = (f"{facts['model']} ({facts['identity'][:12]})" for facts in (about, requested))
        raise BTCChatError(
            f"{folder} has clues of the model {theirs}, not of {wanted}; choose another folder, or delete it"
        )
    for name, value in requested.items():
        if name not in ("model", "identity") and about.get(name) != value:
            theirs = f"{name} {about.get(name)}"
            raise BTCChatError(f"{folder} has clues with {theirs}, not {value}; choose another folder, or delete it")


def _check_reading(about: dict[str, Any], reading: Reading, folder: Path) -> None:
    """Raise BTCChatError if the images were read in another way for the clues."""
    default = DEFAULT.record()
    theirs = default | (about.get("reading") or {})
    if theirs != reading.record():
        flags = " ".join(f"--{name} {value}" for name, value in theirs.items() if value != default[name])
        raise BTCChatError(
            f"{folder} has clues of images read with {flags or 'the default --bands, --stretch and --nodata'}; read "
            "them in the same way now, or run btcchat augment with the current flags and another --out"
        )


def _name(file: str | Embedded) -> str:
    return str(file) if isinstance(file, Embedded) else os.path.abspath(file)


def files_of(modality: str, sources: Sources) -> list[str | Embedded]:
    """The files that the model sees; for a folder of frames, all its images.

    Raises BTCChatError for images in memory, and for a missing file.
    """
    items = sources if isinstance(sources, Sequence) and not isinstance(sources, str) else [sources]
    if len(items) == 1 and modality in ("series", "video"):
        only = items[0]
        if isinstance(only, str | os.PathLike) and os.path.isdir(only):
            items = list_images(only)
    kind = "video" if modality == "video" else "image"
    files = []
    for item in items:
        if not isinstance(item, str | os.PathLike | Embedded):
            raise BTCChatError(f"clues are looked up by file, but this {kind} is in memory; give its path")
        files.append(existing_file(item, kind))
    return [file if isinstance(file, Embedded) else str(file) for file in files]


def check_flags(mode: str, clues: str | None, clue_model: str | None) -> None:
    """Raise BTCChatError if the flags of prompt augmentation are incomplete or contradict each other."""
    choose("prompt_augmentation", mode, PROMPT_AUGMENTATION)
    if mode == "cached" and clues is None:
        raise BTCChatError("--prompt_augmentation cached needs --clues DIR, a folder written by btcchat augment")
    if mode != "cached" and clues is not None:
        raise BTCChatError(f"--clues {clues} has no effect with --prompt_augmentation {mode}; use it with cached")
    if mode == "off" and clue_model is not None:
        raise BTCChatError(f"--clue_model {clue_model} has no effect with --prompt_augmentation off; leave it out")
