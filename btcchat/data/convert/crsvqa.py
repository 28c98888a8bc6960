"""CRSVQA."""

from collections.abc import Iterator
from typing import Any

from btcchat.data.convert.base import Converter, PublishedRow, conversation
from btcchat.errors import BTCChatError, not_utf8
from btcchat.media.source import existing_file, natural_key


class CRSVQA(Converter[list[str]]):
    """CRSVQA: human-written questions on 4,639 images, on scenes, objects and their relations

    RGB images of mixed size and resolution. No split is published with the annotations: all rows go to ``all``.

    Layout (from the authors' code, which reads a question and its answer from alternate lines; the files themselves
    were not available)::

        data/text/NAME.txt      or text/
        data/image/NAME.png     or image/

    Licence: none stated. Source: https://github.com/MeimeiZhang-data/MQVQA. Cite Zhang et al., Multistep
    Question-Driven Visual Question Answering for Remote Sensing, TGRS 2023, https://ieeexplore.ieee.org/document/10242124
    """

    def rows(self) -> Iterator[PublishedRow[list[str]]]:
        folder = "data/text" if (self.folder / "data/text").is_dir() else "text"
        for path in sorted(self.files(f"{folder}/*.txt"), key=lambda path: natural_key(path.name)):
            existing_file(path, "annotation file")
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise not_utf8(path.name, error) from error
            lines = [line.strip() for line in lines if line.strip()]
            for number, start in enumerate(range(0, len(lines), 2), start=1):
                yield PublishedRow("all", path.name, number, lines[start : start + 2])

    def record(self, row: PublishedRow[list[str]]) -> dict[str, Any]:
        if len(row.content) < 2:
            raise BTCChatError(f"'{row.content[0]}' has no answer; questions and answers must alternate")
        question, answer = row.content
        name = row.file.removesuffix(".txt")
        return {
            "id": f"{name}-{row.number}",
            "modality": "image",
            "image": f"{self.first_folder('data/image', 'image')}/{name}.png",
            "conversations": conversation(question.replace("？", "?"), answer),
        }
