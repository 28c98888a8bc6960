"""The annotation files a conversion writes: all of them, or none."""

import json
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from btcchat.errors import BTCChatError


class Output:
    """The folder ``out``, with SPLIT.jsonl for each of ``splits``.

    Records go to temporary names in it; `commit` gives them their own, and without it nothing stays. Raises
    BTCChatError where a file of that name exists already or the folder cannot be written.
    """

    def __init__(self, out: str | Path, splits: list[str]):
        self.out = Path(out)
        self.paths = {split: self.out / f"{split}.jsonl" for split in splits}
        for path in self.paths.values():
            if path.exists():
                raise BTCChatError(f"{path} exists already; remove it or choose another OUT")
        self._made: list[Path] = []
        self._files: dict[str, TextIO] = {}

    def __enter__(self) -> "Output":
        try:
            with self._told():
                for folder in [*reversed(self.out.parents), self.out]:
                    if not folder.exists():
                        folder.mkdir()
                        self._made.append(folder)
                for split in self.paths:
                    self._files[split] = self._partial(split).open("w", encoding="utf-8")
        except BTCChatError:
            self.__exit__()
            raise
        return self

    def write(self, split: str, record: dict) -> None:
        with self._told():
            self._files[split].write(json.dumps(record, ensure_ascii=False) + "\n")

    def commit(self) -> None:
        with self._told():
            for file in self._files.values():
                file.close()
            for split, path in self.paths.items():
                self._partial(split).replace(path)
        self._made = []

    def __exit__(self, *_) -> None:
        for split, file in self._files.items():
            with suppress(OSError):  # what could not be written is dropped anyway
                file.close()
            self._partial(split).unlink(missing_ok=True)
        for folder in reversed(self._made):
            folder.rmdir()

    @contextmanager
    def _told(self):
        try:
            yield
        except OSError as error:
            raise BTCChatError(f"{self.out} cannot be written: {error.strerror}") from error

    def _partial(self, split: str) -> Path:
        return self.out / f".{split}.jsonl.partial"
