"""The 'universal' JSON of CCExpert's CC-Foundation."""

from collections.abc import Iterator
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, captioned_pair, field
from btcchat.data.convert.read import json_rows


class CCExpert(Converter[dict[str, Any]]):
    """CCExpert 'universal' JSON: change captions of pairs (CC-Foundation, 200,000 pairs, 1.2 million captions)

    CC-Foundation gathers LEVIR-CC, SYSU-CD, SECOND, CLEVR-Change, Spot-the-diff, Image-Edit-Request, STVchrono,
    VisMin and ChangeSim; part of it is public. Size, resolution and years are those of its sources.

    Layout (checked with the authors' loader and lists of files; the data files were not available)::

        *.json    [{"uid", "img1_path", "img2_path", "change_flag": 0 | 1 | -1, "change_caption": [text, ...]}, ...]

    SRC is such a file or a folder of them. A file is a split (LevirCCcaptions_train_universal.json becomes
    LevirCCcaptions_train_universal.jsonl). Its paths are relative to --images, or absolute, as the authors' script
    writes them; those inside --images become relative.

    Licence: that of each source. Source: https://github.com/Meize0729/CCExpert. Cite Wang et al.,
    https://arxiv.org/abs/2411.11360
    """

    def rows(self) -> Iterator[JsonRow]:
        for path in self.files("*.json"):
            for number, entry in json_rows(path):
                yield JsonRow(path.stem, path.name, number, entry)

    def record(self, row: JsonRow) -> dict[str, Any]:
        before, after = (self.relative(field(row.content, name, str)) for name in ("img1_path", "img2_path"))
        captions = field(row.content, "change_caption", list)
        uid = row.content["uid"] if isinstance(row.content.get("uid"), int) else field(row.content, "uid", str)
        return captioned_pair(str(uid), before, after, captions, row.content.get("change_flag"))
