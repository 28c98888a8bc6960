"""The notebooks run from top to bottom, and what they show is what they print.

A cell with the tag `varies` prints times, or what another machine may change; only that it runs is checked.
"""

import copy
import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, install

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def printed(cell) -> str:
    """The text of a cell's outputs; images are left out."""
    outputs = cell.get("outputs", [])
    return "".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_its_outputs(path):
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert "Traceback" not in "".join(map(printed, cells))
    assert str(Path.home()) not in path.read_text(encoding="utf-8"), "a path of the machine that ran it"


@pytest.mark.slow
@pytest.mark.timeout(900)  # one of them trains
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    shown = nbformat.read(path, 4)
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ran = nbclient.NotebookClient(
        copy.deepcopy(shown), timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    pairs = zip(shown.cells, ran.cells, strict=True)
    fixed = [pair for pair in pairs if "varies" not in pair[0].metadata.get("tags", [])]
    assert [printed(after) for _, after in fixed] == [printed(before) for before, _ in fixed]
