"""ERA."""

import re
from collections.abc import Iterator
from typing import Any

from btcchat.data.convert.base import Converter, PublishedRow, conversation
from btcchat.errors import BTCChatError
from btcchat.media.source import VIDEO_SUFFIXES, natural_key

QUESTION = "Which event does this aerial video show?"
SPLITS = {"tra": "train", "val": "val", "tes": "test"}  # first letters of a folder -> split


class ERA(Converter[tuple[str, str]]):
    """ERA: 2,864 aerial videos of 5 seconds, each of one of 25 events

    640 x 640 pixels at 24 frames a second, taken by drones (YouTube); 1,473 train, 1,391 test. ``label`` is the class
    as published ("TrafficCollision"), the answer its words ("traffic collision").

    Layout (not checked; the authors publish no description, and another project has a folder ``Tra``)::

        SPLIT/CLASS/NAME.mp4, or SPLIT/CLASS_001.mp4     SPLIT starts with Tra, Val or Tes

    Licence: academic use only, no redistribution. Source: https://lcmou.github.io/ERA_Dataset. Cite Mou et al.,
    GRSM 2020, https://arxiv.org/abs/2001.11394
    """

    def rows(self) -> Iterator[PublishedRow[tuple[str, str]]]:
        folders = sorted(path for path in self.folder.iterdir() if path.name[:3].lower() in SPLITS and path.is_dir())
        if not folders:
            raise BTCChatError(
                f"{self.folder} has no folder for a split; expected Train/CLASS/*.mp4 and Test/CLASS/*.mp4"
            )
        for folder in folders:
            files = (path for path in folder.glob("**/*") if not path.name.startswith("."))
            videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
            for path in sorted(videos, key=lambda path: natural_key(path.as_posix())):
                inside = path.relative_to(folder)
                label = inside.parts[0] if len(inside.parts) > 1 else re.sub(r"[-_ ]*[0-9]+$", "", path.stem)
                name = path.relative_to(self.folder).as_posix()
                yield PublishedRow(SPLITS[folder.name[:3].lower()], name, 0, (path.stem, label))

    def record(self, row: PublishedRow[tuple[str, str]]) -> dict[str, Any]:
        name, label = row.content
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[-_]+", " ", label).lower()
        return {
            "id": name,
            "modality": "video",
            "video": row.file,
            "label": label,
            "conversations": conversation(QUESTION, words),
        }
