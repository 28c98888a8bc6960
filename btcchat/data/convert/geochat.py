"""GeoChat-Instruct."""

from collections.abc import Iterator
from typing import Any

from btcchat.data.convert.base import Converter, JsonRow, field
from btcchat.data.convert.read import json_rows

IMAGES = "share/softwares/kartik/GeoChat_finetuning/final_images_llava"  # the folder in the published archive


class GeoChat(Converter[dict[str, Any]]):
    """GeoChat-Instruct: 318,000 instructions on single images

    Descriptions, conversations, questions, scene classes, grounding and referring (boxes as text) on images of DOTA,
    DIOR, FAIR1M, LRBEN, FloodNet, NWPU-RESISC-45; RGB of mixed size and resolution. One split, train.

    An id names an image and several rows may share it, so a repeated id is not a fault here. Conversations are kept
    unchanged.

    Layout (the files checked with the published listing, the rows with the code of projects that use them)::

        GeoChat_Instruct.json      [{"id", "image": "PATH", "conversations": [{"from", "value"}, ...]}, ...]
        share/softwares/kartik/GeoChat_finetuning/final_images_llava/PATH   or PATH in images/ or final_images_llava/

    Licence: Apache-2.0 (the annotations). Source: https://huggingface.co/datasets/MBZUAI/GeoChat_Instruct.
    Cite Kuckreja et al., CVPR 2024, https://arxiv.org/abs/2311.15826
    """

    ids_are_unique = False

    def rows(self) -> Iterator[JsonRow]:
        path = self.annotations("GeoChat_Instruct.json")
        for number, entry in json_rows(path):
            yield JsonRow("train", path.name, number, entry)

    def record(self, row: JsonRow) -> dict[str, Any]:
        images = self.first_folder(IMAGES, f"images/{IMAGES}", "images/final_images_llava", "final_images_llava")
        return {
            "id": field(row.content, "id", str),
            "modality": "image",
            "image": f"{images}/{field(row.content, 'image', str)}",
            "conversations": field(row.content, "conversations", list),
        }
