"""The RGB frames of a sample in chronological order, and how many its modality needs."""

import logging
import os
from collections.abc import Sequence
from typing import TypeAlias, TypeGuard

from PIL import Image

from btcchat.errors import BTCChatError, choose, wrong_type
from btcchat.media.arrays import is_array
from btcchat.media.images import MAX_PIXELS, MAX_SIDE, ImageLike, check_type, load_images
from btcchat.media.reading import DEFAULT, Reading
from btcchat.media.source import IMAGE_SUFFIXES, Embedded, FileLike, existing_file, list_images

log = logging.getLogger(__name__)

MODALITIES = {"text": (0, 0), "image": (1, 1), "pair": (2, 2), "series": (2, 16), "video": (1, None)}  # frames
NEEDS = {
    "text": "none",
    "image": "1",
    "pair": "2 (before, after)",
    "series": "2 to 16 dates",
    "video": "at least 1 frame",
}
PLACEHOLDER = "<image>"  # marks the position of an image in the text of a record

# The source of a sample: one image or file, or a list of them in chronological order.
Sources: TypeAlias = ImageLike | Sequence[ImageLike]


def check_count(modality: str, count: int, sources: Sequence[object] = ()) -> None:
    """Raise BTCChatError, naming the ``sources``, if a sample of ``modality`` cannot have ``count`` frames."""
    fewest, most = choose("modality", modality, MODALITIES)
    if fewest <= count and (most is None or count <= most):
        return
    names = ", ".join(map(_name, sources[:4]))
    named = f" ({names}{', ...' if len(sources) > 4 else ''})" if names else ""
    article = "an" if modality == "image" else "a"
    raise BTCChatError(f"{count} image{'s' * (count != 1)}{named}, {article} {modality} needs {NEEDS[modality]}")


def load_frames(
    modality: str, source: Sources | None, num_video_frames: int = 8, *, reading: Reading = DEFAULT
) -> list[Image.Image]:
    """The RGB frames of a sample in chronological order.

    image: one that `load_image` takes. pair: two of them, before first. series: 2 to 16, or a folder. video: a file, a
    folder of frames or a list of them, of which at most ``num_video_frames`` are taken, evenly from the first to the
    last.
    reading: how rasters are read; one of at least twice MAX_SIDE pixels a side is read smaller. Raises TypeError that
    names the modality if one of them is not an image.
    """
    choose("modality", modality, MODALITIES)
    if isinstance(num_video_frames, bool) or not isinstance(num_video_frames, int):
        raise wrong_type("num_video_frames", num_video_frames, "a whole number")
    if num_video_frames < 1:
        raise BTCChatError(f"num_video_frames is {num_video_frames}, expected at least 1")
    if modality == "text":
        return []
    several = isinstance(source, list | tuple)
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if modality == "video" and _is_one_file(source):
        from btcchat.media.video import sample_video

        return sample_video(existing_file(source, "video"), num_video_frames, MAX_PIXELS)
    sources = _listed(modality, source)
    for number, item in enumerate(sources):
        check_type(item, f"{modality}[{number}]" if several else modality)
    check_count(modality, len(sources), sources)
    if modality == "video":
        sources = [sources[i] for i in evenly(len(sources), num_video_frames)]
    frames = load_images(sources, reading=reading, max_side=MAX_SIDE)
    sizes = [f"{frame.width} x {frame.height}" for frame in frames]
    from_files = not any(isinstance(item, Image.Image) or is_array(item) for item in sources)  # reported before
    if modality in ("pair", "series") and from_files and len(set(sizes)) > 1:
        log.info("the images differ in size (%s); each is resized to the input size of the model", ", ".join(sizes))
    return frames


def evenly(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices below ``total``, evenly spaced from first to last; a single one is the middle."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [(total - 1) // 2]
    return [round(i * (total - 1) / (wanted - 1)) for i in range(wanted)]


def _name(item: object) -> str:
    if isinstance(item, Image.Image):
        return "PIL image"
    return f"array of shape {tuple(item.shape)}" if is_array(item) else str(item)


def _is_one_file(source: Sources | None) -> TypeGuard[FileLike]:
    if isinstance(source, Embedded):
        return source.suffix.lower() not in IMAGE_SUFFIXES
    return isinstance(source, str | os.PathLike) and not os.path.isdir(source)


def _listed(modality: str, source: Sources | None) -> list[ImageLike]:
    """Turn a single path or image, a folder, or a sequence into a list."""
    if isinstance(source, str | os.PathLike) and modality in ("series", "video") and os.path.isdir(source):
        files: list[ImageLike] = [*list_images(source)]
        if not files:
            raise BTCChatError(f"folder '{source}' has no frames; expected {', '.join(IMAGE_SUFFIXES)} files")
        return files
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return list(source)
    return [] if source is None else [source]
