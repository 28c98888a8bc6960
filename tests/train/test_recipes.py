"""Every shipped recipe is a command line that the entry understands."""

import os
import subprocess
from pathlib import Path

import pytest

from btcchat.data.mixture import known_sets, mixture_folder, parse_mixture
from btcchat.train.arguments import parse_arguments

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [path for path in sorted((ROOT / "scripts" / "v1_5").rglob("*.sh")) if "train_mem" in path.read_text()]


def test_there_are_recipes():
    assert {path.name for path in RECIPES} >= {"1_align.sh", "2_change_encoder.sh", "3_llm.sh"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_recipe_is_thin_and_its_flags_are_understood(recipe, tmp_path):
    assert len(recipe.read_text().splitlines()) <= 25
    stub = tmp_path / "python"  # in place of Python: say what it was called with
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([str(recipe)], capture_output=True, text=True, check=True, env=environment)
    words = done.stdout.splitlines()
    assert words[:2] == ["-m", "btcchat.train.train_mem"]
    _, data, training = parse_arguments(words[2:])
    assert {name for name, _ in parse_mixture(data.data_mixture)} <= set(known_sets(mixture_folder()))
    assert training.tune_vision_tower or training.tune_mm_projector or training.tune_language_model or (
        training.tune_cc_projector or training.tune_single_projector
    )
