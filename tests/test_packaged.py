"""The packaged tiny model works on its example: a held-out synthetic pair."""

from pathlib import Path

import btcchat
from btcchat import BTCChat

ASSETS = Path(btcchat.__file__).parent / "assets"
EXAMPLE = ASSETS / "example"


def test_its_weights_are_small():
    files = list((ASSETS / "tiny").rglob("*.safetensors"))
    assert len(files) == 3 and sum(file.stat().st_size for file in files) <= 12e6


def test_it_sees_the_large_building_that_is_new_in_the_example():
    model = BTCChat.from_pretrained(device="cpu")
    before, after = EXAMPLE / "before.png", EXAMPLE / "after.png"
    assert "top left : open then a large building" in model.caption(before, after)
    assert "then a large building" not in model.caption(before, before)
    assert "top left : a large building" in model.caption(after, after)
