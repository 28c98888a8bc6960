"""Turn the images that a client sends into frames, within the server's limits."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media.frames import check_count, evenly
from btcchat.media.images import MAX_SIDE, load_images
from btcchat.media.reading import Reading
from btcchat.media.source import Embedded
from btcchat.media.video import sample_video
from btcchat.serve.http.settings import Settings

MAX_DECODED = 2**35  # pixels of all frames of a video: nine minutes of full HD, decoded in about a minute
Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class RequestImages:
    """The images of a request. files: in order of time. is_video: the only file is a video."""

    modality: str
    files: Sequence[Embedded]
    is_video: bool = False


def decode_url(url: str, fetch: Fetch) -> bytes:
    """The bytes of a data: URL; any other URL goes to ``fetch``. Raises BTCChatError."""
    if url[:5].lower() != "data:":
        return fetch(url)
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise BTCChatError(f"a data: URL has the form data:TYPE;base64,DATA; this one begins with {head[:40]!r}")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise BTCChatError(f"the data: URL is not valid base64: {error}") from None


def check_number(count: int, settings: Settings) -> None:
    """Raise BTCChatError for more images than a request may have."""
    if count > settings.max_images:
        raise BTCChatError(f"the request has {count} images, this server takes at most {settings.max_images}")


def read_frames(
    images: RequestImages, *, num_video_frames: int, reading: Reading, settings: Settings
) -> list[Image.Image]:
    """RGB frames in order of time. Raises BTCChatError for too many images, or one that is too large or unreadable."""
    check_number(len(images.files), settings)
    check_count(images.modality, len(images.files))
    if images.is_video:
        [file] = images.files
        if not file.data:
            raise BTCChatError("the video is empty (0 bytes)")
        return sample_video(file, num_video_frames, settings.max_pixels, MAX_DECODED)
    files = list(images.files)
    if images.modality == "video":
        files = [files[number] for number in evenly(len(files), num_video_frames)]
    return load_images(files, reading=reading, max_side=MAX_SIDE, max_pixels=settings.max_pixels)
