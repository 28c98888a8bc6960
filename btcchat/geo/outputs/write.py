"""Write all files of a finished run from its rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from btcchat.errors import BTCChatError
from btcchat.geo.blend import BlendedMap
from btcchat.geo.outputs import style
from btcchat.geo.outputs.cog import write_map
from btcchat.geo.outputs.features import TileFeatures, suffix
from btcchat.geo.outputs.polygons import Changes
from btcchat.geo.outputs.report import write_report
from btcchat.geo.outputs.vectors import write_geojson, write_gpkg, write_parquet
from btcchat.geo.summary import summarize

if TYPE_CHECKING:
    from btcchat.geo.scene_run import SceneRun

SUMMARY = """These are descriptions of changes in neighbouring parts of one area. Summarise them in two sentences.
{}"""


def write_outputs(run: "SceneRun", summarizer: Callable[[str], str] | None) -> dict[str, Any]:
    """Write the files, and return what run.json records about them."""
    plan, out = run.plan, run.out
    numbers = [number for number in plan.numbers if number in run.log]
    features = TileFeatures(plan.tiles, run.log, numbers, len(plan.scenes), len(plan.settings.questions), _about(run))
    table = features.table()
    write_geojson(out / "tiles.geojson", table)
    write_gpkg(out / "tiles.gpkg", table, style.TILES)
    if "geoparquet" in plan.settings.formats:
        write_parquet(out / "tiles.parquet", table)
    for index, pair in enumerate(plan.job.pairs):
        blended = BlendedMap(plan.tiles, run.log, index)
        end = suffix(pair, index)
        tags = {"BTCCHAT_MODEL": run.facts.name, "BTCCHAT_SETTINGS": run.settings, "BTCCHAT_DATES": _dates(run, pair)}
        write_map(out / f"change{end}.tif", blended, dtype=plan.settings.map_dtype, tags=tags)
    changes = Changes(out / "changes.gpkg", BlendedMap(plan.tiles, run.log), run.log, run.threshold)
    write_gpkg(out / "changes.gpkg", changes.table(), style.CHANGES)
    lines = summarize(plan.tiles, features)
    written: dict[str, Any] = {
        "summary": lines,
        "changes": {"polygons": changes.count, "area_m2": round(changes.area, 1)},
    }
    if summarizer is not None:
        written["summary_by_model"] = _summary(run, features, summarizer)
    words = [by_model(text)] if (text := written.get("summary_by_model")) else []
    write_report(out / "report.html", run, features, [*words, *lines])
    return written


def by_model(summary: str) -> str:
    """The language model's summary for people, who see it among the lines that btcchat counted."""
    return f"summary by the model: {summary}"


def _about(run: "SceneRun") -> dict[str, Any]:
    """The properties that all tiles share."""
    plan = run.plan
    shift = plan.registrations[0]
    return {
        **{f"date_{number}": date for number, date in enumerate(plan.dates, start=1)},
        "shift_pixels": None if shift.pixels is None else round(shift.pixels, 3),
        "shift_m": None if shift.metres is None else round(shift.metres, 3),
        "model": run.facts.name,
        "settings": run.settings,
    }


def _dates(run: "SceneRun", pair: tuple[int, int]) -> str:
    return " to ".join(run.plan.scenes[number].date or run.plan.scenes[number].name for number in pair)


def _summary(run: "SceneRun", features: TileFeatures, summarizer: Callable[[str], str]) -> str | None:
    """The language model's summary of the captions; None, with a warning, if they do not fit its context."""
    captions = [feature["caption"] for feature in features if feature["caption"]]
    if not captions:
        return None
    try:
        return summarizer(SUMMARY.format("\n".join(captions)))
    except BTCChatError as error:
        run.plan.warn(f"--summarize: the captions of {len(captions)} tiles could not be summarised: {error}")
        return None
