"""Processor: the only way from a record or a question to model input.

A request is a record whose last answer is missing. Both take the same path, so a question reaches the model with the
same tokens and pixels as in training.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from btcchat import prompt
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.checkpoint.folder import open_checkpoint
from btcchat.checkpoint.parts import read_image_processor, read_tokenizer, token_layout
from btcchat.data.records import Record, check_encodable, written
from btcchat.errors import BTCChatError, choose, wrong_type
from btcchat.language_model.tokenizer import check_vocabulary
from btcchat.media.dates import in_order
from btcchat.media.frames import MODALITIES, Sources, load_frames
from btcchat.media.notes import once
from btcchat.media.reading import DEFAULT, Reading
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.prompt import IGNORE_INDEX
from btcchat.prompt.token_layout import TokenLayout
from btcchat.prompt.turns import ROLES

logger = logging.getLogger(__name__)


class Sample(TypedDict, total=False):
    """N tokens, T frames."""

    input_ids: Tensor  # (N,), IMAGE_TOKEN_INDEX at placeholders
    labels: Tensor  # (N,), IGNORE_INDEX everywhere but the answers
    frames: Tensor  # uint8 (T, 3, H, W) at the tower's size
    modality: str
    branches: Tensor  # (N,), of independent questions: see prompt/independent.py
    cut: str | None  # in training: how much was cut off a text that was too long
    cached: tuple[list[Tensor], list[str | None]]  # see train.feature_cache
    changed: Tensor  # (g, g), see train.map_loss


class Batch(TypedDict, total=False):
    """B samples, padded on the right."""

    input_ids: Tensor  # (B, N)
    labels: Tensor  # (B, N)
    attention_mask: Tensor  # (B, N) bool
    branches: Tensor  # (B, N), if a sample has independent questions
    frames: Tensor | None  # uint8 (sum of T, 3, H, W); None if no sample has images
    modalities: list[str]
    frame_counts: list[int]
    cached: tuple[Tensor | None, list[str | None]]
    changed: Tensor  # (P, g, g), of the pairs


def request(
    question: str,
    modality: str = "text",
    source: Sources | None = None,
    *,
    dates: Sequence[str] | None = None,
    history: Sequence[Mapping[str, str]] = (),
    task: str | None = None,
    clue: str | None = None,
) -> Record:
    """The record of a person's question: ``<image>`` in its text is plain text, and the images come first.

    source: as in `media.load_frames`. history: the conversation so far, ``[{"from": "human", "value": ...},
    {"from": "gpt", "value": ...}, ...]``; dates, task and clue belong to its first question. Raises BTCChatError for
    an empty question or a malformed history, and TypeError naming an argument of a wrong type.
    """
    if not isinstance(modality, str):
        raise wrong_type("modality", modality, f"one of {', '.join(MODALITIES)}")
    choose("modality", modality, MODALITIES)
    for name, text in (("question", question), ("task", task or ""), ("clue", clue or "")):
        if not isinstance(text, str):
            raise wrong_type(name, text, "a string")
    if dates is not None and (isinstance(dates, str) or not isinstance(dates, Sequence)):
        raise wrong_type("dates", dates, "a list with a date for each image")
    _check_history(history)
    for name, text in (("question", question), ("task", task or ""), ("clue", clue or "")):
        check_encodable(text, f"the {name}")
    for name, texts in (("dates", dates or ()), ("history", [message["value"] for message in history])):
        check_encodable(" ".join(map(str, texts)), f"a text of {name}")
    if not question.strip():
        raise BTCChatError("the question is empty; ask something, e.g. 'What changed between the two images?'")
    for earlier, later in pairwise(map(str, dates or ())):
        if not in_order(earlier, later):
            note = "these dates are not in order; give the earliest image first"
            once(logger, note, f"{earlier}, {later}", logging.WARNING)
    return Record(
        where="the question",
        modality=modality,
        sources=[] if source is None else source,
        conversations=[*map(dict, history), {"from": "human", "value": question.strip()}],
        dates=None if dates is None else list(dates),
        task=task,
        clue=clue,
        literal=True,
    )


def _check_history(history: object) -> None:
    turn = "{'from': 'human' | 'gpt', 'value': text}"
    if isinstance(history, str) or not isinstance(history, Sequence):
        raise wrong_type("history", history, f"a list of turns {turn}")
    roles = []
    for number, message in enumerate(history):
        known = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("from", "value"))
        if not known:
            raise BTCChatError(f"history[{number}] must be a turn {turn}; got {message!r}")
        roles.append(choose(f"speaker of history[{number}]", message["from"], ROLES))
    expected = [("assistant", "user")[number % 2] for number in range(len(roles))][::-1]
    if roles != expected:
        order = ", ".join(message["from"] for message in history)
        raise BTCChatError(f"history must alternate and end with an answer ('gpt'); its turns are {order}")


def about(
    *,
    image: Sources | None = None,
    pair: Sources | None = None,
    series: Sources | None = None,
    video: Sources | None = None,
) -> tuple[str, Sources | None]:
    """(modality, source) of the given one; text if there is none. Raises BTCChatError if several are given."""
    given = {"image": image, "pair": pair, "series": series, "video": video}
    chosen = [name for name, source in given.items() if source is not None]
    if len(chosen) > 1:
        raise BTCChatError(f"{' and '.join(chosen)} were given; a question is about one of them")
    return (chosen[0], given[chosen[0]]) if chosen else ("text", None)


@dataclass
class Processor:
    """Turns records into a model's input, by its wording, template, limits (``config``), tokenizer, pixels and layout.

    reading: how images become grey levels, in training, evaluation and every answer; it can be set at any time.
    """

    config: BTCChatConfig
    tokenizer: PreTrainedTokenizerBase
    image_processor: ImageProcessor
    layout: TokenLayout
    reading: Reading = DEFAULT

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        base: str | Path | None = None,
        vision_tower: str | Path | None = None,
        conv_version: str | None = None,
        caption_question: str | None = None,
        pair_prompt: str | None = None,
        num_video_frames: int | None = None,
        image_aspect_ratio: str | None = None,
        vision_resolution: int | None = None,
        mm_vision_select_layer: int | list[int] | None = None,
        mm_vision_select_feature: str | None = None,
        series_change_tokens: bool | None = None,
        video_change_tokens: bool | None = None,
        reading: Reading = DEFAULT,
    ) -> "Processor":
        """The processor of a checkpoint folder, a hub id or the packaged model (``"tiny"``, None); no weights are read.

        base, vision_tower, reading: as in `BTCChat.from_pretrained`. The others override the field of the same name in
        the checkpoint's BTCChatConfig.
        """
        fields: dict[str, Any] = {
            "conv_version": conv_version,
            "caption_question": caption_question,
            "pair_prompt": pair_prompt,
            "num_video_frames": num_video_frames,
            "image_aspect_ratio": image_aspect_ratio,
            "vision_resolution": vision_resolution,
            "mm_vision_select_layer": mm_vision_select_layer,
            "mm_vision_select_feature": mm_vision_select_feature,
            "series_change_tokens": series_change_tokens,
            "video_change_tokens": video_change_tokens,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        source = open_checkpoint(path, base=base, vision_tower=vision_tower, fields=given)
        layout, tower = token_layout(source.config)
        processor = cls(source.config, read_tokenizer(source), read_image_processor(source, tower), layout, reading)
        processor.check()
        return processor

    @property
    def template(self) -> prompt.Template:
        return prompt.get_template(self.config.conv_version)

    @property
    def max_length(self) -> int:
        """Maximum tokens in a sample, image tokens included."""
        return self.config.model_max_length

    def check(self) -> None:
        """Raise BTCChatError if the model's wording does not fit its parts, before the first pair is read."""
        prompt.check_pair_prompt(self.config.pair_prompt, self.layout.num_segments("pair", 2))
        check_vocabulary(self.tokenizer, self.config.llm.get("vocab_size", self.tokenizer.vocab_size))

    def load_frames(self, record: Record) -> list[Image.Image]:
        """The RGB frames of a record in temporal order, as they are shown (``record.view``)."""
        frames = load_frames(
            record.modality, record.sources, num_video_frames=self.config.num_video_frames, reading=self.reading
        )
        return frames if record.view is None else [frame.transpose(record.view) for frame in frames]

    def pixels(self, frames: Sequence[Image.Image]) -> Tensor:
        """Frames -> uint8 (T, 3, H, W) at the tower's size."""
        if not frames:
            return torch.zeros(0, 3, 0, 0, dtype=torch.uint8)
        return torch.stack([self.image_processor(frame) for frame in frames])

    def __call__(
        self,
        record: Record,
        frames: Sequence[Image.Image] | Tensor | None = None,
        *,
        train: bool,
        system: str | None = None,
    ) -> Sample:
        """A record -> model input. frames: those of `load_frames`, or their `pixels`; None loads them.

        system: replaces the template's system text; raises BTCChatError if the template has none.

        train: the conversation ends with an answer to learn, and text that is too long is cut (see ``cut``); otherwise
        it ends with a question. Raises BTCChatError if the record does not fit its frames, is too long, or has nothing
        to learn.
        """
        if frames is None:
            frames = self.load_frames(record)
        pixels = frames if isinstance(frames, Tensor) else self.pixels(frames)
        template = self.template if system is None else self.template.with_system(system)
        lengths = self.layout.lengths(record.modality, len(pixels))
        whole = [
            prompt.encode(self.turns(one, len(pixels)), self.tokenizer, template, train=train)
            for one in (record.alone() if train else [record])
        ]
        fitted = [prompt.fit(one, lengths, self.max_length, train=train) for one in whole]
        joined = prompt.join(fitted, lengths, self.max_length)
        encoded = joined.encoded
        if train and all(label == IGNORE_INDEX for label in encoded.labels):
            raise BTCChatError(
                f"no answer is left in {len(encoded.input_ids)} tokens; raise --model_max_length ({self.max_length})"
            )
        lost = sum(len(one.input_ids) for one in whole) - sum(len(one.input_ids) for one in fitted)
        counts = ((lost, "tokens"), (joined.left_out, "questions"))
        too_long = " and ".join(f"{count} {name}" for count, name in counts if count)
        cut = f"{record.where}, {too_long} too long for --model_max_length {self.max_length}"
        sample: Sample = {
            "input_ids": torch.tensor(encoded.input_ids),
            "labels": torch.tensor(encoded.labels),
            "frames": pixels,
            "modality": record.modality,
            "cut": cut if too_long else None,
        }
        if joined.branches:
            sample["branches"] = torch.tensor(joined.branches)
        return sample

    def turns(self, record: Record, num_frames: int) -> list[prompt.Turn]:
        """The chat of a record with ``num_frames`` frames. Raises BTCChatError if its text or dates do not fit them."""
        if record.dates is not None and record.modality in ("pair", "series") and len(record.dates) != num_frames:
            got = f"{len(record.dates)} for a {record.modality} of {num_frames} images"
            raise BTCChatError(f"dates: got {got}; give one for each image")
        return prompt.turns_from_record(
            record.conversations,
            segments=self.layout.num_segments(record.modality, num_frames),
            modality=record.modality,
            frames=num_frames,
            hints=prompt.Hints(record.dates, record.task, record.clue),
            wording=prompt.Wording(self.config.conv_version, self.config.pair_prompt, self.config.caption_question),
            literal=record.literal,
        )

    def check_text(self, record: Record) -> None:
        """Raise BTCChatError if a record's text does not fit its frames; no frame is read."""
        frames = len(record.sources) if isinstance(record.sources, list) else 1
        if record.modality == "video":
            if frames == 1 and written(record) > 1:  # one for each frame, and their number is only in the file
                return
            frames = self.most_frames(frames if frames > 1 else -1)
        prompt.render(self.turns(record, frames), self.template)

    def most_frames(self, frames: int) -> int:
        """Number of frames taken from a video with ``frames`` frames; -1: a file that is not opened yet."""
        most = self.config.num_video_frames
        return most if frames < 0 else min(frames, most)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Pad texts on the right to the longest; concatenate all frames of the batch."""
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        shown = [sample["frames"] for sample in samples if len(sample["frames"])]
        batch: Batch = {
            "input_ids": _pad([sample["input_ids"] for sample in samples], self.tokenizer.pad_token_id),
            "labels": _pad([sample["labels"] for sample in samples], IGNORE_INDEX),
            "attention_mask": torch.arange(int(lengths.max()))[None] < lengths[:, None],  # not ids != pad:
            # the pad id may be the unknown token's, which is a real token inside a text
            "frames": torch.cat(shown) if shown else None,
            "modalities": [sample["modality"] for sample in samples],
            "frame_counts": [len(sample["frames"]) for sample in samples],
        }
        if any("branches" in sample for sample in samples):
            rows = [sample.get("branches", torch.zeros_like(sample["input_ids"])) for sample in samples]
            batch["branches"] = _pad(rows, 0)
        if "cached" in samples[0]:
            features, keys = zip(*(sample["cached"] for sample in samples), strict=True)
            batch["frame_counts"] = [len(own) for own in keys]
            batch["cached"] = (torch.stack(sum(features, [])) if any(features) else None, sum(keys, []))
        if changed := [sample["changed"] for sample in samples if "changed" in sample]:
            batch["changed"] = torch.stack(changed)
        return batch


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
