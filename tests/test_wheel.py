"""An installed wheel finds its own files without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("btcchat", "datasets_mixture", "scripts", "setup.py", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import setuptools.build_meta as build; build.build_wheel('..')"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The unpacked wheel: what pip would put into site-packages."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"  # a copy, because building leaves files next to setup.py
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = work.glob("btcchat-*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(work / "site")
    shutil.rmtree(source)
    return work / "site"


@pytest.fixture
def python(site, tmp_path):
    """``python("-m", "btcchat", "--help")`` -> its output, run in an empty folder."""

    def run(*arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}  # precedes installed packages
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_imported_package_is_the_wheels(python, site):
    where = python("-c", "import btcchat, sys; print(btcchat.__file__); print(*sys.path, sep='\\n')").splitlines()
    assert where[0] == str(site / "btcchat" / "__init__.py")


def test_the_page_of_the_server_is_in_the_wheel(site):
    here = {path.relative_to(ROOT) for path in (ROOT / "btcchat" / "serve" / "page").rglob("*") if path.is_file()}
    assert here and {path for path in here if not (site / path).is_file()} == set()


def test_the_command_prints_its_help(python):
    assert "btcchat caption before.png after.png" in python("-m", "btcchat", "--help")
    assert "levir_cc" in python("-m", "btcchat", "data", "convert", "--list")


def test_the_shipped_sets_and_mixtures_are_found(python):
    printed = python("-m", "btcchat", "data", "list").splitlines()
    names = [name for path in (ROOT / "datasets_mixture").glob("*.yaml") for name in yaml.safe_load(path.read_text())]
    assert sorted(line.split()[0] for line in printed) == sorted(names)
    assert any(line.startswith("change_captions ") and " = levir_cc@random_choice+" in line for line in printed)


def test_your_own_mixture_is_built(python, tmp_path):
    turns = [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "yes"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"modality": "text", "conversations": turns}) + "\n")
    (tmp_path / "mine.yaml").write_text("mine: {annotation: rows.jsonl}\n")
    code = "from btcchat.data.mixture import build_datasets as b; print(len(b('mine.yaml*3', dict, data_root='.')))"
    assert python("-c", code).strip() == "3"


def test_a_preset_and_its_deepspeed_config_are_found(python):
    assert "release/3b/sft" in python("-m", "btcchat", "train", "--list")
    code = "from btcchat.train.presets import expand; print(expand(['--preset', 'release/3b/sft']))"
    assert "'every_modality'" in python("-c", code)
    for name in ("zero2_offload", "scripts/zero2_offload.json"):  # the published command uses the second
        code = f"from btcchat.train.distributed import deepspeed_config as d; print(d('{name}')['zero_optimization'])"
        assert "'stage': 2" in python("-c", code)


def test_recipes_are_included(python, site):
    there = {str(path.relative_to(ROOT / "scripts")) for path in (ROOT / "scripts").rglob("*") if path.is_file()}
    found = {
        str(path.relative_to(site / "btcchat" / "scripts")) for path in (site / "btcchat" / "scripts").rglob("*.*")
    }
    assert {name for name in there if "__pycache__" not in name} <= found
    assert python("-c", "from btcchat.assets import resource; print(resource('scripts'))").strip() == str(
        site / "btcchat" / "scripts"
    )


def test_the_words_of_synthetic_scenes_are_found(python):
    code = "from btcchat.synthetic import corpus; print(sum(1 for _ in corpus(0, samples=2)))"
    assert int(python("-c", code)) > 300  # sentences.txt alone has about that many
