"""Lists of before/after pairs: a CSV with columns before, after and optionally id, or a folder with A and B inside."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.limits.csv_file import csv_rows
from btcchat.media.source import existing_file, list_images

COLUMNS = ("before", "after")


@dataclass(frozen=True)
class Pair:
    """One row of a list. ``before`` and ``after`` are paths as written in the list, relative to ``folder``."""

    before: str
    after: str
    id: str | None
    folder: Path
    place: str  # for errors: "list.csv row 4"
    row: int | None = None  # of a CSV; the header is row 1

    @property
    def key(self) -> tuple[str | None, str, str]:
        return self.id, self.before, self.after

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.folder / self.before, self.folder / self.after


def read_pairs(source: str | Path) -> tuple[list[Pair], list[str]]:
    """Return the usable pairs in order, and one line for each unusable row.

    Row 1 of a CSV is its header, as in a spreadsheet. Raises BTCChatError if the list as a whole is unusable.
    """
    source = Path(source)
    pairs, faults = _read_folder(source) if source.is_dir() else read_csv(source)
    if not pairs and not faults:
        wanted = "put images into its folders A and B" if source.is_dir() else "add rows of before,after[,id]"
        raise BTCChatError(f"'{source}' lists no pairs; {wanted}")
    usable: list[Pair] = []
    seen: dict[str | tuple[str, str], str] = {}  # id, or paths -> place
    for pair in pairs:
        name = pair.id if pair.id is not None else (pair.before, pair.after)
        if name in seen:
            repeated = f"the id '{pair.id}'" if pair.id is not None else "the pair"
            faults.append(f"{pair.place}: {repeated} is already used by {seen[name]}")
            continue
        seen[name] = pair.place
        try:
            for path in pair.paths:
                existing_file(path, "image")
            usable.append(pair)
        except BTCChatError as error:
            faults.append(f"{pair.place}: {error}")
    return usable, faults


def read_csv(path: Path) -> tuple[list[Pair], list[str]]:
    """The pairs of a CSV in order, and one line for each row that lacks one of its cells or has too many.

    Raises BTCChatError for a file that is not CSV in UTF-8, and for a header without before and after.
    """
    existing_file(path, "list of pairs")
    rows = csv_rows(path, f"'{path}'")
    header = [name.strip().lower() for _, names in islice(rows, 1) for name in names]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise BTCChatError(
            f"'{path}' has no column {' and '.join(missing)}; found {', '.join(header)}, expected before,after[,id]"
        )
    pairs, faults = [], []
    for number, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{path.name} row {number}"
        if len(cells) > len(header):
            faults.append(f"{place}: {len(cells)} cells, but the header has {len(header)}")
            continue
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        empty = [name for name in COLUMNS if not row.get(name)]
        if empty:
            faults.append(f"{place}: no {' and no '.join(empty)}; a pair needs before and after")
            continue
        pairs.append(Pair(row["before"], row["after"], row.get("id") or None, path.parent, place, number))
    return pairs, faults


def _read_folder(folder: Path) -> tuple[list[Pair], list[str]]:
    if not (folder / "A").is_dir() or not (folder / "B").is_dir():
        below = sorted(str(path.parent) for path in folder.glob("**/A") if (path.parent / "B").is_dir())
        hint = f"; give {below[0]}, which has them" if below else ""
        raise BTCChatError(f"folder '{folder}' needs subfolders A (before) and B (after){hint}")
    before, after = ([path.name for path in list_images(folder / side)] for side in "AB")
    pairs = [
        Pair(f"A/{name}", f"B/{name}", Path(name).stem, folder, f"{folder.name}/A/{name}")
        for name in before
        if name in set(after)
    ]
    faults = [f"{folder.name}/A/{name}: no B/{name}" for name in before if name not in set(after)]
    faults += [f"{folder.name}/B/{name}: no A/{name}" for name in after if name not in set(before)]
    return pairs, faults
