"""These tests need the extra ``eval``; those for scoring do not need torch."""

import json

import pytest

pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")


@pytest.fixture(autouse=True)
def one_thread():
    """Override the fixture that sets torch's threads: nothing here computes with torch."""


@pytest.fixture
def write(tmp_path):
    """write(name, rows) -> path of a file of JSON lines; a row that is a string is written unchanged."""

    def write(name: str, rows) -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return write
