"""Evenly spaced frames of a video file, through PyAV, with no more than those frames in memory."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media.frames import evenly
from btcchat.media.source import Embedded

if TYPE_CHECKING:
    from av.container import InputContainer

log = logging.getLogger(__name__)

# Named, because FFmpeg otherwise reads text files as moving ASCII art, and playlists that lead to other files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,h264,hevc,asf,flv,ogg,gif,mxf,ivf"


def sample_video(path: Path | Embedded, wanted: int, max_pixels: int) -> list[Image.Image]:
    """At most ``wanted`` RGB frames of an existing file, evenly from its first to its last.

    The file is read twice: once for the number of frames (its packets, nothing is decoded; what a header says can be
    wrong or missing), once to decode. Raises BTCChatError for what cannot be decoded or has no frame.
    """
    try:
        import av
    except ImportError as error:
        raise BTCChatError("reading video needs PyAV: pip install av") from error
    try:
        total = _count_packets(path, max_pixels)
        frames, decoded = _decode(path, evenly(total, wanted))
        if 0 < decoded < total and len(frames) < min(wanted, total):
            log.info("%s: only %d of %d frames can be decoded", path, decoded, total)
            frames, _ = _decode(path, evenly(decoded, wanted))
    except av.FFmpegError as error:
        raise BTCChatError(f"video '{path}' cannot be decoded: {error.strerror or error}") from error
    if not frames:
        raise BTCChatError(f"video '{path}' has no frame that can be decoded; convert it to MP4 (H.264)")
    return frames


def _open(path: Path | Embedded) -> "InputContainer":
    import av

    file = path.open() if isinstance(path, Embedded) else str(path)
    return av.open(file, mode="r", options={"format_whitelist": CONTAINERS})


def _count_packets(path: Path | Embedded, max_pixels: int) -> int:
    """Packets of the first video stream, one a frame."""
    with _open(path) as container:
        if not container.streams.video:
            raise BTCChatError(f"video '{path}' has no picture, only {_kinds(container)}")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise BTCChatError(f"video '{path}' has a codec that is not known; convert it to MP4 (H.264)")
        if stream.width * stream.height > max_pixels:
            size = f"{stream.width} x {stream.height}"
            raise BTCChatError(f"video '{path}' has frames of {size} pixels, the limit is {max_pixels:,} pixels")
        return sum(1 for packet in container.demux(stream) if packet.size)


def _decode(path: Path | Embedded, indices: list[int]) -> tuple[list[Image.Image], int]:
    """-> the frames at these ascending indices as far as they exist, and how many frames were decoded for them."""
    import av

    frames: list[Image.Image] = []
    decoded = 0
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if decoded == indices[len(frames)]:
                    frames.append(frame.to_image())
                decoded += 1
                if len(frames) == len(indices):
                    break
        except av.FFmpegError as error:
            if not decoded:
                raise
            log.info("%s: damaged after frame %d: %s", path, decoded, error)
    return frames, decoded


def _kinds(container: "InputContainer") -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
