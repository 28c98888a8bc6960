"""Find the raster files of a date: one file, files of one band each, a product folder or a STAC item.

A STAC item is read without pystac: only its date and the address of one asset are needed, and pystac would add two
dozen packages (one for each STAC extension), but no time limit for a download.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urljoin

from btcchat.errors import BTCChatError, wrong_type
from btcchat.files import json_kind, read_json
from btcchat.limits.regular import read_bounded
from btcchat.media.dates import day_in

PathLike: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = PathLike | Sequence[PathLike]  # a file or product folder, or files of one band each

# Red, green and blue of a product's files.
SENTINEL2 = ("B04", "B03", "B02")
# Since January 2022 (processing baseline 04.00) the values of Sentinel-2 are 1,000 higher; its metadata say so. The
# numbers of the bands there are 3, 2 and 1 for red, green and blue.
OFFSET = r'<(?:BOA|RADIO)_ADD_OFFSET\s+band_id="{}"\s*>\s*(-?\d{{1,6}})\s*<'
QUALITY = ("GRANULE/*/IMG_DATA/R20m/*_SCL_20m.jp2", "*_QA_PIXEL.[Tt][Ii][Ff]")
LANDSAT = {"new": ("B4", "B3", "B2"), "old": ("B3", "B2", "B1")}  # 8 and 9; 4, 5 and 7
OLD_LANDSAT = re.compile(r"L[TEM]0?[4-7]", re.IGNORECASE)
MOST_METADATA = 2**24  # bytes
WEB = ("http://", "https://")
BUCKETS = {"s3://": "/vsis3/", "gs://": "/vsigs/"}  # GDAL's paths for them


@dataclass(frozen=True)
class Files:
    """The files of a date, in the order of the bands that are shown. date: if the product states it.

    clouds: the quality band of a product, which says where clouds are. offsets: what the product adds to the values of
    each file, so that they mean the same whenever it was processed; empty for none.
    """

    paths: tuple[str, ...]
    name: str
    date: str | None = None
    remote: bool = False
    clouds: str | None = None
    offsets: tuple[float, ...] = ()

    @property
    def all_paths(self) -> tuple[str, ...]:
        """All that are read."""
        return self.paths if self.clouds is None else (*self.paths, self.clouds)


def find_files(source: Source, *, allow_remote: bool = False) -> Files:
    """The files of a path, a product folder, or a list of three files.

    Raises BTCChatError for a folder that is not a product, and for a remote file unless it is allowed.
    """
    if isinstance(source, str | os.PathLike):
        source = os.fspath(source)
        if os.path.isdir(source):
            folder, bands = Path(source), tuple(_product(Path(source)))
            date = day_in(Path(bands[0]).name)
            return Files(bands, folder.name, date, clouds=_quality_band(folder), offsets=_offsets(folder))
        return _named((source,), allow_remote)
    if not isinstance(source, Sequence) or not all(isinstance(part, str | os.PathLike) for part in source):
        raise wrong_type("a date", source, "a path, or a list of paths")
    paths = tuple(os.fspath(path) for path in source)
    if len(paths) not in (1, 3):
        raise BTCChatError(f"a date has {len(paths)} files; give one, or three of one band each (red, green, blue)")
    return find_files(paths[0], allow_remote=allow_remote) if len(paths) == 1 else _named(paths, allow_remote)


def stac_files(item: PathLike, asset: str, *, allow_remote: bool = False) -> Files:
    """An asset of a STAC item, which is a JSON file or its address. A relative href starts at the item.

    Raises BTCChatError for anything but an item, for an asset it lacks, and for a remote one unless it is allowed.
    """
    item = os.fspath(item)
    _check_allowed(item, allow_remote)
    fetched = item.startswith(WEB)
    content = _fetched(item) if fetched else read_json(item)
    if content.get("type") != "Feature":
        raise BTCChatError(f"{item} is not a STAC item: its type is {content.get('type')!r}, expected 'Feature'")
    assets = content.get("assets")
    if not isinstance(assets, dict) or not isinstance(assets.get(asset), dict):
        names = ", ".join(assets) if isinstance(assets, dict) else "none"
        raise BTCChatError(f"{item} has no asset '{asset}'; give --asset one of its assets: {names[:160]}")
    href = str(assets[asset].get("href", ""))
    if fetched:
        href = urljoin(item, href)
    elif not _is_remote(href):
        href = os.path.normpath(os.path.join(os.path.dirname(item), href))
    facts = content.get("properties")
    facts = facts if isinstance(facts, dict) else {}
    date = day_in(str(facts.get("datetime") or facts.get("start_datetime")))  # a span of time has no datetime
    named = _named((href,), allow_remote)
    return Files(named.paths, str(content.get("id", named.name)), date, named.remote)


def _named(paths: tuple[str, ...], allow_remote: bool) -> Files:
    for path in paths:
        _check_allowed(path, allow_remote)
    return Files(tuple(map(_for_gdal, paths)), Path(paths[0]).name, remote=any(map(_is_remote, paths)))


def _is_remote(path: str) -> bool:
    return path.startswith((*WEB, *BUCKETS, "/vsi"))


def _check_allowed(path: str, allow_remote: bool) -> None:
    if _is_remote(path) and not allow_remote:
        raise BTCChatError(f"'{path}' is not a local file; add --allow-remote to read files and STAC items elsewhere")


def _for_gdal(path: str) -> str:
    for scheme, prefix in BUCKETS.items():
        if path.startswith(scheme):
            return prefix + path.removeprefix(scheme)
    return f"/vsicurl/{path}" if path.startswith(WEB) else path


def _fetched(address: str) -> dict[str, Any]:
    import requests

    try:
        answer = requests.get(address, timeout=30)
        answer.raise_for_status()
        content = answer.json()
    except (requests.RequestException, ValueError) as error:
        reason = f"{str(error)[:120]}; check the address"
        raise BTCChatError(f"the STAC item {address} could not be downloaded: {reason}") from error
    if not isinstance(content, dict):
        raise BTCChatError(f"{address} is not a STAC item: it is {json_kind(content)}, expected an object")
    return content


def _product(folder: Path) -> list[str]:
    """Red, green and blue of a Sentinel-2 SAFE or a Landsat folder."""
    old = OLD_LANDSAT.match(folder.name) or any(OLD_LANDSAT.match(path.name) for path in folder.glob("*.[Tt][Ii][Ff]"))
    patterns = [
        [f"GRANULE/*/IMG_DATA/R10m/*_{band}_10m.jp2" for band in SENTINEL2],  # level 2A
        [f"GRANULE/*/IMG_DATA/*_{band}.jp2" for band in SENTINEL2],  # level 1C
        *([f"*_{kind}{band}.[Tt][Ii][Ff]" for band in LANDSAT["old" if old else "new"]] for kind in ("SR_", "")),
    ]
    for bands in patterns:
        found = [sorted(folder.glob(pattern)) for pattern in bands]
        if all(found):
            if any(len(files) > 1 for files in found):
                raise BTCChatError(f"{folder} has several granules; give the three band files of one of them")
            return [str(files[0]) for files in found]
    raise BTCChatError(
        f"folder '{folder}' is neither a Sentinel-2 SAFE nor a Landsat product (no B04, B03, B02 or B4, B3, B2 files); "
        "give its raster files"
    )


def _quality_band(folder: Path) -> str | None:
    """The quality band of a product with one granule, if it has one."""
    return next((str(path) for pattern in QUALITY for path in folder.glob(pattern)), None)


def _offsets(folder: Path) -> tuple[float, ...]:
    """What Sentinel-2's metadata add to red, green and blue; empty if they say nothing of it."""
    for path in sorted(folder.glob("MTD_MSIL*.xml")):
        try:
            text = read_bounded(path, MOST_METADATA).decode("utf-8", "replace")
        except OSError as error:
            raise BTCChatError(f"{path} cannot be read: {error.strerror}") from error
        found = [re.search(OFFSET.format(band), text) for band in (3, 2, 1)]
        if all(found):
            return tuple(float(match[1]) for match in found if match)
    return ()
