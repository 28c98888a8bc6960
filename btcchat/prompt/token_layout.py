"""How many placeholders a sample has in its prompt, and how many tokens each of them becomes."""

from dataclasses import dataclass

from btcchat.media.frames import check_count


@dataclass(frozen=True)
class TokenLayout:
    """Counts that follow from a model's parts; see model.token_layout.

    A pair becomes its change segments, any other sample its frames. In the modalities of ``change_between``, the change
    segments of two consecutive frames come between them.
    """

    image_tokens: int  # per frame
    change_tokens: int  # per change segment
    change_segments: int  # per pair
    change_between: tuple[str, ...] = ()  # modalities with change segments between frames

    def lengths(self, modality: str, num_frames: int) -> list[int]:
        """Tokens of each placeholder, in prompt order. Raises BTCChatError for a wrong number of frames."""
        check_count(modality, num_frames)
        changes = [self.change_tokens] * self.change_segments
        if modality == "pair":
            return changes
        between = changes if modality in self.change_between else []
        return [tokens for frame in range(num_frames) for tokens in [*(between if frame else []), self.image_tokens]]

    def num_segments(self, modality: str, num_frames: int) -> int:
        """Number of placeholders of a sample. Raises BTCChatError for a wrong number of frames."""
        return len(self.lengths(modality, num_frames))
