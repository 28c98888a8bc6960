"""Dubai-CC."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, captioned_pair, field, raw_sentences
from btcchat.data.convert.read import json_rows
from btcchat.errors import BTCChatError

SPLITS = {"Train": "train", "Validation": "val", "Test": "test"}


class DubaiCC(Converter[dict[str, Any]]):
    """Dubai-CC: change captions of 500 pairs of Dubai, five each

    50 x 50 pixels at 30 m from Landsat 7 ETM+, May 2000 and June 2010; 300 train, 50 validation (here val), 150 test.

    Layout, in the folder datasetDubaiCCPublic (from the loaders of Chg2Cap and later projects; the files were
    not available)::

        description_jsontr_te_val/{Train,Validation,Test}_*.json   {"images": [{"filename", "sentences": [{"raw"}]}]}
        imgs_tiles/RGB/500_2000/FILENAME    before; or RGB/500_2000/
        imgs_tiles/RGB/500_2010/FILENAME    after; with "2010" for "2000" in the file name

    Licence: none stated. Source: https://disi.unitn.it/~melgani/datasets.html. Cite Hoxha et al., Change Captioning:
    A New Paradigm for Multitemporal Remote Sensing Image Analysis, TGRS 2022
    """

    def rows(self) -> Iterator[JsonRow]:
        for path in self.files("description_jsontr_te_val/*.json"):
            split = SPLITS.get(path.name.partition("_")[0])
            if split is None:
                raise BTCChatError(f"{path} is not of a known split; its name must start with {', '.join(SPLITS)}")
            for number, entry in json_rows(path, "images"):
                yield JsonRow(split, path.name, number, entry)

    def record(self, row: JsonRow) -> dict[str, Any]:
        name, tiles = field(row.content, "filename", str), self.first_folder("imgs_tiles/RGB", "RGB")
        return captioned_pair(
            PurePosixPath(name).stem,
            f"{tiles}/500_2000/{name}",
            f"{tiles}/500_2010/{name.replace('2000', '2010')}",
            raw_sentences(row.content),
            row.content.get("changeflag"),
        )
