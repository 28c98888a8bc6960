"""The samples of a report: images, references, the answer and its scores, each a card that script.js sorts."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.eval.answers.accuracy import right_answers
from btcchat.eval.captions.changes import changed_rows, says_no_change
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.captions.score import count_captions
from btcchat.eval.runs.finished import RunSet
from btcchat.eval.runs.folder import map_path
from btcchat.eval.runs.samples import CAPTIONS, Sample
from btcchat.media.frames import evenly, load_frames
from btcchat.media.images import load_image
from btcchat.media.page import data_uri

LONGEST = 256  # pixels of an image's longer side
FRAMES = 4  # of a video
SHOWN = ("S*m", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")


class Cards:
    """The cards of one set: which ones, and their HTML."""

    def __init__(self, one: RunSet, *, preset: str, java: str | None = None):
        self.rows, self.kind, self.types = one.rows, one.kind, []
        if one.kind == CAPTIONS:
            texts, references = [row.prediction for row in one.rows], [row.references for row in one.rows]
            parts = {"each": range(len(texts))}
            each = count_captions(texts, references, preset=preset, parts=parts, java=java)["each"].each()
            self.values = each[:, [METRICS.index(name) for name in SHOWN]]  # (N, 5), the first one sorts
            self.tags = [_flag_tags(*pair) for pair in zip(changed_rows(one.rows), texts, strict=True)]
        else:
            right, self.types = right_answers(one.kind, one.rows, ranges=one.ranges)
            self.values = np.array(right, dtype=float)[:, None]  # (N, 1)
            self.tags = [["right" if ok else "wrong"] for ok in right]

    def pick(self, most: int) -> list[int]:
        """At most ``most`` rows: the worst half, and as many evenly from the others; in the order of the data."""
        count = len(self.rows)
        if count <= most:
            return list(range(count))
        order = np.argsort(self.values[:, 0], kind="stable").tolist()
        worst, others = order[: most // 2], sorted(order[most // 2 :])
        return sorted(worst + [others[number] for number in evenly(len(others), most - len(worst))])

    def html(self, chosen: Sequence[int], samples: dict[str, Sample], folder: Path) -> Iterable[str]:
        """samples: by id, with their images. folder: the run's, which may hold change maps."""
        maps = [_change_map(map_path(folder, self.rows[number].id)) for number in chosen]
        top = max((highest for _, highest in filter(None, maps)), default=0)
        for number, drawn in zip(chosen, maps, strict=True):
            row, sample = self.rows[number], samples[self.rows[number].id]
            yield self._card(number, row, sample, _figures(sample, drawn and drawn[0], top))

    def _card(self, number: int, row: Prediction, sample: Sample, figures: str) -> str:
        tags, values = self.tags[number], self.values[number]
        kind = "wrong" if {"misjudged", "wrong"} & set(tags) else "right" if "right" in tags else ""
        shown = tags + self.types[number : number + 1]
        asked = "" if sample.question is None else f"<p>{escape(sample.question.replace('<image>', '').strip())}</p>\n"
        truth = "".join(f"<li>{escape(text)}</li>" for text in row.references)
        scores = [f"{name} {value:.2f}" for name, value in zip(SHOWN, values, strict=False)]
        lines = [
            f'<article data-is="{" ".join(tags)}" data-values="{number} {" ".join(f"{v:.4f}" for v in values)}">',
            f"<h3>{escape(row.id)} {' '.join(f'<span class=tag>{escape(tag)}</span>' for tag in shown)}</h3>",
            f"<div class=images>{figures}</div>",
            f'{asked}<p class="said {kind}">{escape(row.prediction) or "(empty)"}</p>',
            f"<ol>{truth}</ol>" if self.kind == CAPTIONS else f"<p class=soft>truth: {escape(row.references[0])}</p>",
            f"<p class=scores>{', '.join(scores)}</p></article>\n" if self.kind == CAPTIONS else "</article>\n",
        ]
        return "\n".join(lines)


def _flag_tags(changed: bool, said: str) -> list[str]:
    return [("changed" if changed else "unchanged"), *(["misjudged"] if says_no_change(said) == changed else [])]


def _figures(sample: Sample, change_map: Image.Image | None, top: int) -> str:
    """top: the largest level of the page's change maps, so that their reds can be compared."""
    record = sample.record
    try:
        frames = load_frames(record.modality, record.sources, num_video_frames=FRAMES)
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error
    names = ["before", "after"] if record.modality == "pair" else record.dates or [""] * len(frames)
    for frame in frames:
        frame.thumbnail((LONGEST, LONGEST))
    images = list(zip(names, frames, strict=True))
    if change_map is not None:
        strength = change_map.resize(frames[-1].size).point(lambda level: round(191 * level / max(top, 1)))
        red = Image.composite(Image.new("RGB", strength.size, (255, 32, 32)), frames[-1], strength)
        images.append((f"change map, red: 0 to {top / 255:.2f}", red))
    return "".join(
        f"<figure>{_image(one)}<figcaption>{escape(str(name))}</figcaption></figure>" for name, one in images
    )


def _change_map(path: Path) -> tuple[Image.Image, int] | None:
    """A change map as small as it is shown, and its highest level; None where none was drawn."""
    if not path.is_file():
        return None
    grey = load_image(path).convert("L")
    highest = grey.getextrema()[1]
    grey.thumbnail((LONGEST, LONGEST))
    return grey, highest


def _image(image: Image.Image) -> str:
    return f'<img alt="" loading=lazy src="{data_uri(image, "webp", quality=70)}">'
