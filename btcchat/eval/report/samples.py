"""The samples of a report, as cards that script.js sorts: images, references, the answer and its scores."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from btcchat.data.changed import says_no_change
from btcchat.errors import BTCChatError
from btcchat.eval.answers.accuracy import right_answers
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.captions.score import count_captions
from btcchat.eval.runs.finished import RunSet
from btcchat.eval.runs.folder import map_path
from btcchat.eval.runs.samples import CAPTIONS, Sample
from btcchat.media.frames import evenly, load_frames
from btcchat.media.images import load_image
from btcchat.media.page import data_uri
from btcchat.media.reading import Reading

LONGEST = 256  # pixels of an image's longer side
FRAMES = 4  # of a video
SHOWN = ("S*m", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")


class Cards:
    """The cards of one set: the choice of samples, and their HTML."""

    def __init__(self, run_set: RunSet, *, preset: str, java: str | None = None):
        self.rows, self.kind = run_set.rows, run_set.kind
        self.types: list[str] = []  # of the questions
        if self.kind == CAPTIONS:
            texts, references = [row.prediction for row in self.rows], [row.references for row in self.rows]
            parts = {"each": range(len(texts))}
            row_scores = count_captions(texts, references, preset=preset, parts=parts, java=java)["each"].each()
            self.values = row_scores[:, [METRICS.index(name) for name in SHOWN]]  # (N, 5), sorted by the first
            self.tags = [_flag_tags(*pair) for pair in zip(changed_rows(self.rows), texts, strict=True)]
        else:
            right, self.types = right_answers(self.kind, self.rows, ranges=run_set.ranges)
            self.values = np.array(right, dtype=float)[:, None]  # (N, 1)
            self.tags = [["right" if ok else "wrong"] for ok in right]

    def pick(self, limit: int) -> list[int]:
        """At most ``limit`` rows in data order: half of them the worst, the others evenly spaced among the rest."""
        count = len(self.rows)
        if count <= limit:
            return list(range(count))
        order = np.argsort(self.values[:, 0], kind="stable").tolist()
        worst, others = order[: limit // 2], sorted(order[limit // 2 :])
        return sorted(worst + [others[number] for number in evenly(len(others), limit - len(worst))])

    def html(
        self, chosen: Sequence[int], samples: Mapping[str, Sample], folder: Path, reading: Reading
    ) -> Iterator[str]:
        """samples: by id, with images. folder: the run folder, which may hold change maps. reading: of the images."""
        maps = [_change_map(map_path(folder, self.rows[number].id)) for number in chosen]
        highest = max((level for _, level in filter(None, maps)), default=0)
        for number, drawn in zip(chosen, maps, strict=True):
            row, sample = self.rows[number], samples[self.rows[number].id]
            yield self._card(number, row, sample, _figures(sample, reading, drawn and drawn[0], highest))

    def _card(self, number: int, row: Prediction, sample: Sample, figures: str) -> str:
        tags, values = self.tags[number], self.values[number]
        kind = "wrong" if {"misjudged", "wrong"} & set(tags) else "right" if "right" in tags else ""
        shown = tags + self.types[number : number + 1]
        question = ""
        if sample.question is not None:
            question = f"<p>{escape(sample.question.replace('<image>', '').strip())}</p>\n"
        truth = "".join(f"<li>{escape(text)}</li>" for text in row.references)
        scores = [f"{name} {value:.2f}" for name, value in zip(SHOWN, values, strict=False)]
        lines = [
            f'<article data-is="{" ".join(tags)}" data-values="{number} {" ".join(f"{v:.4f}" for v in values)}">',
            f"<h3>{escape(row.id)} {' '.join(f'<span class=tag>{escape(tag)}</span>' for tag in shown)}</h3>",
            f"<div class=images>{figures}</div>",
            f'{question}<p class="said {kind}">{escape(row.prediction) or "(empty)"}</p>',
            f"<ol>{truth}</ol>" if self.kind == CAPTIONS else f"<p class=soft>truth: {escape(row.references[0])}</p>",
            f"<p class=scores>{', '.join(scores)}</p></article>\n" if self.kind == CAPTIONS else "</article>\n",
        ]
        return "\n".join(lines)


def _flag_tags(changed: bool, caption: str) -> list[str]:
    return [("changed" if changed else "unchanged"), *(["misjudged"] if says_no_change(caption) == changed else [])]


def _figures(sample: Sample, reading: Reading, change_map: Image.Image | None, highest: int) -> str:
    """highest: the largest level of all change maps in the page, so that their reds are comparable."""
    record = sample.record
    try:
        frames = load_frames(record.modality, record.sources, num_video_frames=FRAMES, reading=reading)
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error
    names = ["before", "after"] if record.modality == "pair" else record.dates or [""] * len(frames)
    for frame in frames:
        frame.thumbnail((LONGEST, LONGEST))
    figures = [_figure(image, name) for name, image in zip(names, frames, strict=True)]
    if record.modality == "pair":
        figures = [f'<image-swipe label="Swipe between before and after">{"".join(figures)}</image-swipe>']
    if change_map is not None:
        strength = change_map.resize(frames[-1].size).point(lambda level: round(191 * level / max(highest, 1)))
        red = Image.composite(Image.new("RGB", strength.size, (255, 32, 32)), frames[-1], strength)
        figures.append(_figure(red, f"change map, red: 0 to {highest / 255:.2f}"))
    return "".join(figures)


def _change_map(path: Path) -> tuple[Image.Image, int] | None:
    """A change map at the size it is shown, and its highest level; None if none was drawn."""
    if not path.is_file():
        return None
    grey = load_image(path).convert("L")
    highest = max(level for level, count in enumerate(grey.histogram()) if count)
    grey.thumbnail((LONGEST, LONGEST))
    return grey, highest


def _figure(image: Image.Image, name: object) -> str:
    source = data_uri(image, "webp", quality=70)
    return f'<figure><img alt="" loading=lazy src="{source}"><figcaption>{escape(str(name))}</figcaption></figure>'
