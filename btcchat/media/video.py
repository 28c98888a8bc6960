"""Read frames of a video file with PyAV, evenly spaced in time, with only those frames in memory."""

import logging
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.Image import Transpose

from btcchat.errors import BTCChatError
from btcchat.media.frames import evenly
from btcchat.media.source import Embedded

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

# Listed, since FFmpeg would also read text files as ASCII art, and playlists that refer to other files.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegts,mpegvideo,h264,hevc,asf,flv,ogg,gif,mxf,ivf"
MAX_DECODED = 2**40  # pixels of all frames together: five hours of full HD at 30 frames a second
STILLS = ("attached_pic", "timed_thumbnails")  # dispositions of streams that are pictures accompanying the video
# The effect of a display matrix on a picture, by the signs of its a, b, c, d: x' = a x + c y, y' = b x + d y.
TURNS = {
    (0, 1, -1, 0): Transpose.ROTATE_270,  # PIL turns counterclockwise
    (-1, 0, 0, -1): Transpose.ROTATE_180,
    (0, -1, 1, 0): Transpose.ROTATE_90,
    (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Transpose.TRANSPOSE,
    (0, -1, -1, 0): Transpose.TRANSVERSE,
}


@dataclass(frozen=True)
class Track:
    """The video stream. times: of its frames, in its time base; frame numbers if it has no times."""

    index: int
    size: tuple[int, int]  # as stored: width, height
    times: Sequence[int]

    @property
    def is_numbered(self) -> bool:
        return isinstance(self.times, range)


def sample_video(
    path: Path | Embedded, wanted: int, max_pixels: int, max_decoded: int | None = None
) -> list[Image.Image]:
    """At most ``wanted`` upright RGB frames of an existing file, evenly in time from its first to its last.

    The file is read twice: once for the times of the frames (its packets, nothing is decoded; what a header says can be
    wrong or missing), once to decode. max_pixels: of all frames that are returned; max_decoded: of all that the file
    has (default MAX_DECODED). Raises BTCChatError for what cannot be decoded, has no frame, or is too large.
    """
    try:
        import av
    except ImportError as error:
        raise BTCChatError("reading video needs PyAV: pip install av") from error
    try:
        track = _track(path)
        _check_size(path, track, wanted, max_pixels, MAX_DECODED if max_decoded is None else max_decoded)
        frames, seen = _decode(path, track, _evenly_in_time(track.times, wanted), max_pixels)
        total = len(track.times)
        if seen and len(frames) < min(wanted, total):
            log.info("%s: only %d of %d frames can be decoded", path, len(seen), total)
            frames, _ = _decode(path, track, _evenly_in_time(sorted(seen), wanted), max_pixels)
    except av.FFmpegError as error:
        reason = error.strerror or error
        raise BTCChatError(f"video '{path}' cannot be decoded: {reason}; convert it to MP4 (H.264)") from error
    if not frames:
        raise BTCChatError(f"video '{path}' has no frame that can be decoded; convert it to MP4 (H.264)")
    return frames


def _open(path: Path | Embedded) -> "InputContainer":
    import av

    file = path.open() if isinstance(path, Embedded) else str(path)
    return av.open(file, mode="r", options={"format_whitelist": CONTAINERS})


def _track(path: Path | Embedded) -> Track:
    """The best video stream: prefer one with several frames over a still, then the default one, then the largest."""
    with _open(path) as container:
        streams = [stream for stream in container.streams.video if not _is_still(stream)]
        if not streams:
            kinds = {"a cover" if stream.type == "video" else stream.type for stream in container.streams}
            raise BTCChatError(f"video '{path}' has no moving picture, only {' and '.join(sorted(kinds)) or 'nothing'}")
        known = [stream for stream in streams if stream.codec_context is not None]
        if not known:
            raise BTCChatError(f"video '{path}' has an unknown codec; convert it to MP4 (H.264)")
        stamps: dict[int, list[tuple[int | None, int | None]]] = {stream.index: [] for stream in known}
        for packet in container.demux(known):
            if packet.size:
                stamps[packet.stream.index].append((packet.pts, packet.dts))

        def rank(stream: "VideoStream") -> tuple[bool, bool, int]:
            is_default = bool(stream.disposition & type(stream.disposition).default)
            return len(stamps[stream.index]) > 1, is_default, stream.width * stream.height

        best = max(known, key=rank)
        if len(known) > 1:
            log.info("%s: stream %d of %d video streams is read", path, best.index, len(known))
        return Track(best.index, (best.width, best.height), _times(stamps[best.index]))


def _is_still(stream: "VideoStream") -> bool:
    return any(stream.disposition & getattr(type(stream.disposition), name) for name in STILLS)


def _times(stamps: Sequence[tuple[int | None, int | None]]) -> Sequence[int]:
    """The times at which frames are shown; frame numbers if some times are unknown or not increasing."""
    shown = {pts for pts, _ in stamps if pts is not None}
    decoded = [dts for _, dts in stamps if dts is not None]
    if len(shown) < len(stamps) or decoded != sorted(decoded):
        return range(len(stamps))
    return sorted(shown)


def _check_size(path: Path | Embedded, track: Track, wanted: int, max_pixels: int, max_decoded: int) -> None:
    (width, height), total = track.size, len(track.times)
    _check_kept(path, min(wanted, total), track.size, max_pixels)
    if total * width * height > max_decoded:
        frames = f"{total:,} frames of {width} x {height} pixels"
        raise BTCChatError(f"video '{path}' has {frames}, the limit is {max_decoded:,} pixels; cut it or scale it down")


def _check_kept(path: Path | Embedded, count: int, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if count * width * height > max_pixels:
        frames = f"{count} frames of {width} x {height} pixels"
        way_out = "scale it down, or take fewer frames (num_video_frames)"
        raise BTCChatError(f"video '{path}': {frames}, the limit is {max_pixels:,} pixels in total; {way_out}")


def _evenly_in_time(times: Sequence[int], wanted: int) -> list[int]:
    """The times of at most ``wanted`` frames: those nearest to times evenly from the first to the last.

    Where the rate is constant, that is where no frame is half a frame from its place, the frames of `evenly`, as
    published. A frame that stays long may be taken several times.
    """
    total = len(times)
    numbers = evenly(total, wanted)
    if total > wanted:
        first, span = times[0], times[-1] - times[0]
        gap = span / (total - 1)
        if any(2 * abs(time - first - number * gap) >= max(gap, 1) for number, time in enumerate(times)):
            shares = [i / (wanted - 1) for i in range(wanted)] if wanted > 1 else [0.5]
            numbers = [_nearest(times, first + span * share) for share in shares]
    return [times[number] for number in numbers]


def _nearest(times: Sequence[int], time: float) -> int:
    after = bisect_left(times, time)
    if after == len(times) or (after and time - times[after - 1] <= times[after] - time):
        after -= 1
    return after


def _decode(
    path: Path | Embedded, track: Track, wanted: Sequence[int], max_pixels: int
) -> tuple[list[Image.Image], list[int]]:
    """-> the frames at these ascending times as far as they exist, and the times of all that were decoded for them."""
    import av

    frames: list[Image.Image] = []
    seen: list[int] = []
    with _open(path) as container:
        stream = container.streams[track.index]
        stream.thread_type = "AUTO"
        # A stream may change its size on the way. FFmpeg counts 128 pixels more a side.
        stream.codec_context.options = {"max_pixels": str(2 * max_pixels + 2**16)}
        try:
            for frame in container.decode(stream):
                seen.append(len(seen) if track.is_numbered or frame.pts is None else frame.pts)
                if seen[-1] >= wanted[len(frames)]:
                    _check_kept(path, len(wanted), (frame.width, frame.height), max_pixels)
                    times = sum(time <= seen[-1] for time in wanted[len(frames) :])
                    frames += [_upright(frame)] * times
                if len(frames) == len(wanted):
                    break
        except av.FFmpegError as error:
            if not seen:
                raise
            log.info("%s: damaged after frame %d: %s", path, len(seen), error)
    return frames, seen


def _upright(frame: "VideoFrame") -> Image.Image:
    """The frame as a player shows it, rotated and mirrored by its display matrix."""
    image: Image.Image = frame.to_image()
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(matrix))
    scale = max(map(abs, (a, b, c, d))) or 1
    signs = tuple(round(value / scale) for value in (a, b, c, d))
    turn = TURNS.get(signs)
    return image if turn is None else image.transpose(turn)
