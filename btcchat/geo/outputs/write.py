"""All files of a finished run, one after another, from its rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from btcchat.errors import BTCChatError
from btcchat.geo.blend import BlendedMap
from btcchat.geo.outputs import style
from btcchat.geo.outputs.cog import write_map
from btcchat.geo.outputs.features import suffix, tile_features, tile_table
from btcchat.geo.outputs.polygons import change_polygons
from btcchat.geo.outputs.report import write_report
from btcchat.geo.outputs.vectors import write_geojson, write_gpkg, write_parquet
from btcchat.geo.summary import summarize

if TYPE_CHECKING:
    from btcchat.geo.scene_run import SceneRun

SUMMARY = """These are descriptions of changes in neighbouring parts of one area. Summarise them in two sentences.
{}"""


def write_outputs(run: "SceneRun", summarizer: Callable[[str], str] | None) -> dict[str, Any]:
    """-> what run.json says of them."""
    plan, out = run.plan, run.out
    features = list(
        tile_features(
            plan.tiles,
            run.log,
            [number for number in plan.numbers if number in run.log],
            dates=len(plan.scenes),
            questions=len(plan.settings.questions),
            about=_about(run),
        )
    )
    table = tile_table(plan.tiles, features)
    write_geojson(out / "tiles.geojson", table)
    write_gpkg(out / "tiles.gpkg", table, style.TILES)
    if "geoparquet" in plan.settings.formats:
        write_parquet(out / "tiles.parquet", table)
    for index, pair in enumerate(plan.job.pairs):
        blended = BlendedMap(plan.tiles, run.log, index)
        end = suffix(pair, index)
        tags = {"BTCCHAT_MODEL": run.facts.name, "BTCCHAT_SETTINGS": run.settings, "BTCCHAT_DATES": _dates(run, pair)}
        write_map(out / f"change{end}.tif", blended, dtype=plan.settings.map_dtype, tags=tags)
        if index == 0:
            changes = change_polygons(out / "changes.gpkg", blended, run.log, run.threshold)
            write_gpkg(out / "changes.gpkg", changes, style.CHANGES)
    lines = summarize(plan.tiles, features)
    written: dict[str, Any] = {
        "summary": lines,
        "changes": {"polygons": len(changes.rows), "area_m2": round(sum(row["area_m2"] for row in changes.rows), 1)},
    }
    if summarizer is not None:
        written["summary_by_model"] = _summary(run, features, summarizer)
    words = [text] if (text := written.get("summary_by_model")) else []
    write_report(out / "report.html", run, features, [*words, *lines])
    return written


def _about(run: "SceneRun") -> dict[str, Any]:
    """What every feature says of the run."""
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


def _summary(run: "SceneRun", features: list[dict[str, Any]], summarizer: Callable[[str], str]) -> str | None:
    """The language model's own words over the captions; None, with a warning, where they do not fit its context."""
    captions = [feature["caption"] for feature in features if feature["caption"]]
    if not captions:
        return None
    try:
        return summarizer(SUMMARY.format("\n".join(captions)))
    except BTCChatError as error:
        run.plan.warn(f"--summarize: the captions of {len(captions)} tiles could not be summarised: {error}")
        return None
