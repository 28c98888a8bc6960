"""What a machine without a network needs: some of the golden sets, and wheels of the packages that it lacks.

A pack is a folder with golden.zip and *.whl files, all of which are zip archives. Nothing is installed from it: wheels
of missing packages are unpacked to a folder on PYTHONPATH.
"""

import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

MOST, MOST_GOLDEN = 60e6, 15e6  # bytes
# Parts of both systems, and the one whole checkpoint that fits. It has a tower, so unirs/siglip is left out.
GOLDEN = (
    "unirs/checkpoint*", "unirs/attentive_n0", "unirs/projector", "unirs/downsample", "unirs/preprocess.json",
    "ccexpert/resampler",
)  # fmt: skip
PYTHON, MACHINE = "3.12", "x86_64"
# btcchat needs pydantic and its dependencies; QLoRA needs bitsandbytes.
PACKAGES = ("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection", "bitsandbytes")
# bitsandbytes has a library for each CUDA version: 123 MB. torch 2.11 on the machine is built with CUDA 13.0.
UNUSED = re.compile(r"bitsandbytes/libbitsandbytes_(?!cuda130\.|cpu\.).*\.so")


class PackError(Exception):
    """The pack could not be made; the text says why."""


def make(folder: Path, golden: Path) -> str:
    """Fill ``folder`` and return a line about it. Raises PackError if it exceeds its limits."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.whl"), *folder.glob("golden.zip")):
        old.unlink()
    _pack_golden(folder / "golden.zip", golden)
    with TemporaryDirectory() as downloads:
        _download(Path(downloads))
        for wheel in sorted(Path(downloads).glob("*.whl")):
            _copy_without(wheel, folder / wheel.name, UNUSED)
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    total = check(sizes)
    listed = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sorted(sizes.items()))
    return f"{folder}: {total / 1e6:.1f} of at most {MOST / 1e6:.0f} MB ({listed})"


def check(sizes: dict[str, int]) -> int:
    """The total bytes of a pack's files. Raises PackError if there are too many."""
    total = sum(sizes.values())
    for what, size, most in (("golden.zip", sizes.get("golden.zip", 0), MOST_GOLDEN), ("the pack", total, MOST)):
        if size > most:
            raise PackError(f"{what} has {size / 1e6:.1f} MB, more than {most / 1e6:.0f}; pack less (gpu_rows/pack.py)")
    return total


def _pack_golden(file: Path, golden: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in _golden_files(golden):
            archive.write(path, path.relative_to(golden))


def _golden_files(golden: Path) -> Iterator[Path]:
    for pattern in GOLDEN:
        found = sorted(golden.glob(pattern))
        if not found:
            raise PackError(f"{golden} has no {pattern}; give the folder of golden sets with --golden")
        for path in found:
            yield from [path] if path.is_file() else (file for file in sorted(path.rglob("*")) if file.is_file())


def _download(folder: Path) -> None:
    """Download wheels: the versions installed here, or the newest of packages that are not installed."""
    from importlib.metadata import PackageNotFoundError, version

    for name in PACKAGES:
        try:
            wanted = f"{name}=={version(name)}"
        except PackageNotFoundError:
            wanted = name
        platforms = [f"--platform=manylinux_2_{minor}_{MACHINE}" for minor in (34, 31, 28, 27, 24, 17)]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
        command += [f"--python-version={PYTHON}", "--implementation=cp", *platforms, wanted]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise PackError(f"pip finds no wheel of {wanted}: {done.stderr.strip().splitlines()[-1]}")


def _copy_without(wheel: Path, copy: Path, left_out: re.Pattern[str]) -> None:
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in source.namelist():
            if not left_out.fullmatch(name):
                target.writestr(name, source.read(name))


def unpack(pack: Path, folder: Path) -> tuple[Path, Path]:
    """-> the folder of golden sets, and the one of packages for PYTHONPATH. Raises PackError if there is no pack."""
    if not (pack / "golden.zip").is_file():
        raise PackError(f"{pack} is not a pack: it has no golden.zip; make one with --pack {pack}")
    golden, packages = folder / "golden", folder / "packages"
    zipfile.ZipFile(pack / "golden.zip").extractall(golden)
    packages.mkdir()
    for wheel in sorted(pack.glob("*.whl")):
        if not _installed(zipfile.ZipFile(wheel).namelist()):
            zipfile.ZipFile(wheel).extractall(packages)
    return golden, packages


def _installed(names: list[str]) -> bool:
    """Whether this environment can already import the wheel's packages; its own builds then fit better."""
    tops = {name.split("/")[0].removesuffix(".py") for name in names if ".dist-info/" not in name}
    return all(importlib.util.find_spec(top) is not None for top in tops)
