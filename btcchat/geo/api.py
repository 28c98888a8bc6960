"""`btcchat.geo.scenes`: the command `btcchat scenes` as a Python function."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcchat.decoding.options import GenerationOptions
from btcchat.geo.engines.local import run_local
from btcchat.geo.facts import facts_of, model_facts
from btcchat.geo.folder import check
from btcchat.geo.inputs import PathLike, Source, find_files
from btcchat.geo.outputs.features import properties
from btcchat.geo.pair_model import BTCChatPairs
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from btcchat.media.reading import DEFAULT, Reading

if TYPE_CHECKING:
    from btcchat.api import BTCChat


@dataclass(frozen=True)
class TileResult:
    """A tile that is done, skipped or failed (``status``, ``reason``).

    caption and change (the share of its valid pixels above the threshold) compare the first and the last date.
    properties: everything that tiles.geojson has about it.
    """

    tile: int
    status: str
    reason: str | None
    caption: str | None
    change: float | None
    answers: list[str]
    longitude: float
    latitude: float
    properties: dict[str, Any]


def scenes(
    before: Source,
    after: Source,
    out: PathLike,
    *,
    between: Sequence[Source] = (),
    model: "PathLike | BTCChat | None" = None,
    tile: int = 256,
    overlap: float = 0.125,
    gsd: float | None = None,
    crs: str | None = None,
    aoi: PathLike | None = None,
    dates: Sequence[str] = (),
    questions: Sequence[str] = (),
    min_valid: float = 0.5,
    min_change: float | None = None,
    threshold: float | None = None,
    shift: str | tuple[float, float] | None = None,
    reading: Reading = DEFAULT,
    clouds: str = "mask",
    map_dtype: str = "float32",
    formats: Sequence[str] = (),
    batch_size: int = 8,
    max_new_tokens: int = 128,
    resume: bool = False,
    allow_remote: bool = False,
) -> Iterator[TileResult]:
    """Caption and map what changed between two georeferenced rasters, tile by tile, into the folder ``out``.

    before, after: a GeoTIFF or another raster, a list of three files of one band each, or a Sentinel-2 SAFE or Landsat
    folder. between: the other dates of a series. model: a checkpoint or a loaded model (default: the packaged one). The
    other options are those of `btcchat scenes` (docs/scenes.md). Tiles are yielded as they finish, and the files are
    written when the iterator is exhausted. A run that was stopped earlier can be resumed. Raises BTCChatError.
    """
    settings = Settings(
        tile=tile,
        overlap=overlap,
        gsd=gsd,
        crs=crs,
        min_valid=min_valid,
        min_change=min_change,
        threshold=threshold,
        questions=tuple(questions),
        shift=shift,
        reading=reading,
        clouds=clouds,
        generation=GenerationOptions(max_new_tokens=max_new_tokens),
        batch_size=batch_size,
        map_dtype=map_dtype,
        formats=tuple(formats),
    )
    check(Path(out), resume=resume)
    files = [find_files(source, allow_remote=allow_remote) for source in (before, *between, after)]
    loaded = None if model is None or isinstance(model, str | Path) else model
    facts = model_facts(model) if loaded is None else facts_of(loaded.config, "given", None)  # type: ignore[arg-type, union-attr]
    with ExitStack() as stack:
        plan = stack.enter_context(Plan(files, settings, dates=dates, aoi=aoi))  # type: ignore[arg-type]
        run = stack.enter_context(SceneRun(plan, Path(out), facts, resume=resume))
        if loaded is None and run.batches():
            from btcchat import BTCChat  # not from btcchat.api: without the warnings of a first import

            loaded = BTCChat.from_pretrained(model)  # type: ignore[arg-type]

        def engine(batches: Sequence[Sequence[int]]) -> Any:
            work = run.work(BTCChatPairs(loaded, settings.generation))  # type: ignore[arg-type]
            return run_local(batches, plan.reader(), work)

        for row in run.rows(engine):
            yield _result(properties(plan.tiles, row, len(files), len(settings.questions)), row.get("answers") or [])
        run.finish()


def _result(found: dict[str, Any], answers: list[str]) -> TileResult:
    names = ("tile", "status", "reason", "caption", "change")
    place = {"longitude": found["longitude"], "latitude": found["latitude"]}
    return TileResult(**{name: found[name] for name in names}, answers=answers, **place, properties=found)
