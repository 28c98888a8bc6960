"""These tests need the extra ``eval``; those of scoring need no torch."""

import json

import pytest

pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")


@pytest.fixture(autouse=True)
def one_thread():
    """Nothing here computes with torch, whose threads this sets elsewhere."""


@pytest.fixture
def write(tmp_path):
    """write(name, rows) -> path of a file of JSON lines; a row that is a string is a line as it stands."""

    def write(name: str, rows) -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return write
