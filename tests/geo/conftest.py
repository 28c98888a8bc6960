"""Two dates that most tests read."""

from pathlib import Path

import pytest

from tests.geo.drawn import picture, write


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Two dates on one grid of 384 x 384 pixels of 0.5 m; the later one has a bright square."""
    before = picture()
    after = before.copy()
    after[40:100, 60:120] = 250
    return write(tmp_path / "before_2019-05-01.tif", before), write(tmp_path / "after_2021-06-01.tif", after)
