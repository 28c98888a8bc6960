"""What depends on the version of a library is in btcchat/compat; any version that was not tested gives a warning."""

import logging
import re
from pathlib import Path

import pytest

import btcchat
from btcchat.compat import versions

PACKAGE = Path(btcchat.__file__).parent


@pytest.fixture
def told(monkeypatch, caplog):
    """The warnings with a given version of transformers."""

    def warn(version: str) -> list[str]:
        monkeypatch.setattr("transformers.__version__", version)
        versions.warn_untested.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING, "btcchat"):
            versions.warn_untested()
            versions.warn_untested()
        return [record.getMessage() for record in caplog.records]

    yield warn
    versions.warn_untested.cache_clear()


@pytest.mark.parametrize("version", ["4.36.2", "4.57.6", "5.24.0"])
def test_a_tested_version_is_not_worth_a_word(told, version):
    assert told(version) == []


@pytest.mark.parametrize("version", ["4.40.0", "5.99.0", "5.2.4"])
def test_another_version_is_one_line_once(told, version):
    [line] = told(version)
    assert line.startswith(f"transformers {version} is installed; btcchat was tested with 4.36, 4.57, 5.24")


def test_the_installed_version_is_a_tested_one(told):
    import transformers

    assert told(transformers.__version__) == []


def test_no_version_is_asked_outside_of_compat():
    libraries = "transformers|torch|peft|accelerate|tokenizers|huggingface_hub"
    asks = re.compile(rf"packaging\.version|\bVersion\(|({libraries})\.__version__ *[<>=!]")
    found = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "compat" not in path.parts and asks.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_each_file_of_compat_names_the_versions_it_is_for():
    for path in (PACKAGE / "compat").glob("*.py"):
        if path.name not in ("__init__.py", "extras.py"):  # the last asks whether a package is there at all
            assert re.search(r"\d\.\d|transformers \d", path.read_text(encoding="utf-8")), path.name
