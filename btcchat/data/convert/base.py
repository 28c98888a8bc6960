"""Shared code of the converters: the rows of a published layout, and the parts of our records."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from btcchat.errors import BTCChatError
from btcchat.files import KINDS, json_kind
from btcchat.prompt import CAPTION_QUESTION as CHANGE_QUESTION  # the question that models are trained with

T = TypeVar("T")
Content = TypeVar("Content")


@dataclass(frozen=True)
class PublishedRow(Generic[Content]):
    """A row as published. ``number`` counts from 1 in ``file``; 0 if the file itself is the row."""

    split: str
    file: str
    number: int
    content: Content

    @property
    def where(self) -> str:
        return f"{self.file} row {self.number}" if self.number else self.file


JsonRow: TypeAlias = PublishedRow[dict[str, Any]]  # an object in a JSON file


class Converter(Generic[Content]):
    """A published layout: `rows` finds its rows, `record` turns one into ours. Both raise BTCChatError.

    src: the folder as downloaded and unpacked, or an annotation file. Paths in records are relative to ``root``:
    ``images`` if given (the images are elsewhere), otherwise ``src`` or its folder.
    A class's docstring describes the data; its first line is what ``btcchat data convert --list`` prints.
    """

    ids_are_unique = True  # within a split; False if a published id names an image with several rows

    def __init__(self, src: str | Path, images: str | Path | None = None):
        self.src = Path(src)
        if not self.src.exists():
            raise BTCChatError(f"{self.src} does not exist; give the folder of the data set, or its annotation file")
        if images is not None and not Path(images).is_dir():
            raise BTCChatError(f"--images {images} is not a folder; give the one that image paths are relative to")
        self.folder = self.src if self.src.is_dir() else self.src.parent
        self.root = Path(images) if images is not None else self.folder

    def rows(self) -> Iterator[PublishedRow[Content]]:
        raise NotImplementedError

    def record(self, row: PublishedRow[Content]) -> dict[str, Any]:
        raise NotImplementedError

    def annotations(self, name: str) -> Path:
        """``src`` if it is a file, otherwise its file ``name``."""
        path = self.src if self.src.is_file() else self.src / name
        if not path.is_file():
            raise BTCChatError(f"no {name} in {self.folder}; give the folder that contains it, or the file itself")
        return path

    def files(self, pattern: str) -> list[Path]:
        """``src`` if it is a file, otherwise its files that match the pattern, sorted; at least one."""
        paths = [self.src] if self.src.is_file() else sorted(self.src.glob(pattern))
        if not paths:
            raise BTCChatError(f"no {pattern} in {self.src}; give the folder that contains such files")
        return paths

    def first_folder(self, *names: str) -> str:
        """The first of these folders that exists in ``root``; otherwise the first name, to be reported as missing."""
        return next((name for name in names if (self.root / name).is_dir()), names[0])

    def relative(self, path: str) -> str:
        """``path`` relative to ``root`` if it is inside; any other absolute path is returned unchanged."""
        absolute = Path(path)
        if not absolute.is_absolute():
            return path
        root = self.root.resolve()
        return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else path


def field(content: dict[str, Any], name: str, kind: type[T]) -> T:
    """``content[name]``, which must have the given type."""
    if name not in content:
        raise BTCChatError(f"no '{name}'; found {', '.join(content) or 'nothing'}")
    value = content[name]
    if type(value) is not kind:  # exact types, since true must not count as a number
        raise BTCChatError(f"'{name}' is {json_kind(value)}, expected {KINDS.get(kind, 'a whole number')}")
    return value


def raw_sentences(content: dict[str, Any]) -> list[str]:
    """The captions of the Karpathy layout: ``{"sentences": [{"raw": text, ...}, ...]}``."""
    return [field(sentence, "raw", str) for sentence in field(content, "sentences", list)]


def captioned_pair(
    name: str, before: str, after: str, captions: list[str], change_flag: int | None, **more: Any
) -> dict[str, Any]:
    """A pair with every caption in ``captions``; the first one is the answer of its conversation."""
    captions = [caption.strip() if isinstance(caption, str) else "" for caption in captions]
    if not captions or not all(captions):
        raise BTCChatError(f"caption {captions.index('') + 1} is empty" if captions else "no caption")
    flag = {} if change_flag is None else {"change_flag": change_flag}
    pair = {"id": name, "modality": "pair", "images": [before, after], **more, **flag, "captions": captions}
    return pair | {"conversations": conversation(CHANGE_QUESTION, captions[0])}


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    """One question and its answer, after one placeholder for all images."""
    for name, text in (("question", question), ("answer", answer)):
        if not text.strip():
            raise BTCChatError(f"the {name} is empty")
    return [{"from": "human", "value": f"<image>\n{question.strip()}"}, {"from": "gpt", "value": answer.strip()}]
