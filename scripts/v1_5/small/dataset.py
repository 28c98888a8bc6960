"""The pairs of a folder of LEVIR-CC, their scenes, and folds of whole scenes.

Tile number N of LEVIR-CD's numbering is row (N - 1) // 4 % 4, column (N - 1) % 4 of scene (N - 1) // 16 + 1: a scene of
1,024 x 1,024 pixels is cut into 4 x 4 tiles.
"""

import json
import re
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image

TILES, SIDE = 4, 256  # tiles a side of a scene, pixels a side of a tile
CONTINUES = 0.3  # 1 - correlation of two borders; scenes that are neighbours have 0.09 to 0.24, others more than 0.5


@dataclass(frozen=True)
class Pair:
    """before, after and mask are paths; captions are as the data set writes them, without blanks around them."""

    name: str
    scene: int
    tile: int  # 0 to 15, row by row
    before: Path
    after: Path
    mask: Path
    captions: tuple[str, ...]
    changed: bool


def read_pairs(data: Path) -> list[Pair]:
    """All pairs of LevirCCcaptions.json in order of their numbers, whatever split they are in."""
    rows = json.loads((data / "LevirCCcaptions.json").read_text(encoding="utf-8"))["images"]
    pairs = []
    for row in rows:
        stem = Path(row["filename"]).stem
        number = int(re.search(r"\d+", stem)[0]) - 1
        folder = data / "images" / row["filepath"]
        captions = tuple(sentence["raw"].strip() for sentence in row["sentences"])
        files = folder / "A" / row["filename"], folder / "B" / row["filename"], folder / "label" / f"{stem}.png"
        scene, tile = number // TILES**2 + 1, number % TILES**2
        pairs.append(Pair(stem, scene, tile, *files, captions, bool(row["changeflag"])))
    return sorted(pairs, key=lambda pair: (pair.scene, pair.tile))


def scene_groups(pairs: list[Pair]) -> list[list[int]]:
    """The scenes, those whose borders continue one another at either date together."""
    scenes = sorted({pair.scene for pair in pairs})
    group = {scene: scene for scene in scenes}
    for date in ("before", "after"):
        borders = {scene: _borders([pair for pair in pairs if pair.scene == scene], date) for scene in scenes}
        for first, second in permutations(scenes, 2):
            for one, other in (("right", "left"), ("bottom", "top")):
                if _apart(borders[first][one], borders[second][other]) < CONTINUES:
                    group = {scene: group[first] if own == group[second] else own for scene, own in group.items()}
    return [[scene for scene in scenes if group[scene] == name] for name in sorted(set(group.values()))]


def _borders(pairs: list[Pair], date: str) -> dict[str, np.ndarray]:
    """Each side (1,024, 3) of a scene; not a number where a tile is missing."""
    size = TILES * SIDE
    whole = np.full((size, size, 3), np.nan, dtype=np.float32)
    for pair in pairs:
        row, column = (SIDE * place for place in divmod(pair.tile, TILES))
        with Image.open(getattr(pair, date)) as image:
            tile = np.asarray(image.convert("RGB"), dtype=np.float32)
        if tile.shape == (SIDE, SIDE, 3):
            whole[row : row + SIDE, column : column + SIDE] = tile
    return {"left": whole[:, 0], "right": whole[:, -1], "top": whole[0], "bottom": whole[-1]}


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """1 - correlation of two borders; 1 where less than a quarter of them is there."""
    there = ~np.isnan(one + other).any(1)
    if there.sum() < SIDE:
        return 1.0
    one, other = (border[there] - border[there].mean(0) for border in (one, other))
    return float(1 - (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum() + 1e-9))


def make_folds(pairs: list[Pair], groups: list[list[int]], count: int, seed: int = 0) -> list[list[int]]:
    """``count`` lists of pair numbers of about equal size, whole groups of scenes in each."""
    size = {number: sum(pair.scene in group for pair in pairs) for number, group in enumerate(groups)}
    order = sorted(np.random.default_rng(seed).permutation(len(groups)).tolist(), key=lambda number: -size[number])
    folds: list[list[int]] = [[] for _ in range(count)]
    for number in order:
        smallest = min(
            folds, key=lambda fold: sum(pairs[i].scene in groups[g] for g in fold for i in range(len(pairs)))
        )
        smallest.append(number)
    return [[i for i, pair in enumerate(pairs) if any(pair.scene in groups[g] for g in fold)] for fold in folds]
