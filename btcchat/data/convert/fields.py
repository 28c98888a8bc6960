"""The mapping of names to the fields of a row, and the checked values of those fields."""

import re
from typing import Any

from btcchat.errors import BTCChatError, choose
from btcchat.files import json_kind

IMAGE = re.compile(r"image(?:[1-9]\d?)?")  # image is image1
NAMES = (
    "question", "answer", "captions", "image", "image2", "images", "video", "mask", "change_flag", "question_type",
    "label", "id", "split", "rows",
)  # fmt: skip
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}
MISSING = object()


def parse_mapping(texts: list[str]) -> dict[str, str]:
    """Parse ``["question=Q,answer=A", "image=path"]`` to name -> field. Raises BTCChatError for any other form."""
    mapping: dict[str, str] = {}
    for part in ",".join(texts).split(","):
        name, equals, field = (piece.strip() for piece in part.partition("="))
        if not (name and equals and field):
            raise BTCChatError(
                f"--map {part}: expected NAME=FIELD, such as question=Q,answer=A,image=path1,image2=path2"
            )
        if not IMAGE.fullmatch(name):
            choose("name in --map", name, dict.fromkeys(NAMES))
        name = "image" if name == "image1" else name
        if name in mapping:
            raise BTCChatError(f"--map has '{name}' twice; give it one field")
        mapping[name] = field
    return mapping


class Fields:
    """The values of a row. A field is a key of the row, or ``outer.inner``, or ``list.0``."""

    def __init__(self, content: dict[str, Any]):
        self.content = content

    def value(self, field: str) -> Any:
        """The value, or MISSING if the row does not have the field."""
        if field in self.content:
            return self.content[field]
        value: Any = self.content
        for name in field.split("."):
            if isinstance(value, list) and name.isdecimal() and len(name) < 9 and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                return MISSING
        return value

    def text(self, field: str) -> str:
        """A non-empty text; a number becomes text."""
        value = self.value(field)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            raise self._not(field, "a string or a number")
        return str(value).strip()

    def path(self, field: str) -> str:
        value = self.value(field)
        if not isinstance(value, str) or not value.strip():
            raise self._not(field, "a path")
        return value.strip()

    def items(self, field: str) -> list[Any]:
        value = self.value(field)
        if not isinstance(value, list) or not value:
            raise self._not(field, "a list of at least one element")
        return value

    def texts(self, field: str) -> list[str]:
        """A list of texts; a single text becomes a list of one."""
        if isinstance(self.value(field), str):
            return [self.text(field)]
        return [self.text(f"{field}.{number}") for number in range(len(self.items(field)))]

    def flag(self, field: str) -> int:
        """0 or 1."""
        text = str(self.value(field)).strip().lower()
        if text not in FLAGS:
            raise self._not(field, "0 or 1")
        return FLAGS[text]

    def _not(self, field: str, expected: str) -> BTCChatError:
        value = self.value(field)
        if value is MISSING:
            return BTCChatError(f"no '{field}'; found {', '.join(self.content) or 'nothing'}")
        empty = value == [] or (isinstance(value, str) and not value.strip())
        return BTCChatError(f"'{field}' is {'empty' if empty else json_kind(value)}, expected {expected}")
