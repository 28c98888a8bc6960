"""The starting checkpoint of the tiny model."""

import json

import pytest

from btcchat.synthetic.start import main

SMALL = {"resolution": 32, "vision_width": 24, "vision_layers": 1, "llm_width": 24, "llm_layers": 1, "llm_hidden": 32}


@pytest.mark.parametrize("flags", [[], ["--question_first"]])
def test_its_sizes_and_the_order_of_its_prompt_are_flags(tmp_path, flags):
    main([str(tmp_path), "--vocabulary", "900", *(f"--{name}={size}" for name, size in SMALL.items()), *flags])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.get("question_first", False) == bool(flags)
    assert config["llm_cfg"]["hidden_size"] == config["vision_tower_cfg"]["hidden_size"] == 24
