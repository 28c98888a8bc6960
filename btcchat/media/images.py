"""Image files, folders of frames and video -> 8-bit RGB images, or one clear line.

Grey and palette become RGB, EXIF rotation is applied, transparency becomes black (the colour of no data), more than
8 bits a band are stretched (radiometry.py). Of a file with several pages or animation frames the first one counts.
"""

import io
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageOps

from btcchat.errors import BTCChatError, choose
from btcchat.media import radiometry, tiff

log = logging.getLogger(__name__)

MODALITIES = {"text": (0, 0), "image": (1, 1), "pair": (2, 2), "series": (2, 16), "video": (1, None)}  # frames
MAX_PIXELS = 128 * 2**20  # a full Sentinel-2 tile (10980 x 10980 = 121 million) fits, a decompression bomb does not
# Beside TIFF. Named, so that Pillow tries no others: PostScript, for one, would be run.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "JPEG2000", "PPM")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")
# What Pillow's decoders raise on damaged files (UnidentifiedImageError is an OSError).
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, struct.error,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Embedded:
    """A file that lies inside another: in a column of a Parquet file, or in a tar shard."""

    name: str  # for messages
    data: bytes

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.data)

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    def __str__(self) -> str:
        return self.name


def load_image(source: str | Path | Embedded | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image file or PIL image -> upright 8-bit RGB. Raises BTCChatError for what is unreadable or over the limit."""
    if isinstance(source, Image.Image):
        return _decoded(source, "in memory", max_pixels)
    path = existing_file(source, "image")
    with _opened(path) as image:
        return _decoded(image, str(path), max_pixels)


def load_frames(modality: str, source, num_video_frames: int = 8) -> list[Image.Image]:
    """What a question is about -> its RGB frames in order of time.

    image: a path, Embedded or PIL image. pair: two of them, before first. series: 2 to 16, or a folder. video: a
    file, a folder of frames or a list of them, of which at most ``num_video_frames`` are taken, evenly from the first
    to the last.
    """
    low, high = choose("modality", modality, MODALITIES)
    if modality == "text":
        return []
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if modality == "video" and _is_one_file(source):
        from btcchat.media.video import sample_video

        return sample_video(existing_file(source, "video"), num_video_frames, MAX_PIXELS)
    sources = _listed(modality, source)
    if len(sources) < low or (high is not None and len(sources) > high):
        raise BTCChatError(_count_fault(modality, sources))
    if modality == "video":
        sources = [sources[i] for i in evenly(len(sources), num_video_frames)]
    frames = [load_image(item) for item in sources]
    sizes = [f"{frame.width} x {frame.height}" for frame in frames]
    from_files = not any(isinstance(item, Image.Image) for item in sources)  # what is in memory was told of before
    if modality in ("pair", "series") and from_files and len(set(sizes)) > 1:
        log.info("the dates differ in size (%s); each is resized to what the model reads", ", ".join(sizes))
    return frames


def evenly(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices below ``total``, evenly from the first to the last; a single one is the middle."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [(total - 1) // 2]
    return [round(i * (total - 1) / (wanted - 1)) for i in range(wanted)]


def existing_file(source: str | Path | Embedded, kind: str) -> Path | Embedded:
    """The path of a regular file with something in it, or the reason why not."""
    if isinstance(source, Embedded):
        if not source.data:
            raise BTCChatError(f"{kind} '{source}' is empty (0 bytes)")
        return source
    path = Path(source)
    if "://" in str(source):
        raise BTCChatError(f"{kind} '{source}' is an address; download it and give the file")
    if path.is_dir():
        hint = "; a folder of frames is a series or a video" if kind == "image" else ""
        raise BTCChatError(f"{kind} '{path}' is a folder, a file is expected{hint}")
    if not path.exists():
        where = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
        raise BTCChatError(f"{kind} '{path}' not found{where}")
    if not path.is_file():
        raise BTCChatError(f"{kind} '{path}' is not a regular file; save it to one")
    if path.stat().st_size == 0:
        raise BTCChatError(f"{kind} '{path}' is empty (0 bytes)")
    return path


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder in natural order (frame2 before frame10); other and hidden files are left out."""
    files = [p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[int | str]:
    """Sort key under which runs of digits count as numbers."""
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _is_one_file(source) -> bool:
    if isinstance(source, Embedded):
        return source.suffix.lower() not in IMAGE_SUFFIXES
    return isinstance(source, str | Path) and not os.path.isdir(source)


def _listed(modality: str, source) -> list:
    """A single path or image, a folder, or a sequence -> a list."""
    if isinstance(source, str | Path) and modality in ("series", "video") and os.path.isdir(source):
        files = list_images(source)
        if not files:
            raise BTCChatError(f"folder '{source}' has no frames; expected {', '.join(IMAGE_SUFFIXES)} files")
        return files
    if isinstance(source, Sequence) and not isinstance(source, str):
        return list(source)
    return [] if source is None else [source]


def _count_fault(modality: str, sources: list) -> str:
    expected = {
        "image": "1; two are a pair, more a series",
        "pair": "2 (before, after); one alone is an image, more are a series",
        "series": "2 to 16 dates",
        "video": "at least 1 frame",
    }
    names = ", ".join("PIL image" if isinstance(item, Image.Image) else str(item) for item in sources[:4])
    got = f"{len(sources)} image{'s' if len(sources) != 1 else ''}"
    more = ", ..." if len(sources) > 4 else ""
    return (
        f"got {got}{f' ({names}{more})' if sources else ''}; a{'n' * (modality == 'image')} {modality} needs "
        + (expected[modality])
    )


@contextmanager
def _opened(path: Path | Embedded):
    """Image.open with a clear line. Pillow's warnings (its own size limit, odd metadata) are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = path.open() if isinstance(path, Embedded) else path
            image = tiff.open_tiff(path, file) if _is_tiff(path) else Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise BTCChatError(f"image '{path}' is too large: {_line(error)}") from error
        except PermissionError as error:
            raise BTCChatError(f"image '{path}' may not be read: permission denied") from error
        except BTCChatError:
            raise
        except _FAULTS as error:
            raise BTCChatError(_unreadable(path)) from error
        with image:
            yield image


def _unreadable(path: Path | Embedded) -> str:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return f"image '{path}' is a video file; give it as a video"
    return f"'{path}' is not an image that can be read (PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, PPM)"


def _is_tiff(path: Path | Embedded) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _decoded(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > max_pixels:
        raise BTCChatError(
            f"image '{name}' has {size} = {image.width * image.height:,} pixels, the limit is {max_pixels:,}; "
            "crop it or make it smaller"
        )
    try:
        if getattr(image, "is_animated", False) and image.format != "TIFF":
            log.info("%s has %d frames; the first one is read", name, image.n_frames)
        if image.format == "TIFF":
            tiff.check(image, name)
        return _to_rgb(image, name)
    except BTCChatError:
        raise
    except _FAULTS as error:
        raise BTCChatError(f"image '{name}' ({size}) is truncated or damaged: {_line(error)}") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if radiometry.is_deep(image):
        rgb = radiometry.deep_to_rgb(image, name)
        # Read after loading: Pillow turns a TIFF itself, and forgets the tag.
        rgb.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(rgb)
    image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # premultiplied grey; Pillow knows only this way out of it
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
