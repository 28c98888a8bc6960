"""Sample processing for `data check` and `data show`, in place of a model."""

import pytest

from btcchat.checkpoint.config import BTCChatConfig
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.processor import Processor
from btcchat.prompt.token_layout import TokenLayout


@pytest.fixture(scope="session")
def maker(tmp_path_factory) -> Processor:
    """A pair is one segment of 9 tokens, images are 24 x 24, and samples have at most 300 tokens."""
    from btcchat.synthetic.start import train_tokenizer
    from tests.tiny import CORPUS

    return Processor(
        BTCChatConfig(llm={"tokenizer_model_max_length": 300}, num_video_frames=2),
        tokenizer=train_tokenizer(CORPUS, 400, tmp_path_factory.mktemp("tokenizer")),
        image_processor=ImageProcessor((24, 24), [0.5] * 3, [0.5] * 3, aspect_ratio="resize"),
        layout=TokenLayout(image_tokens=9, change_tokens=9, change_segments=1),
    )
