"""LEVIR-CC, and the data sets published in its layout."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, captioned_pair, field, raw_sentences
from btcchat.data.convert.read import json_rows


class LevirCC(Converter[dict[str, Any]]):
    """LEVIR-CC: change captions of 10,077 pairs in Texas, five each

    256 x 256 pixels at 0.5 m from Google Earth, 5 to 14 years apart between 2002 and 2018 (tiles of LEVIR-CD);
    6815 train, 1333 val, 1929 test; half of the pairs show no change (``changeflag`` 0).

    Layout (checked with the authors' README and a subset of the files)::

        LevirCCcaptions.json      {"images": [{"filepath": "train", "filename": "train_000001.png", "split": "train",
                                  "changeflag": 0, "sentences": [{"raw": " there is no difference ."}, ...]}, ...]}
        images/{train,val,test}/{A,B}/     A is before
        images/{train,val,test}/label/     masks of changes, if they have been added: ``mask``

    Licence: none stated; the imagery is Google's, academic use.
    Source: https://github.com/Chen-Yang-Liu/LEVIR-CC-Dataset. Cite Liu et al., TGRS 2022,
    https://doi.org/10.1109/TGRS.2022.3218921
    """

    captions_file = "LevirCCcaptions.json"
    before_and_after = "images/{folder}/A/{name}", "images/{folder}/B/{name}"

    def rows(self) -> Iterator[JsonRow]:
        path = self.annotations(self.captions_file)
        for number, entry in json_rows(path, "images"):
            yield JsonRow(str(entry.get("split") or entry.get("filepath") or ""), path.name, number, entry)

    def record(self, row: JsonRow) -> dict[str, Any]:
        folder, name = field(row.content, "filepath", str), field(row.content, "filename", str)
        before, after = (path.format(folder=folder, name=name) for path in self.before_and_after)
        captions, flag = raw_sentences(row.content), row.content.get("changeflag")
        return captioned_pair(PurePosixPath(name).stem, before, after, captions, flag, **self.maps(folder, name))

    def maps(self, folder: str, name: str) -> dict[str, Any]:
        """The masks or land cover maps of a pair."""
        return mask(folder, name) if (self.root / "images" / folder / "label").is_dir() else {}


class LevirMCI(LevirCC):
    """LEVIR-MCI: LEVIR-CC with masks of changed roads and buildings

    The pairs, captions and splits of LEVIR-CC; ``mask`` is ``images/SPLIT/label/NAME.png``: 0 unchanged, 128 road,
    255 building (in each of three channels). label_rgb/ has the same masks in colour, and is not used.

    Layout: that of LEVIR-CC and label/ (checked with the authors' loader).

    Licence: none stated; the imagery is Google's, academic use.
    Source: https://huggingface.co/datasets/lcybuaa/LEVIR-MCI. Cite Liu et al., Change-Agent, TGRS 2024,
    https://arxiv.org/abs/2403.19646
    """

    def maps(self, folder: str, name: str) -> dict[str, Any]:
        return mask(folder, name)


class WhuCDC(LevirMCI):
    """WHU-CDC: change captions of 7,434 pairs in Christchurch, with building masks

    256 x 256 pixels at 0.075 m (aerial), 2012 and 2016, after an earthquake (tiles of WHU-CD); 37,170 captions;
    ``mask`` is ``images/SPLIT/label/NAME.png``: 1 bit, set where a building changed.

    Layout: that of LEVIR-CC with whuCCcaptions.json (from third-party loaders; the files were not available).
    Entries without ``split`` have the split in ``filepath``.

    Licence: none stated. Source: https://huggingface.co/datasets/hygge10111/RS-CDC. Cite Sun et al., Mask
    Approximation Net, https://arxiv.org/abs/2412.19179, and Ji et al., TGRS 2018 (WHU building data)
    """

    captions_file = "whuCCcaptions.json"


def mask(folder: str, name: str) -> dict[str, Any]:
    return {"mask": f"images/{folder}/label/{PurePosixPath(name).stem}.png"}
