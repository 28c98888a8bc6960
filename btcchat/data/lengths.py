"""Estimate the length of a sample before its row is read: batches are made of samples of similar length."""

from collections.abc import Iterable

from btcchat import prompt
from btcchat.data.records import Record
from btcchat.merge import LENGTH_MULTIPLE
from btcchat.processor import Processor


class LengthEstimate:
    """``estimate(modality, frames, characters)``: about how many tokens a sample takes in a training batch.

    Image tokens and padding count. frames -1: depends on the video.
    clue_tokens: about how many tokens a clue adds to a prompt.
    """

    def __init__(self, processor: Processor, *, characters_per_token: float = 4.0, clue_tokens: int = 0):
        self.processor, self.characters_per_token, self.clue_tokens = processor, characters_per_token, clue_tokens
        turns = prompt.turns_from_record(
            [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}], segments=1, modality="image"
        )
        self._around = len(prompt.encode(turns, processor.tokenizer, processor.template, train=True).input_ids)
        self._image_tokens: dict[tuple[str, int], int] = {}

    def __call__(self, modality: str, frames: int, characters: int) -> int:
        frames = self.processor.most_frames(frames) if modality == "video" else frames
        if (modality, frames) not in self._image_tokens:  # cached: there may be millions of rows
            self._image_tokens[modality, frames] = sum(self.processor.layout.lengths(modality, frames))
        image_tokens = self._image_tokens[modality, frames]
        text_tokens = int(characters / self.characters_per_token) + self._around
        tokens = image_tokens + text_tokens + (self.clue_tokens if image_tokens else 0)
        return -(-min(tokens, self.processor.max_length) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE

    def calibrate(self, records: Iterable[Record]) -> None:
        """Measure ``characters_per_token`` on some records, since it depends on the language and the tokenizer."""
        texts = [turn["value"] for record in records for turn in record.conversations]
        tokens = sum(len(self.processor.tokenizer(text, add_special_tokens=False).input_ids) for text in texts)
        if tokens:
            self.characters_per_token = sum(map(len, texts)) / tokens
