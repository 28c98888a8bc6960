"""Any questions or captions about images, in JSON, JSON lines or CSV; a mapping gives the meaning of each field."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from btcchat.data.convert.base import CHANGE_QUESTION, Converter, JsonRow, conversation
from btcchat.data.convert.fields import IMAGE, Fields
from btcchat.data.convert.read import csv_rows, json_rows
from btcchat.errors import BTCChatError
from btcchat.media.frames import PLACEHOLDER
from btcchat.media.placeholders import check_placeholders

TABLES = (".csv", ".tsv")
QUESTIONS = {  # questions used if none is mapped
    "image": "Please briefly describe this image.",
    "pair": CHANGE_QUESTION,
    "series": "Please briefly describe the changes in these images.",
    "video": "Please briefly describe this video.",
}


class MappedFields(Converter[dict[str, Any]]):
    """any VQA or caption JSON, JSONL or CSV, with --map question=FIELD,answer=FIELD,image=FIELD,image2=FIELD

    ``mapping`` gives the field of a row for each name. image alone is one image; image and image2 are a pair, the first
    is before; image3 to image16 make a series. images is a list of images. A field may be inside another
    (``meta.path``) or in a list (``paths.0``). captions is a string or a list of strings, the first of which is the
    answer. Without a question, the question asks for a caption. An answer that is a number becomes text. rows is the
    key of a JSON object that has the rows. The file is one split with its name, unless split is mapped; an id is the
    number of the row, unless id is mapped.
    """

    def __init__(
        self, src: str | Path, images: str | Path | None = None, mapping: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(src, images)
        self.mapping = dict(mapping or {})
        if not self.mapping.keys() & {"answer", "captions"}:
            raise BTCChatError("--map has no answer; give --map question=FIELD,answer=FIELD,image=FIELD")
        self.images = sorted(filter(IMAGE.fullmatch, self.mapping), key=lambda name: int(name[5:] or 1))
        expected = ["image", *(f"image{number}" for number in range(2, len(self.images) + 1))]
        if self.images and self.images != expected:
            raise BTCChatError(f"--map has {', '.join(self.images)}; expected {', '.join(expected)}")
        ways = [*self.images[:1], *(name for name in ("images", "video") if name in self.mapping)]
        if len(ways) != 1:
            raise BTCChatError(f"--map has {' and '.join(ways) or 'no image'}; give one of image, images and video")
        if self.src.is_dir():
            raise BTCChatError(
                f"{self.src} is a folder; give the JSON, JSONL or CSV file, and its images with --images"
            )

    def rows(self) -> Iterator[JsonRow]:
        if self.src.suffix.lower() in TABLES:
            numbered: Iterator[tuple[int, dict[str, Any]]] = csv_rows(self.src)
        else:
            numbered = json_rows(self.src, self.mapping.get("rows"))
        for number, content in numbered:
            split = Fields(content).value(self.mapping["split"]) if "split" in self.mapping else self.src.stem
            yield JsonRow(split if isinstance(split, str) else "", self.src.name, number, content)

    def record(self, row: JsonRow) -> dict[str, Any]:
        fields, mapping = Fields(row.content), self.mapping
        media = self._media(fields)
        more: dict[str, Any] = {
            name: fields.text(mapping[name]) for name in ("question_type", "label") if name in mapping
        }
        if "mask" in mapping:
            more["mask"] = self.relative(fields.path(mapping["mask"]))
        if "change_flag" in mapping:
            more["change_flag"] = fields.flag(mapping["change_flag"])
        if "captions" in mapping:
            more["captions"] = fields.texts(mapping["captions"])
        question = fields.text(mapping["question"]) if "question" in mapping else QUESTIONS[media["modality"]]
        answer = fields.text(mapping["answer"]) if "answer" in mapping else more["captions"][0]
        for turn, text in enumerate((question, answer), start=1):
            check_placeholders(text, turn, is_answer=turn == 2, shows_images=True)
        turns = conversation(question, answer)
        if PLACEHOLDER in question:  # the question already has placeholders for the images
            turns[0]["value"] = question
        name = fields.text(mapping["id"]) if "id" in mapping else str(row.number)
        return {"id": name, **media, **more, "conversations": turns}

    def _media(self, fields: Fields) -> dict[str, Any]:
        if "video" in self.mapping:
            return {"modality": "video", "video": self.relative(fields.path(self.mapping["video"]))}
        names = [self.mapping[name] for name in self.images]
        if "images" in self.mapping:
            field = self.mapping["images"]
            names = [f"{field}.{number}" for number in range(len(fields.items(field)))]
        paths = [self.relative(fields.path(name)) for name in names]
        if len(paths) == 1:
            return {"modality": "image", "image": paths[0]}
        return {"modality": "pair" if len(paths) == 2 else "series", "images": paths}
