"""Captions of many pairs, written to a file of JSON lines from which an interrupted run can be resumed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from btcchat.data.pairs import Pair
from btcchat.errors import BTCChatError
from btcchat.files import Appender, read_rows
from btcchat.media import load_frames
from btcchat.media.read_ahead import read_ahead
from btcchat.media.reading import DEFAULT, FLAGS, Reading
from btcchat.outputs.lock import Lock, beside

if TYPE_CHECKING:
    from btcchat.api import BTCChat
    from btcchat.clues.ask import ClueRequest, ClueSource
    from btcchat.generation import GenerationOptions


class Answers:
    """The output file. ``done``: keys of the pairs it already has; `write` appends captions and returns once they are
    on disk.

    options: flags of the answers that are not at their defaults, by their names in Python. They are part of each row.
    A last line that was cut short when a run was killed is dropped. Raises BTCChatError if the file holds something
    else, captions by another model, with other options or of images read in another way, or if another process is
    writing it.
    """

    def __init__(
        self, path: str | Path, *, model: str, reading: Reading = DEFAULT, options: Mapping[str, Any] | None = None
    ) -> None:
        self.path, self.model, self._options = Path(path), model, dict(options or {})
        self._reading = {} if reading == DEFAULT else reading.record()  # part of each row
        if not self.path.parent.is_dir():
            raise BTCChatError(f"the folder of --out does not exist: {self.path.parent}")
        if self.path.is_dir():
            raise BTCChatError(f"--out is a folder: {self.path}; give a file, e.g. {self.path / 'answers.jsonl'}")
        self.done: set[tuple[str | None, str, str]] = set()
        name = f"--out {self.path}"
        self._lock = Lock(beside(self.path), name)
        try:
            if self.path.exists():
                for number, record in read_rows(self.path, "is not a caption of a pair; choose another --out"):
                    self._take(record, number)
            self._file = Appender(self.path, name=name)
        except BaseException:
            self._lock.release()
            raise

    def write(self, answered: list[tuple[Pair, str]]) -> None:
        """Append pairs with their captions, and wait until they are on disk."""
        rows = []
        for pair, text in answered:
            name = {} if pair.id is None else {"id": pair.id}
            rows.append(
                {**name, "before": pair.before, "after": pair.after, "caption": text, "model": self.model}
                | self._reading
                | ({"options": self._options} if self._options else {})
            )
            self.done.add(pair.key)
        self._file.append(rows)

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def _take(self, record: dict[str, Any], number: int) -> None:
        try:
            self.done.add((record.get("id"), record["before"], record["after"]))
            model, options = record["model"], dict(record.get("options", {}))
        except (KeyError, TypeError, ValueError) as error:  # TypeError: a list cannot be a key
            fault = f"{self.path} line {number} is not a caption of a pair; choose another --out"
            raise BTCChatError(fault) from error
        if model != self.model:
            raise BTCChatError(f"{self.path} has captions by model {model}, not {self.model}; choose another --out")
        if any(record.get(name) != self._reading.get(name) for name in FLAGS):
            raise BTCChatError(
                f"{self.path} was written with another --bands, --stretch or --nodata; choose another --out"
            )
        if options != self._options:
            names = sorted(dict(options.items() ^ self._options.items()))
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            raise BTCChatError(
                f"{self.path} was written with other answer options ({flags}); use the same ones, or choose another "
                "--out"
            )


def caption_pairs(
    model: "BTCChat",
    pairs: list[Pair],
    answers: Answers,
    options: "GenerationOptions",
    *,
    batch_size: int,
    clues: "ClueSource | None" = None,
) -> Iterator[str | None]:
    """Caption the pairs in batches. Yields once per pair, after it is written: None, or why the pair was left out.

    The images of the next batches are read in the meantime. An error from ``clues`` (a pair has no clue) stops the run.
    """
    if not pairs:
        return  # without importing torch
    from btcchat.processor import request

    def read(pair: Pair) -> list[Image] | str:
        """The frames of a pair, or why they cannot be read."""
        try:
            return load_frames("pair", pair.paths, reading=model.processor.reading)
        except BTCChatError as error:
            return f"{pair.place}: {error}"

    groups = [pairs[start : start + batch_size] for start in range(0, len(pairs), batch_size)]
    for group, found in zip(groups, read_ahead(read, groups), strict=True):
        readable = [(pair, frames) for pair, frames in zip(group, found, strict=True) if not isinstance(frames, str)]
        requests: list[ClueRequest] = [("pair", pair.paths, frames) for pair, frames in readable]
        clue_texts: Sequence[str | None] = clues(requests) if clues is not None and requests else [None] * len(requests)
        records = [
            request(model.config.caption_question, "pair", frames, clue=clue)
            for (_, frames), clue in zip(readable, clue_texts, strict=True)
        ]
        if records:
            texts = model.answer(records, options)
            answers.write([(pair, text) for (pair, _), text in zip(readable, texts, strict=True)])
        yield from (fault for fault in found if isinstance(fault, str))
        yield from [None] * len(readable)
