"""Write change.tif, a change map as a Cloud Optimized GeoTIFF, and the mask of pixels above a threshold."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.geo.blend import BlendedMap
from btcchat.geo.folder import MAKE_ROOM, output

CACHE = {"GDAL_CACHEMAX": 2**26}  # bytes, whatever the size of the map
FLOAT: dict[str, Any] = {"dtype": "float32", "nodata": float("nan")}
BYTE: dict[str, Any] = {"dtype": "uint8", "nodata": 255}
LEVELS = 254  # the value for 1.0 in a map of bytes
SIDE = 512  # pixels per side of a block in the file


def write_map(path: Path, blended: BlendedMap, *, dtype: str, tags: dict[str, str]) -> None:
    """Write float32, or uint8 with a scale. Unknown pixels are NaN, or 255. Raises BTCChatError."""
    kind = FLOAT if dtype == "float32" else BYTE
    with output(path) as part, _gdal(path), _scratch(path) as plain:  # _gdal after output: its errors are OSErrors too
        import rasterio
        from rasterio.shutil import copy

        with rasterio.open(plain, "w", **_profile(blended, **kind, compress="deflate", zlevel=1)) as file:
            written = _write_blocks(file, blended, np.asarray if dtype == "float32" else as_bytes)
            file.set_band_description(1, "change")
            file.update_tags(**tags)
            if dtype == "uint8":
                file.scales = (1 / LEVELS,)
        copy(
            str(plain),
            str(part),
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR="YES",
            BLOCKSIZE=SIDE,
            OVERVIEW_RESAMPLING="AVERAGE",
            BIGTIFF="IF_SAFER",
            NUM_THREADS="ALL_CPUS",  # to compress; the file has the same bytes
        )
        _check_blocks(part, blended, written)


def as_bytes(change: np.ndarray) -> np.ndarray:
    """0 to 1 as 0 to 254, NaN as 255."""
    levels: np.ndarray = np.nan_to_num(np.clip(change, 0, 1) * LEVELS).round().astype(np.uint8)
    levels[np.isnan(change)] = BYTE["nodata"]
    return levels


@contextmanager
def above(path: Path, blended: BlendedMap, threshold: float) -> Iterator[Path]:
    """A temporary byte raster next to ``path``: 1 where the map is above the threshold, otherwise 0."""
    with _gdal(path), _scratch(path) as plain:
        import rasterio

        with rasterio.open(plain, "w", **_profile(blended, dtype="uint8", compress="deflate")) as file:
            written = _write_blocks(file, blended, lambda change: (np.nan_to_num(change) > threshold).astype(np.uint8))
        _check_blocks(plain, blended, written)
        yield plain


def _write_blocks(file: Any, blended: BlendedMap, pixels: Callable[[np.ndarray], np.ndarray]) -> int:
    """Write what ``pixels`` makes of the map, block by block; return a checksum of it."""
    written = 0
    for window in blended.blocks():
        block = np.ascontiguousarray(pixels(blended.read(window)))
        file.write(block, 1, window=_window(window))
        written = zlib.crc32(block.data, written)
    return written


def _check_blocks(path: Path, blended: BlendedMap, written: int) -> None:
    """Read a raster back, because GDAL closes a file without an error if the disk is full. Raises rasterio's error."""
    import rasterio

    found = 0
    try:
        with rasterio.open(path, driver="GTiff") as file:
            for window in blended.blocks():
                found = zlib.crc32(file.read(1, window=_window(window)).data, found)
        whole = found == written
    except rasterio.errors.RasterioError:
        whole = False
    if not whole:
        raise rasterio.errors.RasterioIOError("parts of it are missing")


def _profile(blended: BlendedMap, **more: Any) -> dict[str, Any]:
    grid = blended.tiles.grid
    return {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": 1,
        "crs": grid.wkt,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": SIDE,
        "blockysize": SIDE,
        "BIGTIFF": "IF_SAFER",
        **more,
    }


def _window(window: tuple[int, int, int, int]) -> Any:
    from rasterio.windows import Window

    return Window(*window)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of ``path``. If the process is killed, the next run removes it."""
    from uuid import uuid4

    scratch = path.with_name(f".{path.stem}.{uuid4().hex}.part")
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _gdal(path: Path) -> Iterator[None]:
    """Set GDAL's options for writing, and report its errors in one line."""
    import rasterio
    from rasterio._err import CPLE_BaseError

    try:
        with rasterio.Env(**CACHE):
            yield
    except (rasterio.errors.RasterioError, CPLE_BaseError, SystemError) as error:  # SystemError: GDAL gave no reason
        cause: BaseException = error
        while cause.__cause__ is not None:  # rasterio says "see previous exception"
            cause = cause.__cause__
        reason = " ".join(str(cause).partition(". To debug")[0].split())[:160]
        raise BTCChatError(f"{path} cannot be written: {reason}; {MAKE_ROOM}") from error
