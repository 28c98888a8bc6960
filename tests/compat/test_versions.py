"""Code that depends on a library's version is in btcchat/compat; an untested version gives a warning."""

import logging
import re
from pathlib import Path

import pytest

import btcchat
from btcchat.compat import versions

PACKAGE = Path(btcchat.__file__).parent


@pytest.fixture
def warnings_of(monkeypatch, caplog):
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
def test_a_tested_version_gives_no_warning(warnings_of, version):
    assert warnings_of(version) == []


@pytest.mark.parametrize("version", ["4.40.0", "5.99.0", "5.2.4"])
def test_an_untested_version_gives_one_warning(warnings_of, version):
    [line] = warnings_of(version)
    assert line.startswith(f"transformers {version} is installed; btcchat was tested with 4.36, 4.57, 5.24")


def test_the_installed_version_is_a_tested_one(warnings_of):
    import transformers

    assert warnings_of(transformers.__version__) == []


def test_only_compat_checks_versions():
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
        if path.name not in ("__init__.py", "extras.py"):  # the last checks whether a package is installed at all
            assert re.search(r"\d\.\d|transformers \d", path.read_text(encoding="utf-8")), path.name
