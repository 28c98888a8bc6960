"""Open a file with GDAL so that it reads only this file, within a fixed memory limit.

GDAL identifies a file by its content, and some formats refer to other files, to addresses and to code (VRT). So only
the driver for the first bytes is allowed, and references to other files are refused or ignored.
"""

import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from btcchat.errors import BTCChatError
from btcchat.limits.regular import check_utf8
from btcchat.media.notes import once
from btcchat.media.raster.plain_pnm import as_binary
from btcchat.media.source import Embedded

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

log = logging.getLogger(__name__)
logging.getLogger("rasterio").addHandler(logging.NullHandler())  # otherwise Python prints GDAL's warnings on stderr

TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, in both byte orders
JP2_HEADS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")  # the boxed file and the bare code stream
HEAD = 1024  # bytes that identify a file
MAX_BANDS = 4096
MAX_BLOCK = 2**29  # bytes that GDAL decodes at a time: a strip or a tile
MAX_DIRECTORIES = 4096  # pages, overviews and masks of a TIFF; GDAL keeps each of them in memory
NO_NETWORK = {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none", "GDAL_VRT_ENABLE_PYTHON": "NO"}
# GDAL has no time limits of its own. A server that stops answering is an error after 30 s below 100 bytes per second.
NETWORK = {
    "GDAL_HTTP_CONNECTTIMEOUT": 30,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 100,
    "GDAL_HTTP_MAX_RETRY": 2,
}
OPTIONS = {"GDAL_CACHEMAX": 2**26, "GDAL_MAX_BAND_COUNT": MAX_BANDS}  # bytes of decoded blocks; bands
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}  # do not look for sidecar files
WITH_SIDECARS = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_PAM_ENABLED": "YES"}


def raster_driver(path: Path | Embedded) -> str | None:
    """GDAL's driver for a file, None if Pillow reads it."""
    with path.open("rb") as file:
        return driver_of(file.read(HEAD))


def driver_of(head: bytes) -> str | None:
    """GDAL's driver for a file that begins with these bytes (HEAD, or all); None if Pillow reads it correctly."""
    if head[:4] in TIFF_HEADS:
        return "GTiff"
    if head.startswith(JP2_HEADS):
        return "JP2OpenJPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[24:25] == b"\x10":  # bits a band
        return "PNG"
    if head[:2] in (b"P2", b"P3", b"P5", b"P6"):
        words = re.sub(rb"#[^\n]*", b"", head).split()
        if len(words) < 5 and len(head) == HEAD:  # comments take so much that the number of bits is not in it
            return "PNM"
        if len(words) > 3 and words[3].isdigit() and 255 < int(words[3]) < 65536:
            return "PNM"
    return None


class Opening:
    """How one source is opened. virtual: a path of GDAL's own file systems (/vsi...)."""

    def __init__(self, source: Path | Embedded, driver: str, *, virtual: bool = False) -> None:
        source = as_binary(source) if driver == "PNM" else source
        self.source, self.driver, self._virtual = source, driver, virtual
        self._stack = ExitStack()
        sidecars = not isinstance(source, Embedded) and (virtual or _sidecars_are_tiff(source))
        network = NETWORK if virtual else NO_NETWORK
        self.options: dict[str, Any] = {**OPTIONS, **network, **(WITH_SIDECARS if sidecars else ALONE)}
        self._memory: Any = None
        if isinstance(source, Embedded):
            from rasterio.io import MemoryFile

            self._memory = self._stack.enter_context(MemoryFile(source.data, filename="image"))
        if driver == "GTiff" and not virtual:
            with source.open("rb") as file:
                _check_directories(file, str(source))

    def dataset(self, **options: int) -> "DatasetReader":
        """The file as GDAL sees it; options: of its driver, such as ``overview_level``."""
        import rasterio

        with self.reading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # rasterio's, of images without a place on Earth
            if self._memory is not None:
                dataset = self._memory.open(driver=self.driver, **options)
            else:  # an absolute path has no scheme, whatever its name looks like
                path = self.source.absolute()  # type: ignore[union-attr]
                check_utf8(path, f"image '{self.source}'")
                dataset = rasterio.open(str(path), driver=self.driver, sharing=False, **options)
        self._stack.callback(dataset.close)
        _check(dataset, str(self.source))
        return dataset

    @contextmanager
    def reading(self) -> Iterator[None]:
        """GDAL's options while it works, and its faults as one line."""
        import rasterio
        from rasterio._err import CPLE_BaseError

        try:
            with rasterio.Env(**self.options):
                yield
        except (rasterio.errors.RasterioError, CPLE_BaseError, OSError, ValueError, SystemError) as error:
            if isinstance(error, BTCChatError | PermissionError):
                raise
            fault = "cannot be read" if self._virtual else "is truncated or damaged"
            raise BTCChatError(f"image '{self.source}' {fault}: {_line(error)}") from error

    def close(self) -> None:
        self._stack.close()


def _check(dataset: "DatasetReader", name: str) -> None:
    """Raise BTCChatError if it would take too much memory or refers to other files."""
    if dataset.count > MAX_BANDS:
        raise BTCChatError(f"image '{name}' has {dataset.count:,} bands, at most {MAX_BANDS:,} are read")
    other = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
    if other is not None:
        raise BTCChatError(
            f"image '{name}' names another file for its overviews ({other[:60]!r}), which is not opened; "
            "remove OVERVIEW_FILE from its metadata"
        )
    height, width = dataset.block_shapes[0]
    bands = dataset.count if structure(dataset).get("INTERLEAVE") == "PIXEL" else 1
    size = height * width * bands * _bytes(dataset.dtypes[0])
    if size > MAX_BLOCK:
        raise BTCChatError(
            f"image '{name}' has blocks of {width} x {height} pixels = {size:,} bytes, the limit is {MAX_BLOCK:,}; "
            "write it again in tiles: gdal_translate -co TILED=YES"
        )


def structure(dataset: "DatasetReader") -> dict[str, str]:
    """GDAL's facts about a TIFF. For a damaged JPEG 2000 file, GDAL might search for them endlessly."""
    facts: dict[str, str] = dataset.tags(ns="IMAGE_STRUCTURE") if dataset.driver == "GTiff" else {}
    return facts


def _bytes(dtype: str) -> int:
    digits = re.findall(r"\d+", dtype)
    return int(digits[0]) // 8 if digits else 8


def _sidecars_are_tiff(path: Path) -> bool:
    """Whether GDAL may look for overviews and masks next to a file: it would open them in any format."""
    names = [f"{base}{suffix}" for base in (path, path.with_suffix("")) for suffix in (".ovr", ".OVR", ".msk", ".MSK")]
    for name in names:
        try:
            with open(name, "rb") as file:
                head = file.read(4)
        except OSError:
            continue
        if head not in TIFF_HEADS:
            once(log, f"{Path(name).name} is not a TIFF; files next to the image are not read", str(path))
            return False
    return True


def _check_directories(file: IO[bytes], name: str) -> None:
    """Walk a TIFF's chain of image directories, which GDAL would keep in memory one by one."""
    order = "<" if (head := file.read(16))[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    size = struct.calcsize(count)
    try:
        (place,) = struct.unpack_from(order + offset, head, 8 if big else 4)
        for _ in range(MAX_DIRECTORIES):
            if not place:
                return
            file.seek(place)
            (entries,) = struct.unpack(order + count, file.read(size))
            file.seek(place + size + entries * entry)
            (place,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
    except (struct.error, OSError, OverflowError, ValueError):
        return  # it ends in the chain: GDAL says what is wrong
    raise BTCChatError(f"image '{name}' has more than {MAX_DIRECTORIES:,} pages or overviews, or they form a loop")


def _line(error: BaseException) -> str:
    text = " ".join(str(error.__cause__ or error).split())
    text = re.sub(r"(image: )?/vsimem/\S*?/image: ?", "", text)  # the name of a file in memory
    return (text or type(error).__name__)[:160]
