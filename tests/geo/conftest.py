"""Two dates and a model that most tests use."""

from pathlib import Path

import pytest

from btcchat import BTCChat
from btcchat.commands import scenes_run
from tests.geo.drawn import picture, write
from tests.geo.stub import StubModel


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Two dates on one grid of 384 x 384 pixels of 0.5 m; the later one has a bright square."""
    before = picture()
    after = before.copy()
    after[40:100, 60:120] = 250
    return write(tmp_path / "before_2019-05-01.tif", before), write(tmp_path / "after_2021-06-01.tif", after)


@pytest.fixture
def stub(monkeypatch) -> StubModel:
    """The model of the command."""
    model = StubModel()
    monkeypatch.setattr(scenes_run.Loader, "__call__", lambda self: model)
    return model


@pytest.fixture(scope="session")
def tiny() -> BTCChat:
    """The packaged model."""
    return BTCChat.from_pretrained(dtype="float32", device="cpu")
