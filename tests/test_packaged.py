"""The packaged tiny model works on its example: a held-out synthetic pair."""

from pathlib import Path

import btcchat
from btcchat import BTCChat

ASSETS = Path(btcchat.__file__).parent / "assets"
EXAMPLE = ASSETS / "example"


def test_its_weights_are_small():
    files = list((ASSETS / "tiny").rglob("*.safetensors"))
    assert len(files) == 3 and sum(file.stat().st_size for file in files) <= 12e6


def test_the_example_pair_is_described_and_swapping_its_dates_inverts_the_change():
    model = BTCChat.from_pretrained(device="cpu")
    there = model.caption(EXAMPLE / "before.png", EXAMPLE / "after.png")
    back = model.caption(EXAMPLE / "after.png", EXAMPLE / "before.png")
    assert "top left : open then a large building" in there
    assert "top left : a large building then open" in back
