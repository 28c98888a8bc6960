"""Predictions and references from JSON lines or a JSON array, checked row by row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from btcchat.errors import BTCChatError, listed
from btcchat.eval.captions.id_map import read_id_map
from btcchat.eval.captions.published import array_rows, published_references
from btcchat.files import json_kind, read_rows

# The names tried if none is given: ours, CCExpert's, those of `btcchat caption --pairs` and of annotations, COCO's.
FIELDS = {
    "id": ("id", "uid", "filename", "image_id"),
    "prediction": ("prediction", "pred", "caption"),
    "references": ("references", "change_caption", "captions"),
    "flag": ("changeflag", "changed"),
}

Fields: TypeAlias = Mapping[str, str | None]  # a key of FIELDS -> the name of that field in a file; None: look for it


@dataclass(frozen=True)
class Prediction:
    """A row of a file of predictions or, with an empty prediction, of references."""

    id: str
    prediction: str
    references: tuple[str, ...]  # () until the references of another file are joined
    changed: bool | None  # the flag given in the data
    place: str  # in its file: "line 3"
    question_type: str | None = None

    def same(self, other: "Prediction") -> bool:
        return (self.prediction, self.references, self.changed) == (other.prediction, other.references, other.changed)


@dataclass
class Predictions:
    rows: list[Prediction]
    duplicates: int = 0
    missing: list[str] = field(default_factory=list)  # ids that have references and no prediction


def read_predictions(
    path: str | Path,
    fields: Fields | None = None,
    *,
    references: str | Path | None = None,
    split: str | None = None,
    partial: bool = False,
) -> Predictions:
    """Read id, prediction and, unless ``references`` is a file, references from JSON lines or a JSON array.


    fields: names of the fields id, prediction, references and flag; FIELDS lists the defaults. Identical rows with the
    same id are read once, and the duplicates counted. references: JSON lines of id and references, LEVIR-CC's own JSON
    file, of which ``split`` is read, or COCO's captions. ``partial`` allows ids that have references but no prediction.
    Raises BTCChatError that names the line or row.
    """
    _check_joining(references, split=split, partial=partial)
    rows, duplicates = _distinct_rows(path, fields, references=references is None)
    return _joined(path, rows, duplicates, fields, references=references, split=split, partial=partial)


def _check_joining(references: str | Path | None, *, split: str | None, partial: bool) -> None:
    if references is None and (partial or split is not None):
        name = "--partial" if partial else "--split"
        raise BTCChatError(
            f"{name} needs --references FILE, the file that lists the pairs; add it, or leave {name} out"
        )


def _distinct_rows(path: str | Path, fields: Fields | None, *, references: bool) -> tuple[dict[str, Prediction], int]:
    """Return the rows by id, and the number of duplicates. references: whether the file has references."""
    rows: dict[str, Prediction] = {}
    duplicates, names = 0, None
    for place, record in _records(path):
        names = names or _names(path, place, record, fields, need=("id", "prediction"), references=references)
        row = _row(path, place, record, names, with_prediction=True)
        if row.id in rows:
            earlier = rows[row.id]
            if not row.same(earlier):
                raise BTCChatError(
                    f"{path}: {earlier.place} and {place} both have the id '{row.id}' but differ; keep one of them"
                )
            duplicates += 1
            continue
        rows[row.id] = row
    return rows, duplicates


def _joined(
    path: str | Path,
    rows: dict[str, Prediction],
    duplicates: int,
    fields: Fields | None,
    *,
    references: str | Path | None,
    split: str | None,
    partial: bool,
) -> Predictions:
    """The rows of ``path`` with their references, which may come from another file."""
    if references is None:
        return Predictions(list(rows.values()), duplicates)
    referred = _named_alike(rows, read_references(references, fields, split=split))
    missing = _check_ids(path, references, rows, referred, partial=partial)
    joined = [
        Prediction(name, row.prediction, referred[name].references, referred[name].changed, row.place)
        for name, row in rows.items()
    ]
    return Predictions(joined, duplicates, missing)


def _named_alike(rows: Mapping[str, Prediction], referred: dict[str, Prediction]) -> dict[str, Prediction]:
    """``referred`` by the ids of ``rows``: LEVIR-CC names a pair by its file, "test_000449.png", its converter without
    the suffix."""
    stems = {PurePath(name).stem: row for name, row in referred.items()}
    unlike = rows.keys().isdisjoint(referred) and len(stems) == len(referred)
    return stems if unlike and not rows.keys().isdisjoint(stems) else referred


def read_both(
    path: str | Path,
    other: str | Path,
    fields: Fields | None = None,
    *,
    references: str | Path | None = None,
    split: str | None = None,
    partial: bool = False,
    ids: str | Path | None = None,
) -> tuple[Predictions, Predictions]:
    """Read two runs over the same pairs, both in the order of the first: (Predictions, Predictions).

    ids: a CSV of the id in ``path`` and the id in ``other``, if they differ (see id_map.py); a references file uses the
    ids in ``path``. The other options are those of `read_predictions`. Raises BTCChatError if one file has ids or
    references that the other does not have.
    """
    _check_joining(references, split=split, partial=partial)
    first_rows, first_duplicates = _distinct_rows(path, fields, references=references is None)
    second_rows, second_duplicates = _distinct_rows(other, fields, references=references is None)
    if ids is not None:
        renamed = read_id_map(ids, first_rows.keys(), second_rows.keys())
        second_rows = {renamed[name]: replace(row, id=renamed[name]) for name, row in second_rows.items()}
    first, second = (
        _joined(file, rows, duplicates, fields, references=references, split=split, partial=partial)
        for file, rows, duplicates in (
            (path, first_rows, first_duplicates),
            (other, second_rows, second_duplicates),
        )
    )
    return paired(first, second, path, other)


def paired(
    first: Predictions, second: Predictions, path: str | Path, other: str | Path
) -> tuple[Predictions, Predictions]:
    """As `read_both`, for predictions already read from ``path`` and ``other``."""
    second_rows = {row.id: row for row in second.rows}
    first_ids = {row.id for row in first.rows}
    for file, other_file, names in (
        (path, other, [row.id for row in first.rows if row.id not in second_rows]),
        (other, path, [name for name in second_rows if name not in first_ids]),
    ):
        if names:
            shown = listed([f"'{name}'" for name in names], "id")
            raise BTCChatError(
                f"{file} has {shown} that {other_file} does not have; two runs can only be compared on the same pairs"
            )
    for row in first.rows:
        if second_rows[row.id].references != row.references:
            places = f"{path} {row.place} and {other} {second_rows[row.id].place}"
            raise BTCChatError(
                f"{places} give '{row.id}' different references; set the same ones for both with --references FILE"
            )
    second.rows = [second_rows[row.id] for row in first.rows]
    return first, second


def read_parts(path: str | Path, sizes: Sequence[int]) -> list[list[Prediction]]:
    """Split the rows of a run's predictions.jsonl by data set; ``sizes`` gives the number of rows of each."""
    rows = list(_records(path))
    if len(rows) != sum(sizes):
        raise BTCChatError(
            f"{path} has {len(rows)} rows, but metrics.json next to it is for {sum(sizes)}; run btcchat eval again"
        )
    parts, remaining = [], iter(rows)
    for part in (list(islice(remaining, size)) for size in sizes):
        names = _names(path, *part[0], None, need=("id", "prediction"), references=True)
        parts.append([_row(path, place, record, names, with_prediction=True) for place, record in part])
    return parts


def read_references(
    path: str | Path, fields: Fields | None = None, *, split: str | None = None
) -> dict[str, Prediction]:
    """Map each id to a Prediction with its references and an empty text."""
    published = published_references(path)
    records = _records(path) if published is None else _numbered(published)
    rows: dict[str, Prediction] = {}
    splits: set[str] = set()
    names = None
    for place, record in records:
        if split is not None:
            splits.add(str(record.get("split")))
            if record.get("split") != split:
                continue
        names = names or _names(path, place, record, fields, need=("id", "references"), references=True)
        row = _row(path, place, record, names, with_prediction=False)
        if row.id in rows and not row.same(rows[row.id]):
            raise BTCChatError(f"{path}: {rows[row.id].place} and {place} give '{row.id}' different references")
        rows[row.id] = row
    if not rows:
        of_split = f" of the split '{split}'; its splits are {', '.join(sorted(splits)) or 'none'}" if split else ""
        raise BTCChatError(f"{path}: no row{of_split}")
    return rows


def _check_ids(
    path: str | Path,
    references: str | Path,
    rows: dict[str, Prediction],
    referred: dict[str, Prediction],
    *,
    partial: bool,
) -> list[str]:
    """Return the ids that have references but no prediction. Raises BTCChatError for these unless ``partial``, and for
    predictions without references."""
    unknown = [f"'{row.id}' ({row.place})" for row in rows.values() if row.id not in referred]
    if unknown:
        example = next(iter(referred))
        raise BTCChatError(f"{path}: {listed(unknown, 'id')} not in {references}, whose ids look like '{example}'")
    missing = [name for name in referred if name not in rows]
    if missing and not partial:
        shown = listed([f"'{name}'" for name in missing], "id")
        raise BTCChatError(
            f"{path}: {shown} of {references} without a prediction; add them or score the rest with --partial"
        )
    return missing


def _records(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) for each line that is not blank, or each element of an array; at least one."""
    array = array_rows(path)
    rows = ((f"line {line}", row) for line, row in read_rows(path, whole=True)) if array is None else _numbered(array)
    empty = True
    for place, record in rows:
        empty = False
        yield place, record
    if empty:
        raise BTCChatError(f"{path}: empty; expected JSON lines, or an array of objects")


def _numbered(rows: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))


def _names(
    path: str | Path,
    place: str,
    record: dict[str, Any],
    fields: Fields | None,
    *,
    need: Sequence[str],
    references: bool,
) -> dict[str, str | None]:
    """The names of the fields in this file, looked up in its first row."""
    fields = {name: value for name, value in (fields or {}).items() if value is not None}
    names: dict[str, str | None] = {}
    for name, defaults in FIELDS.items():
        names[name] = fields.get(name) or next((choice for choice in defaults if choice in record), None)
        required = name in need or (name == "references" and references)
        if required and names[name] not in record:
            expected = f"'{fields[name]}'" if name in fields else " or ".join(f"'{choice}'" for choice in defaults)
            flag = f"--{name}-field NAME" + (" or --references FILE" if name == "references" else "")
            present = ", ".join(record) or "no fields"
            raise BTCChatError(f"{path} {place}: no field {expected}; found {present}; give {flag}")
    if not references:
        names["references"] = None
    return names


def _row(
    path: str | Path, place: str, record: dict[str, Any], names: dict[str, str | None], *, with_prediction: bool
) -> Prediction:
    def value(name: str) -> Any:
        field_name = names[name]
        if field_name is None or field_name not in record:
            raise BTCChatError(f"{path} {place}: no field '{field_name}'")
        return record[field_name]

    key = value("id")
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise BTCChatError(f"{path} {place}: '{names['id']}' is {json_kind(key)}; expected a string or a whole number")
    prediction = value("prediction") if with_prediction else ""
    if not isinstance(prediction, str):
        raise BTCChatError(f"{path} {place}: '{names['prediction']}' is {json_kind(prediction)}; expected a string")
    references: tuple[str, ...] = ()
    if names["references"] is not None:
        texts = value("references")
        if not isinstance(texts, list) or not texts:
            got = "an empty list" if texts == [] else json_kind(texts)
            raise BTCChatError(f"{path} {place}: '{names['references']}' is {got}; expected a list of texts")
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str) or not text.strip(" ."):
                got = "empty" if isinstance(text, str) else json_kind(text)
                raise BTCChatError(f"{path} {place}: reference {number} of '{names['references']}' is {got}")
        references = tuple(texts)
    changed = None
    if names["flag"] is not None:
        changed = value("flag")
        if changed not in (0, 1):
            raise BTCChatError(f"{path} {place}: '{names['flag']}' is {changed!r}; expected 0 or 1")
        changed = bool(changed)
    return Prediction(str(key), prediction, references, changed, place, record.get("question_type"))
