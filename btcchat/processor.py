"""From a record to a sample the model can be given."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress

import torch
from transformers import PreTrainedTokenizerBase

from btcchat.data.records import Record, written
from btcchat.errors import BTCChatError
from btcchat.media.images import MODALITIES, load_frames
from btcchat.model import LENGTH_MULTIPLE
from btcchat.multimodal_encoder.cache import FeatureCache
from btcchat.prompt import templates as prompt


@dataclass
class SampleMaker:
    """``make(record)`` -> ``{"input_ids" (N,), "labels" (N,), "pixel_values" (T, 3, H, W) or None, "modality", "cut"}``

    With a ``feature_cache``, pixel_values are those of the frames it does not have; see collate.

    num_segments(modality, frames) -> K, the placeholders a prompt needs; tokens_per_segment: modality -> M, the tokens
    that each becomes. max_length counts those; longer text is cut on the right, which ``cut`` then says. Raises
    BTCChatError where nothing to learn is left.
    """

    tokenizer: PreTrainedTokenizerBase
    image_processor: Callable
    num_segments: Callable[[str, int], int]
    tokens_per_segment: Mapping[str, int]
    template: str
    num_video_frames: int
    max_length: int
    characters_per_token: float = 4.0  # of English text; only used to guess a length before reading a row
    words: dict = field(default_factory=dict)  # BTCChatConfig.words
    clue_tokens: int = 0  # that a clue adds to a prompt, about
    feature_cache: FeatureCache | None = None  # of the vision tower, where it is frozen

    @classmethod
    def of(cls, model) -> "SampleMaker":
        """As ``model`` reads its samples."""
        return cls(
            tokenizer=model.tokenizer,
            image_processor=model.image_processor,
            num_segments=model.num_segments,
            tokens_per_segment={modality: model.tokens_per_segment(modality) for modality in MODALITIES},
            template=model.config.conv_version,
            num_video_frames=model.config.num_video_frames,
            max_length=model.config.model_max_length,
            words=model.config.words,
        )

    def __call__(self, record: Record) -> dict:
        frames = load_frames(record.modality, record.sources, num_video_frames=self.num_video_frames)
        frames = frames if record.view is None else [frame.transpose(record.view) for frame in frames]
        whole = prompt.encode(self.turns(record, len(frames)), self.tokenizer, self.template, train=True)
        encoded = prompt.fit(whole, self.tokens_per_segment[record.modality], self.max_length, train=True)
        lost = len(whole.input_ids) - len(encoded.input_ids)
        if all(label == prompt.IGNORE_INDEX for label in encoded.labels):
            raise BTCChatError(
                f"no answer is left of {len(encoded.input_ids)} tokens; raise --model_max_length ({self.max_length})"
            )
        return {
            "input_ids": torch.tensor(encoded.input_ids),  # (N,)
            "labels": torch.tensor(encoded.labels),  # (N,)
            **self._seen(frames),
            "modality": record.modality,
            "cut": f"{record.where}, {lost} tokens too long for --model_max_length {self.max_length}" if lost else None,
        }

    def _seen(self, frames: list) -> dict:
        """What the model sees of the frames: their pixels, or features where the cache has them."""
        if self.feature_cache is None:
            return {"pixel_values": self._pixels(frames)}
        keys = [self.feature_cache.key(frame) for frame in frames]
        known = [self.feature_cache.load(key) for key in keys]
        return {
            "pixel_values": self._pixels(compress(frames, [one is None for one in known])),
            "cached": (
                [one for one in known if one is not None],  # each (S, L, C)
                [key if one is None else None for key, one in zip(keys, known, strict=True)],
            ),
        }

    def _pixels(self, frames: Iterable) -> torch.Tensor | None:
        """(T, 3, H, W)"""
        pixels = [self.image_processor(frame) for frame in frames]
        return torch.stack(pixels) if pixels else None

    def check_text(self, record: Record) -> None:
        """Raise BTCChatError where a record's text does not fit its frames; none of them is read."""
        frames = len(record.sources) if isinstance(record.sources, list) else 1
        if record.modality == "video":
            if frames == 1 and written(record) > 1:  # one for each frame, and only the file knows how many it has
                return
            frames = min(frames, self.num_video_frames) if frames > 1 else self.num_video_frames
        prompt.render(self.turns(record, frames), self.template)

    def turns(self, record: Record, frames: int) -> list[prompt.Turn]:
        """The chat of a record that has so many frames."""
        return prompt.turns_from_record(
            prompt.reword(record.conversations, record.modality, dates=record.dates, **self.words),
            segments=self.num_segments(record.modality, frames),
            modality=record.modality,
            frames=frames,
            dates=record.dates,
            task=record.task,
            clue=record.clue,
            template=self.template,
        )

    def estimated_length(self, modality: str, frames: int, characters: int) -> int:
        """About how many tokens a sample has in a batch: with its image tokens, and padded as in training.

        frames -1: the video decides.
        """
        if modality == "video":
            frames = min(frames, self.num_video_frames) if frames > 0 else self.num_video_frames
        image_tokens = self.num_segments(modality, frames) * self.tokens_per_segment[modality]
        text_tokens = int(characters / self.characters_per_token) + self._around
        tokens = min(image_tokens + text_tokens + (self.clue_tokens if image_tokens else 0), self.max_length)
        return -(-tokens // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def calibrate(self, records: Iterable[Record]) -> None:
        """Take ``characters_per_token`` from what some records say: other languages, other tokenizers."""
        texts = [turn["value"] for record in records for turn in record.conversations]
        tokens = sum(len(self.tokenizer(text, add_special_tokens=False).input_ids) for text in texts)
        if tokens:
            self.characters_per_token = sum(map(len, texts)) / tokens

    @cached_property
    def _around(self) -> int:
        """Tokens a template puts around a question and its answer."""
        turns = [prompt.user_turn("?", segments=1), prompt.assistant_turn("!")]
        return len(prompt.encode(turns, self.tokenizer, self.template, train=True).input_ids)
