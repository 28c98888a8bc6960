"""The JSON that UniRS, and therefore BTCChat, was trained on."""

from collections.abc import Iterator
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, field
from btcchat.data.convert.read import json_rows
from btcchat.errors import BTCChatError

BETWEEN = "###"  # between the two paths of a pair in one string


class UniRS(Converter[dict[str, Any]]):
    """UniRS JSON: LLaVA-style rows with "image": "a" | ["a", "b"] | "a###b", or "video"

    One path is an image, two are a pair (the first is before), ``video`` is a video; ``modality``, if a row has
    it, takes precedence. Ids may be missing or repeated; conversations and other keys are kept unchanged.

    Layout (the names of the files checked with the published code; the files themselves were not available, the forms
    of "image" are those that the published loader reportedly reads)::

        {GeoChat_Instruct,LEVIR_CC_Train,ERA_Train,CRSVQA_Train}_Plus.json, RSVQA_LR_Train.json, or JSON lines

    SRC is such a file or a folder of them; a file is a split with its name. Paths are relative to --images.

    Licence: that of each source (GeoChat-Instruct, LEVIR-CC, ERA, CRSVQA, RSVQA-LR). Cite Li et al., UniRS, https://arxiv.org/abs/2412.20742
    """

    ids_are_unique = False

    def rows(self) -> Iterator[JsonRow]:
        for path in self.files("*.json"):
            for number, entry in json_rows(path):
                yield JsonRow(path.stem, path.name, number, entry)

    def record(self, row: JsonRow) -> dict[str, Any]:
        content = dict(row.content)
        image, video, name = (content.pop(key, None) for key in ("image", "video", "id"))
        named = {} if name is None else {"id": str(name)}
        if video is not None:
            if image is not None:
                raise BTCChatError("both 'image' and 'video', expected one of them")
            media = {"modality": "video", "video": self.relative(field(row.content, "video", str))}
        elif image is None:
            media = {"modality": "text"}
        else:
            media = self._images(image)
        return {**named, **media, **content}

    def _images(self, image: object) -> dict[str, Any]:
        paths = image.split(BETWEEN) if isinstance(image, str) else image
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            raise BTCChatError(f"'image' is {image!r}, expected a path, two paths, or 'a{BETWEEN}b'")
        paths = [self.relative(path) for path in paths]
        if len(paths) == 1:
            return {"modality": "image", "image": paths[0]}
        if len(paths) != 2:
            raise BTCChatError(f"{len(paths)} paths in 'image', expected 1 (an image) or 2 (before, after)")
        return {"modality": "pair", "images": paths}
