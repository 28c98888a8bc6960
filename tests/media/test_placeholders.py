"""Placeholders that other projects write for an image."""

import pytest

from btcchat.media.placeholders import foreign_placeholder

FOREIGN = """
<video> <Image> <ImageHere> <VideoHere> <img> </img> <Img> <image_1> <image1> <im_start> <im_end> <im_patch> <vid_start>
<image_placeholder> <start_of_image> <image_soft_token> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>
<|image|> <|image_1|> <image-1> [IMG] [IMG_END]
"""


@pytest.mark.parametrize("word", FOREIGN.split())
def test_a_placeholder_of_another_project_is_found(word):
    assert foreign_placeholder(f"This is a sequence: <image> {word}\nWhat changed?") == word


@pytest.mark.parametrize(
    "text",
    [
        "<image>\n<image>\nWhat changed?",
        "[refer] the ship at {<12><40><30><60>|<90>} <p>ship</p>",  # GeoChat's boxes
        "the area is < 5 image widths, > 2 video frames",
        "image video img [img 3]",
        "<vehicle> <imagery> <|endoftext|> <s>",
    ],
)
def test_other_words_in_brackets_are_not_placeholders(text):
    assert foreign_placeholder(text) is None
