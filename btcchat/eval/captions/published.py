"""References and predictions in published formats: LEVIR-CC's JSON, and COCO's captions and results."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import MOST_JSON, REPAIR, json_kind, parse_json, read_json
from btcchat.limits.regular import read_bounded, regular


def published_references(path: str | Path) -> list[dict[str, Any]] | None:
    """The rows of a references file, each with its ``references``; None if it is neither LEVIR-CC's nor COCO's.

    LEVIR-CC: ``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}``. COCO: ``{"images": [{"id", "file_name"}],
    "annotations": [{"image_id", "caption"}]}``; images without a caption are left out, and the others also have their
    id as ``image_id``. Raises BTCChatError if an annotation of COCO is malformed.
    """
    try:
        content = read_json(path, "images")
    except BTCChatError:
        return None  # JSON lines, or not readable, which their reader reports
    if "annotations" in content:
        return _coco_rows(path, content["images"], content["annotations"])
    try:
        return [{**image, "references": [one["raw"] for one in image["sentences"]]} for image in content["images"]]
    except (KeyError, TypeError):
        return None


def _coco_rows(path: str | Path, images: object, annotations: object) -> list[dict[str, Any]]:
    known = {_field(path, place, image, "id"): image for place, image in _placed(path, "images row", images)}
    captions: dict[Any, list[Any]] = {}
    for place, annotation in _placed(path, "annotations row", annotations):
        image = _field(path, place, annotation, "image_id")
        if image not in known:
            raise BTCChatError(f"{path} {place} is for image {image}, which 'images' does not contain")
        captions.setdefault(image, []).append(_field(path, place, annotation, "caption"))
    return [{**known[image], "image_id": image, "references": texts} for image, texts in captions.items()]


def _placed(path: str | Path, name: str, rows: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each row."""
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
        if not isinstance(row, dict):
            raise BTCChatError(f"{path} {name} {number}: got {json_kind(row)}, expected an object")
        yield f"{name} {number}", row


def _field(path: str | Path, place: str, row: dict[str, Any], name: str) -> Any:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        got = (
            f"'{name}' is {json_kind(value)}"
            if name in row
            else f"no '{name}'; its fields are {', '.join(row) or 'none'}"
        )
        raise BTCChatError(f"{path} {place}: {got}; expected COCO's captions")
    return value


def array_rows(path: str | Path) -> list[dict[str, Any]] | None:
    """The objects of a JSON array, such as COCO's results; None if the file is not an array.

    Raises BTCChatError if the array is truncated or an element is not an object.
    """
    try:
        with regular(path).open("rb") as file:
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"[":
                return None
        rows = parse_json(read_bounded(path, MOST_JSON))
    except OSError:
        return None  # the reader of JSON lines reports it
    except BTCChatError as error:
        raise BTCChatError(f"{path} is {error}; {REPAIR}") from None
    return [row for _, row in _placed(path, "row", rows)]
