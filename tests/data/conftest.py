"""What `data check` and `data show` read samples with, in the place of a model."""

import pytest

from btcchat.media.frames import MODALITIES
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.processor import SampleMaker


@pytest.fixture(scope="session")
def maker(tmp_path_factory) -> SampleMaker:
    """A pair is one segment of 9 tokens, images are 24 x 24; nothing is longer than 300 tokens."""
    from btcchat.synthetic.start import train_tokenizer
    from tests.tiny import CORPUS

    return SampleMaker(
        tokenizer=train_tokenizer(CORPUS, 400, tmp_path_factory.mktemp("tokenizer")),
        image_processor=ImageProcessor((24, 24), [0.5] * 3, [0.5] * 3, aspect_ratio="resize"),
        num_segments=lambda modality, frames: 1 if modality == "pair" else frames,
        tokens_per_segment=dict.fromkeys(MODALITIES, 9),
        template="v1",
        num_video_frames=2,
        max_length=300,
    )
