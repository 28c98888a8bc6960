"""Write a synthetic data set to a folder: JPEG images, and JSONL files with chat records for each task."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from btcchat.console.children import process_pool
from btcchat.errors import BTCChatError
from btcchat.files import json_line, new_folder
from btcchat.synthetic.dialogues import FILES, Turns, dialogues
from btcchat.synthetic.samples import SyntheticSample, make_image, make_pair, make_series, make_video

SEED_STRIDE = 10_000_000  # sample i of a data set of seed s has the seed s * SEED_STRIDE + i
MAKE: dict[str, Callable[..., SyntheticSample]] = {
    "pair": make_pair,
    "image": make_image,
    "series": make_series,
    "video": make_video,
}


@dataclass(frozen=True)
class SampleCounts:
    """How many samples of each kind a data set has."""

    pairs: int = 0
    images: int = 0
    series: int = 0
    videos: int = 0


def write_dataset(
    out: str | Path,
    counts: SampleCounts,
    *,
    seed: int,
    heldout: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write that many samples of each kind to the new folder ``out`` and return it.

    Writes pairs.jsonl, images.jsonl, series.jsonl and videos.jsonl (chats) and a file of independent questions for each
    (pairs_questions.jsonl). For the same images it writes pairs_align.jsonl and images_align.jsonl (one dense answer
    each) and pairs_changes.jsonl (the list of what changed, with the later date first: what was built is removed).
    Beside them are folders with JPEG images (a video is a folder of frames) and PNG change masks (255: changed). Paths
    in the records are relative to ``out``.

    The bytes depend on ``seed`` and ``heldout``, not on ``workers``. ``progress`` is called with (done, total).
    Everything is written under a temporary name and renamed at the end. Raises BTCChatError if ``out`` exists.
    """
    out = Path(out)
    if out.exists():
        raise BTCChatError(f"{out} already exists; remove it or choose another folder")
    wanted = {"pair": counts.pairs, "image": counts.images, "series": counts.series, "video": counts.videos}
    jobs = [(task, index) for task, count in wanted.items() for index in range(count)]
    with new_folder(out) as part, ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for task in (task for task, count in wanted.items() if count):
            (part / FILES[task][-1]).mkdir()
            files |= {name: stack.enter_context((part / f"{name}.jsonl").open("wb")) for name in FILES[task]}
        write = partial(_write_sample, part, seed, heldout)
        if workers > 1 and jobs:
            pool = stack.enter_context(process_pool(workers, get_context("spawn")))
            results: Iterable[list[tuple[str, dict[str, Any]]]] = pool.map(write, jobs, chunksize=8)
        else:
            results = map(write, jobs)
        for done, records in enumerate(results, 1):
            for name, record in records:
                files[name].write(json_line(record))
            if progress:
                progress(done, len(jobs))
    return out


def _write_sample(out: Path, seed: int, heldout: bool, job: tuple[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Write one sample's images. Returns its records, each with the JSONL file that it belongs to."""
    task, index = job
    sample = MAKE[task](seed * SEED_STRIDE + index, heldout=heldout)
    folder, name = FILES[task][-1], f"{index:06d}"
    paths = {
        "pair": [f"{folder}/{name}_before.jpg", f"{folder}/{name}_after.jpg"],
        "image": [f"{folder}/{name}.jpg"],
    }.get(task) or [f"{folder}/{name}/{k:02d}.jpg" for k in range(len(sample.images))]
    (out / paths[0]).parent.mkdir(exist_ok=True)
    for path, image in zip(paths, sample.images, strict=True):
        Image.fromarray(image).save(out / path, quality=92, subsampling=0)
    mask = f"{folder}/{name}/mask.png" if task == "series" else f"{folder}/{name}_mask.png"
    if task != "image":
        Image.fromarray(sample.mask).save(out / mask, compress_level=1)
    segments = len(paths) if task == "series" else 1  # a pair is one, and so is a video of any number of frames
    records: list[tuple[str, dict[str, Any]]] = []
    for file, shown, turns in dialogues(sample):
        media: dict[str, Any] = {
            "image": {"image": paths[0]},
            "video": {"video": f"{folder}/{name}", "mask": mask},
        }.get(task, {"images": paths if shown is sample else paths[::-1], "mask": mask})
        record = {
            "id": f"{file}-{name}",
            "modality": task,
            **media,
            "conversations": _conversation(turns, segments),
        }
        if file == f"{folder}_questions":
            record["independent"] = True
        else:
            record |= {"captions": shown.captions, "truth": shown.truth}
        records.append((file, record))
    return records


def _conversation(turns: Turns, segments: int) -> list[dict[str, str]]:
    """LLaVA-style turns; the first starts with ``segments`` placeholders."""
    out: list[dict[str, str]] = []
    for index, (question, answer) in enumerate(turns):
        lead = "<image>\n" * segments if index == 0 else ""
        out += [{"from": "human", "value": lead + question}, {"from": "gpt", "value": answer}]
    return out
