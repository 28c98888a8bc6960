"""RSVQA, low and high resolution, and CDVQA, published in its layout."""

from collections.abc import Iterator
from pathlib import Path
from sys import intern
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, conversation, field
from btcchat.data.convert.read import json_rows
from btcchat.errors import BTCChatError


class RsvqaLR(Converter[dict[str, Any]]):
    """RSVQA-LR: 77,232 questions on 772 Sentinel-2 images of the Netherlands

    256 x 256 pixels at 10 m, RGB; presence, count, comparison, rural or urban, from OpenStreetMap. 77.8 % train,
    11.1 % val, 11.1 % test.

    Layout (checked with the authors' loader and specification)::

        LR_split_{train,val,test}_questions.json   {"questions": [{"id", "img_id", "type", "question",
                                                   "answers_ids": [17], "active": true}, ...]}
        LR_split_{train,val,test}_answers.json     {"answers": [{"id", "question_id", "answer", "active"}, ...]}
        Images_LR/IMG_ID.tif

    A question that is not active belongs to another split and is skipped; answers are kept word for word.

    Licence: CC BY 4.0. Source: https://zenodo.org/records/6344334. Cite Lobry et al., TGRS 2020,
    https://doi.org/10.1109/TGRS.2020.2988782
    """

    splits = {"train": "train", "val": "val", "test": "test"}  # name in the files -> our name
    prefix, folder_of_images = "LR_split_", "Images_LR"

    def __init__(self, src: str | Path, images: str | Path | None = None):
        super().__init__(src, images)
        self._split: str | None = None
        self._tables: dict[str, dict[int, str]] = {}

    def rows(self) -> Iterator[JsonRow]:
        paths = {split: self._file(split, "questions") for split in self.splits}
        paths = {split: path for split, path in paths.items() if path.is_file()}
        if not paths:
            raise BTCChatError(f"no {self.prefix}*_questions.json in {self.src}; give the folder that contains them")
        for split, path in paths.items():
            for number, question in json_rows(path, "questions"):
                if question.get("active", True):
                    yield JsonRow(self.splits[split], path.name, number, question)

    def record(self, row: JsonRow) -> dict[str, Any]:
        answers = self._read(row.split, "answers", "answer")
        ids = field(row.content, "answers_ids", list)
        if not ids or ids[0] not in answers:
            raise BTCChatError(f"answers_ids is {ids}, expected an active answer of {self._file_of(row, 'answers')}")
        return {
            "id": str(field(row.content, "id", int)),
            **self.media(row),
            "question_type": row.content.get("type"),
            "conversations": conversation(field(row.content, "question", str), answers[ids[0]]),
        }

    def media(self, row: JsonRow) -> dict[str, Any]:
        image = f"{self.folder_of_images}/{field(row.content, 'img_id', int)}.tif"
        return {"modality": "image", "image": image}

    def _file(self, split: str, kind: str) -> Path:
        return self.folder / f"{self.prefix}{split}_{kind}.json"

    def _file_of(self, row: JsonRow, kind: str) -> str:
        return row.file.replace("_questions", f"_{kind}")

    def _read(self, split: str, kind: str, value: str) -> dict[int, str]:
        """Map id to value for the active entries of a split; only the last split read stays in memory."""
        if split != self._split:
            self._split, self._tables = split, {}
        if kind not in self._tables:
            name = next(name for name, ours in self.splits.items() if ours == split)
            self._tables[kind] = {
                field(entry, "id", int): intern(field(entry, value, str))  # a million answers, few distinct ones
                for _, entry in json_rows(self._file(name, kind), kind)
                if entry.get("active", True)
            }
        return self._tables[kind]


class RsvqaHR(RsvqaLR):
    """RSVQA-HR: 1,066,316 questions on 10,659 aerial images of the north-east of the USA

    512 x 512 pixels at 0.15 m (USGS); presence, count, comparison, area, from OpenStreetMap. 61.5 % train, 11.2 %
    val, 20.5 % test, 6.8 % test_phili (Philadelphia, which is in no other split).

    Layout: that of RSVQA-LR with USGS_split_* and Data/IMG_ID.tif (file names checked with several projects
    that use the data; Data/ is the folder in Images.tar).

    Licence: CC BY 4.0. Source: https://zenodo.org/records/6344367. Cite Lobry et al., TGRS 2020,
    https://doi.org/10.1109/TGRS.2020.2988782
    """

    splits = {"train": "train", "val": "val", "test": "test", "test_phili": "test_phili"}
    prefix, folder_of_images = "USGS_split_", "Data"


class CDVQA(RsvqaLR):
    """CDVQA: 122,000 questions on what changed in 2,968 pairs of Chinese cities

    512 x 512 pixels at 0.5 to 3 m (SECOND; the ".1524m" in the files is a remnant of RSVQA's); whether, what, to
    what and how much changed. Answers are kept word for word ("NVG_surface", "20_to_30"). Splits train, val, test,
    test2.

    Layout (annotations checked with the published files)::

        {Train,Val,Test,Test2}_{questions,answers}.json    as in RSVQA
        {Train,Val,Test,Test2}_images.json                 {"images": [{"id", "file_name": "02180.png", ...}, ...]}

    The images are those of SECOND and are downloaded separately: im1/ (before) and im2/, or train/im1/ and train/im2/
    (not checked: splits of CDVQA might be folders there), in SRC or --images.

    Licence: none stated. Source: https://github.com/YZHJessica/CDVQA; SECOND, https://captain-whu.github.io/SCD.
    Cite Yuan et al., TGRS 2022, https://arxiv.org/abs/2112.06343
    """

    splits = {"Train": "train", "Val": "val", "Test": "test", "Test2": "test2"}
    prefix = ""

    def media(self, row: JsonRow) -> dict[str, Any]:
        names, number = self._read(row.split, "images", "file_name"), field(row.content, "img_id", int)
        if number not in names:
            raise BTCChatError(f"img_id {number} is not in {self._file_of(row, 'images')}")
        before, after = self.first_folder("im1", "train/im1"), self.first_folder("im2", "train/im2")
        return {"modality": "pair", "images": [f"{before}/{names[number]}", f"{after}/{names[number]}"]}
