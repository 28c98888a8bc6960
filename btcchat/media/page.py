"""Self-contained HTML pages. All text from data is escaped."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write
from btcchat.outputs.ours import check_replaceable, is_page


def write_page(path: str | Path, pieces: Iterable[str]) -> None:
    """Write a page marked with ours.HTML, whole or not at all. Raises BTCChatError, also if another file is there."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise BTCChatError(f"--out {path} cannot be written: give a file in an existing folder")
    check_replaceable(path, "--out", is_page)
    with atomic_write(path, name=f"--out {path}") as part:
        with part.open("w", encoding="utf-8", errors="replace") as file:  # a lone surrogate becomes "?"
            file.writelines(pieces)


def data_uri(image: Image.Image, kind: str = "png", *, quality: int = 80) -> str:
    """An image as the ``src`` of an <img>. kind: png is exact, webp small. quality: of webp, 0 to 100."""
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def table(head: Sequence[str], rows: Iterable[Sequence], *, own: str | None = None) -> str:
    """Rows under a header; the first cell of a row is its name, and the row named ``own`` is highlighted.

    A cell is a text, or a text and a small one below it.
    """
    lines = [f"<thead><tr>{''.join(_cell(name, 'th') for name in head)}</tr></thead>"]
    for name, *cells in rows:
        kind = " class=own" if name == own else ""
        lines.append(f"<tr{kind}>{_cell(name, 'th')}{''.join(map(_cell, cells))}</tr>")
    return "\n".join(["<table>", *lines, "</table>\n"])


def _cell(content: str | tuple[str, str], tag: str = "td") -> str:
    text, small = content if isinstance(content, tuple) else (content, "")
    return f"<{tag}>{escape(text)}{f'<small>{escape(small)}</small>' if small else ''}</{tag}>"
