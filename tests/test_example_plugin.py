"""examples/: their own tests pass, and a plugin is found as a module and as an installed package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "change_encoder_plugin"
MODULE = "gated_change_encoder"
COMMAND = "import sys; from btcchat.cli import main; sys.exit(main())"  # as the installed `btcchat` does


def python(*words: str, folder: Path, path: tuple[Path, ...] = ()) -> str:
    """The output of ``python WORDS`` in ``folder``, with this checkout and ``path`` on the import path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BTCCHAT_")}
    places = os.pathsep.join(map(str, (ROOT, *path)))
    environment = inherited | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """A copy of the example, because pip and Python write into the folder."""
    folder = tmp_path_factory.mktemp("example") / EXAMPLE.name
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*"))
    return folder


def test_the_module_is_short():
    assert len((EXAMPLE / f"{MODULE}.py").read_text(encoding="utf-8").splitlines()) < 80


def test_its_own_tests_pass(example):
    assert " passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=example)


def test_the_tests_of_the_tower_pass(tmp_path):
    tower = tmp_path / "tower"
    shutil.copytree(EXAMPLE.parent / "efficientnet_tower", tower, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    assert " passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tower)


def test_a_module_on_pythonpath_is_enabled_by_the_flag(example, tmp_path):
    printed = python("-c", COMMAND, "plugins", "--plugin", MODULE, folder=tmp_path, path=(example,))
    assert "change encoder: gated" in printed


@pytest.mark.slow
def test_the_installed_package_is_found_by_the_name_of_its_encoder(example, tmp_path):
    site = tmp_path / "site"
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    python("-m", "pip", "install", "--quiet", *offline, "--target", str(site), str(example), folder=tmp_path)
    (tmp_path / "empty").mkdir()
    run = {"folder": tmp_path / "empty", "path": (site,)}
    assert f"{MODULE} (entry point 'gated' of btcchat-gated-change-encoder 0.1.0)" in python(
        "-c", COMMAND, "plugins", **run
    )
    assert python("-c", COMMAND, "check", "change_encoder", "gated", **run).endswith("16 checks: 16 pass\n")
