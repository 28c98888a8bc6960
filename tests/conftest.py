"""Fixtures shared by all tests, e.g. the folder of real data and golden numbers next to the checkout."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """``../shared``; without it (a user's clone) the test is skipped, but CI must have it."""
    if not SHARED.is_dir():
        message = f"needs the folder {SHARED} (real images and golden numbers), which is not distributed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(autouse=True)
def one_thread():
    """Compare golden numbers with one thread: torch 2.13 may compute a thread's share in low precision."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache_folder(same_environment, tmp_path_factory, monkeypatch):
    """Neither read nor write the user's cache folder."""
    if "XDG_CACHE_HOME" not in os.environ:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def same_environment():
    """Restore the environment, to which training arguments write (ACCELERATE_USE_FSDP, ...), for the next test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def forget_notes():
    """Messages that are logged once per process are logged once per test."""
    from btcchat.media import notes

    notes.forget()


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The name of each image file, once for each time it is opened."""
    from btcchat.media import images

    names, opening = [], images._opened
    monkeypatch.setattr(
        images, "_opened", lambda path, *limit: names.append(Path(str(path)).name) or opening(path, *limit)
    )
    return names


@pytest.fixture
def every_step(monkeypatch):
    """Print the progress of a long command at every step, not only now and then."""
    monkeypatch.setattr("btcchat.console.progress.SECONDS", 0.0)
    monkeypatch.setattr("btcchat.console.progress.SHARE", 0.0)
