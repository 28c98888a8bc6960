"""One HTML page of samples as the model gets them: prompt, ids, learned tokens, images after preprocessing.

The page is self-contained. All text from a data set is escaped.
"""

from collections.abc import Iterable
from html import escape
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from transformers import PreTrainedTokenizerBase

from btcchat import prompt
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.media.frames import PLACEHOLDER
from btcchat.media.page import data_uri
from btcchat.outputs.ours import HTML
from btcchat.processor import Processor, Sample
from btcchat.prompt.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX

T = TypeVar("T")
STREAMED = 1000  # records of a streamed mixture to choose from
STYLE = """
:root { color-scheme: light dark; --line: #8886; --learned: #1a7f37; --image: #0969da; --fault: #cf222e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 0 1rem 1rem; margin: 1rem 0; }
h1, h2 { line-height: 1.2 } h3 { font-size: 1rem; margin: .8rem 0 .4rem; overflow-wrap: anywhere }
p.facts { color: #888; margin: 0 0 .6rem } p.fault { color: var(--fault); font-weight: 600 }
figure { display: inline-block; margin: 0 .6rem .6rem 0; vertical-align: top }
figcaption { color: #888; font-size: 12px } ol.captions { overflow-wrap: anywhere }
img { display: block; width: 224px; max-width: 100%; image-rendering: pixelated; border: 1px solid var(--line) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line); padding-left: .8rem }
.learned { color: #fff; background: var(--learned) } .image { color: #fff; background: var(--image) }
ol.tokens { list-style: none; display: flex; flex-wrap: wrap; gap: 3px; padding: 0; font: 12px/1.3 monospace }
.tokens li { border: 1px solid var(--line); border-radius: 4px; padding: 1px 4px; text-align: center }
.tokens small { display: block; opacity: .75 } summary { cursor: pointer }
"""


class Shown(NamedTuple):
    """A record on the page. set_name: as written in the mixture."""

    set_name: str
    record: Record


def pick(mixture: Mixture | StreamMixture, samples: int, seed: int) -> dict[str, list[Shown]]:
    """Draw at most ``samples`` records per modality with ``seed``; in a streamed mixture, from its first ones."""
    if isinstance(mixture, StreamMixture):
        named = islice(mixture.named_records(seed), STREAMED)
        return _first(((record.modality, Shown(name, record)) for name, record in named), samples)
    order = np.random.default_rng(seed).permutation(len(mixture)).tolist()
    chosen = _first(((mixture.modality(index), index) for index in order), samples)
    return {
        modality: [Shown(mixture.set_name(index), mixture.record(index)) for index in sorted(chosen[modality])]
        for modality in sorted(chosen)
    }


def _first(items: Iterable[tuple[str, T]], samples: int) -> dict[str, list[T]]:
    chosen: dict[str, list[T]] = {}
    for modality, item in items:
        if len(chosen.setdefault(modality, [])) < samples:
            chosen[modality].append(item)
    return chosen


def page(title: str, facts: str, chosen: dict[str, list[Shown]], processor: Processor) -> Iterable[str]:
    """Yield the page in pieces."""
    yield f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>{HTML}<title>{escape(title)}</title>"
    yield f"<style>{STYLE}</style>\n"
    yield f"<h1>{escape(title)}</h1><p class=facts>{escape(facts)}</p>\n"
    yield "<p><span class=learned>learned</span> (the labels), <span class=image>&lt;image&gt;</span> a placeholder "
    yield "(replaced by the features of the images), everything else is read but not learned.</p>\n"
    for modality, records in chosen.items():
        yield f"<h2>{escape(modality)}</h2>\n"
        for shown in records:
            yield _article(shown, processor)


def _article(shown: Shown, processor: Processor) -> str:
    record = shown.record
    name = f"id {record.row['id']}" if "id" in record.row else "no id"
    head = f"<article><h3>{escape(f'{shown.set_name}, {name}')}</h3>\n<p class=facts>{escape(record.where)}</p>\n"
    head += _captions(record)
    try:
        sample = processor(record, train=True)
        frames = len(sample["frames"])
        prompts = [prompt.render(processor.turns(one, frames), processor.template) for one in record.alone()]
    except BTCChatError as error:
        return f"{head}<p class=fault>{escape(str(error))}</p></article>\n"
    ids, labels = sample["input_ids"].tolist(), sample["labels"].tolist()
    lengths = processor.layout.lengths(record.modality, frames)
    learned = sum(label != IGNORE_INDEX for label in labels)
    each = " to ".join(map(str, sorted({min(lengths, default=0), max(lengths, default=0)})))
    facts = f"{record.modality}, {frames} image{'s' * (frames != 1)}, "
    facts += f"{len(lengths)} placeholder{'s' * (len(lengths) != 1)} of {each} tokens; "
    facts += f"{len(ids) - len(lengths) + sum(lengths)} of {processor.max_length} tokens, {learned} of them learned"
    return (
        f"{head}<p class=facts>{escape(facts)}</p>\n{_figures(record, sample)}\n"
        + "".join(f"<pre>{escape(text)}</pre>\n" for text in prompts)
        + "<details open><summary>ids and labels</summary>"
        f"{_tokens(ids, labels, processor.tokenizer)}</details></article>\n"
    )


def _captions(record: Record) -> str:
    """All captions of a record; those in its conversation are marked as learned."""
    if not record.captions:
        return ""
    answers = {turn["value"] for turn in record.conversations if turn["from"] == "gpt"}
    items = [
        f"<li><span class=learned>{escape(text)}</span>" if text in answers else f"<li>{escape(text)}"
        for text in record.captions
    ]
    return f"<ol class=captions>{''.join(f'{item}</li>' for item in items)}</ol>\n"


def _figures(record: Record, sample: Sample) -> str:
    """The frames as passed to the vision tower."""
    figures = []
    for number, frame in enumerate(sample["frames"]):
        image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
        names = record.sources if isinstance(record.sources, list) else [record.sources]
        name = str(names[number] if len(names) == len(sample["frames"]) else names[0])
        date = f", {record.dates[number]}" if record.dates else ""
        caption = escape(f"{number + 1}{date}: {name.replace(chr(92), '/').rpartition('/')[2]}")
        figures.append(f"<figure><img alt='' src='{data_uri(image)}'><figcaption>{caption}</figcaption></figure>")
    return "".join(figures)


def _tokens(ids: list[int], labels: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    items = []
    for token, label in zip(ids, labels, strict=True):
        is_image, learned = token == IMAGE_TOKEN_INDEX, label != IGNORE_INDEX
        name = PLACEHOLDER if is_image else str(tokenizer.convert_ids_to_tokens(token))
        kind = " class=image" if is_image else " class=learned" if learned else ""
        items.append(f"<li{kind}>{escape(name)}<small>{token}</small></li>")
    return f"<ol class=tokens>{''.join(items)}</ol>"
