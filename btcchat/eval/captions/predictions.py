"""Predictions and references from JSON lines, checked line by line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import json_kind, read_json, read_rows

# Names by which the fields are found where none is given: ours, CCExpert's, those of `btcchat caption --pairs`.
FIELDS = {
    "id": ("id", "uid", "filename"),
    "prediction": ("prediction", "pred", "caption"),
    "references": ("references", "change_caption"),
    "flag": ("changeflag", "changed"),
}


@dataclass(frozen=True)
class Row:
    id: str
    prediction: str
    references: tuple[str, ...] | None
    changed: bool | None  # the data's own flag
    line: int
    question_type: str | None = None

    def same(self, other: "Row") -> bool:
        return (self.prediction, self.references, self.changed) == (other.prediction, other.references, other.changed)


@dataclass
class Predictions:
    rows: list[Row]
    duplicates: int = 0
    missing: list[str] = field(default_factory=list)  # ids that have references and no prediction


def read_predictions(
    path: str | Path, fields: dict[str, str] | None = None, *, references: str | Path | None = None,
    split: str | None = None, partial: bool = False,
) -> Predictions:  # fmt: skip
    """Read ``path``, one JSON object a line: id, prediction and, unless ``references`` is a file, references.

    fields: names of the fields id, prediction, references and flag; FIELDS lists those found without. Rows of one id
    that say the same are read once and counted. references: JSON lines of id and references, or LEVIR-CC's own JSON
    file, of which ``split`` is taken. ``partial`` allows for ids that have references and no prediction. Raises
    BTCChatError that names the line.
    """
    if references is None and (partial or split is not None):
        name = "--partial" if partial else "--split"
        raise BTCChatError(f"{name} goes with --references, the file that says which pairs there are")
    given = None if references is None else read_references(references, fields, split=split)
    found: dict[str, Row] = {}
    duplicates, names = 0, None
    for line, record in _records(path):
        names = names or _names(path, line, record, fields, need=("id", "prediction"), references=given is None)
        row = _row(path, line, record, names, with_prediction=True)
        if row.id in found:
            before = found[row.id]
            if not row.same(before):
                raise BTCChatError(
                    f"{path}: lines {before.line} and {line} both have the id '{row.id}' and say different things; "
                    "keep one of them"
                )
            duplicates += 1
            continue
        found[row.id] = row
    if given is None:
        return Predictions(list(found.values()), duplicates)
    return _joined(path, references, found, given, duplicates, partial)


def read_both(
    path: str | Path, other: str | Path, fields: dict[str, str] | None = None, **options: Any
) -> tuple[Predictions, Predictions]:
    """Two runs over the same pairs, in the order of the first: -> (Predictions, Predictions).

    options: those of `read_predictions`. Raises BTCChatError where one has ids or references that the other has not.
    """
    first, second = (read_predictions(one, fields, **options) for one in (path, other))
    return paired(first, second, path, other)


def paired(
    first: Predictions, second: Predictions, path: str | Path, other: str | Path
) -> tuple[Predictions, Predictions]:
    """The same of what has been read from ``path`` and ``other``."""
    theirs = {row.id: row for row in second.rows}
    ours = {row.id for row in first.rows}
    for here, there, names in (
        (path, other, [row.id for row in first.rows if row.id not in theirs]),
        (other, path, [name for name in theirs if name not in ours]),
    ):
        if names:
            shown = _listed([f"'{name}'" for name in names], "id")
            raise BTCChatError(f"{here} has {shown} that {there} has not; two runs are compared on the same pairs")
    for row in first.rows:
        if theirs[row.id].references != row.references:
            lines = f"{path} line {row.line} and {other} line {theirs[row.id].line}"
            raise BTCChatError(f"{lines} give '{row.id}' different references; --references FILE gives both the same")
    second.rows = [theirs[row.id] for row in first.rows]
    return first, second


def read_parts(path: str | Path, sizes: Sequence[int]) -> list[list[Row]]:
    """The rows of a run's predictions.jsonl, in which ``sizes`` rows of one data set after the other stand."""
    lines = list(_records(path))
    if len(lines) != sum(sizes):
        raise BTCChatError(f"{path} has {len(lines)} rows, metrics.json beside it is of {sum(sizes)}; evaluate again")
    parts, rest = [], iter(lines)
    for part in (list(islice(rest, size)) for size in sizes):
        names = _names(path, *part[0], None, need=("id", "prediction"), references=True)
        parts.append([_row(path, line, record, names, with_prediction=True) for line, record in part])
    return parts


def read_references(
    path: str | Path, fields: dict[str, str] | None = None, *, split: str | None = None
) -> dict[str, Row]:
    """-> dict from id to Row (with an empty prediction)."""
    whole = _levir_cc(path)
    records = _records(path) if whole is None else enumerate(whole, start=1)
    found: dict[str, Row] = {}
    splits: set[str] = set()
    names = None
    for line, record in records:
        if split is not None:
            splits.add(str(record.get("split")))
            if record.get("split") != split:
                continue
        names = names or _names(path, line, record, fields, need=("id", "references"), references=True)
        row = _row(path, line, record, names, with_prediction=False)
        if row.id in found and not row.same(found[row.id]):
            raise BTCChatError(f"{path}: rows {found[row.id].line} and {line} give '{row.id}' different references")
        found[row.id] = row
    if not found:
        has = f" of the split '{split}'; it has {', '.join(sorted(splits)) or 'none'}" if split else ""
        raise BTCChatError(f"{path}: no row{has}")
    return found


def _joined(
    path: str | Path,
    references: str | Path | None,
    found: dict[str, Row],
    given: dict[str, Row],
    duplicates: int,
    partial: bool,
) -> Predictions:
    unknown = [f"'{row.id}' (line {row.line})" for row in found.values() if row.id not in given]
    if unknown:
        example = next(iter(given))
        raise BTCChatError(f"{path}: {_listed(unknown, 'id')} not in {references}, whose ids look like '{example}'")
    missing = [name for name in given if name not in found]
    if missing and not partial:
        shown = _listed([f"'{name}'" for name in missing], "id")
        raise BTCChatError(f"{path}: {shown} of {references} without a prediction; --partial scores the others")
    rows = [
        Row(name, row.prediction, given[name].references, given[name].changed, row.line) for name, row in found.items()
    ]
    return Predictions(rows, duplicates, missing)


def _records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not blank; at least one."""
    found = False
    for number, record in read_rows(path, whole=True):
        found = True
        yield number, record
    if not found:
        raise BTCChatError(f"{path}: empty; expected JSON lines")


def _levir_cc(path: str | Path) -> list[dict] | None:
    """The rows of a file like LevirCCcaptions.json, ``{"images": [{"filename", "sentences": [{"raw"}]}]}``, or None."""
    try:
        images = read_json(path, "images")["images"]
        return [{**image, "references": [sentence["raw"] for sentence in image["sentences"]]} for image in images]
    except (BTCChatError, KeyError, TypeError):
        return None  # JSON lines, or neither: `_records` raises


def _names(
    path: str | Path,
    line: int,
    record: dict[str, Any],
    fields: dict[str, str] | None,
    *,
    need: Sequence[str],
    references: bool,
) -> dict[str, str | None]:
    """The file's own names of the fields, found in its first row."""
    fields = {name: value for name, value in (fields or {}).items() if value is not None}
    names: dict[str, str | None] = {}
    for name, known in FIELDS.items():
        names[name] = fields.get(name) or next((choice for choice in known if choice in record), None)
        wanted = name in need or (name == "references" and references)
        if wanted and names[name] not in record:
            sought = f"'{fields[name]}'" if name in fields else " or ".join(f"'{choice}'" for choice in known)
            way = f"--{name}-field NAME" + (" or --references FILE" if name == "references" else "")
            has = ", ".join(record) or "no fields"
            raise BTCChatError(f"{path} line {line}: no field {sought}; it has {has}; give {way}")
    if not references:
        names["references"] = None
    return names


def _row(
    path: str | Path, line: int, record: dict[str, Any], names: dict[str, str | None], *, with_prediction: bool
) -> Row:
    def value(name: str) -> Any:
        own = names[name]
        if own is None or own not in record:
            raise BTCChatError(f"{path} line {line}: no field '{own}'")
        return record[own]

    key = value("id")
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise BTCChatError(
            f"{path} line {line}: '{names['id']}' is {json_kind(key)}; expected a text or a whole number"
        )
    prediction = value("prediction") if with_prediction else ""
    if not isinstance(prediction, str):
        raise BTCChatError(f"{path} line {line}: '{names['prediction']}' is {json_kind(prediction)}; expected a text")
    references = None
    if names["references"] is not None:
        references = value("references")
        if not isinstance(references, list) or not references:
            got = "an empty list" if references == [] else json_kind(references)
            raise BTCChatError(f"{path} line {line}: '{names['references']}' is {got}; expected a list of texts")
        for number, text in enumerate(references, start=1):
            if not isinstance(text, str) or not text.strip(" ."):
                got = "empty" if isinstance(text, str) else json_kind(text)
                raise BTCChatError(f"{path} line {line}: reference {number} of '{names['references']}' is {got}")
        references = tuple(references)
    changed = None
    if names["flag"] is not None:
        changed = value("flag")
        if changed not in (0, 1):
            raise BTCChatError(f"{path} line {line}: '{names['flag']}' is {changed!r}; expected 0 or 1")
        changed = bool(changed)
    return Row(str(key), prediction, references, changed, line, record.get("question_type"))


def _listed(items: list[str], noun: str) -> str:
    shown = ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
    return f"{len(items)} {noun}{'s' * (len(items) != 1)} {shown}"
