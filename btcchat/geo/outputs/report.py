"""report.html: a slider between the dates, the change map and the tiles over it, and a table, without a network."""

import json
from collections.abc import Iterator, Sequence
from heapq import nlargest
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcchat.assets import PACKAGE
from btcchat.geo.blend import BlendedMap
from btcchat.geo.folder import output
from btcchat.geo.outputs.features import TileFeatures, suffix
from btcchat.geo.outputs.pictures import date_pictures, map_picture
from btcchat.geo.projection import name
from btcchat.geo.rows import DONE
from btcchat.geo.tiles import Tiles
from btcchat.outputs.ours import HTML

if TYPE_CHECKING:
    from btcchat.geo.scene_run import SceneRun

SHARED = PACKAGE / "serve" / "page" / "shared"  # shared with `btcchat serve` and `btcchat report`
ASSETS = PACKAGE / "assets" / "scenes"
STYLES = (SHARED / "theme.css", SHARED / "swipe.css", ASSETS / "style.css")
SCRIPTS = (SHARED / "swipe.js", ASSETS / "script.js")
# Nothing is loaded from anywhere, not even by a caption with markup in it that was not escaped.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
MOST = 3000  # tiles on the page, those with the most change
PLACE = "https://www.openstreetmap.org/?mlat={0:.6f}&mlon={1:.6f}#map=17/{0:.6f}/{1:.6f}"


def write_report(path: Path, run: "SceneRun", features: TileFeatures, summary: Sequence[str]) -> None:
    with output(path) as part, part.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(_page(run, features, summary))


def _page(run: "SceneRun", features: TileFeatures, summary: Sequence[str]) -> Iterator[str]:
    plan = run.plan
    names = [scene.date or scene.name for scene in plan.scenes]
    title = f"{names[0]} to {names[-1]}: what changed"
    style, script = ("".join(file.read_text(encoding="utf-8") for file in files) for files in (STYLES, SCRIPTS))
    shown = nlargest(MOST, features, key=lambda feature: -1 if feature["change"] is None else feature["change"])
    yield f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>{HTML}"
    yield f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
    yield f"<meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
    yield f"<style>\n{style}</style>\n<h1>{escape(title)}</h1>\n"
    for warning in plan.warnings:
        yield f"<p class=warning>{escape(warning)}</p>\n"
    yield f"<ul class=summary>{''.join(f'<li>{escape(line)}</li>' for line in summary)}</ul>\n"
    yield from _map(run, shown, names)
    yield from _table(shown, features, plan.settings.questions)
    yield "<h2>What was run</h2>\n<dl>"
    yield from (f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>\n" for term, text in _facts(run))
    yield f"</dl>\n<script>\n{script}</script>\n"


def _map(run: "SceneRun", shown: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    plan, grid = run.plan, run.plan.tiles.grid
    pictures = date_pictures(plan.on_grid, plan.job.ranges)
    if len(names) > 2:
        yield '<div class=strip aria-label="Dates">\n'
        for number, (picture, label) in enumerate(zip(pictures, names, strict=True)):
            left, right = (" checked" if number == end else "" for end in (0, len(names) - 1))
            yield (
                f'<figure><img src="{picture}" alt=""><figcaption>{escape(label)}</figcaption>'
                f"<label><input type=radio name=left value={number}{left}> left</label> "
                f"<label><input type=radio name=right value={number}{right}> right</label></figure>\n"
            )
        yield "</div>\n"
        said = f"The change map is from {names[0]} to {names[-1]}, whichever dates are chosen here."
        yield f"<p>{escape(said)}</p>\n"
    yield (
        "<form class=tools><label><input type=radio name=mode value=tiles checked> pick tiles</label>"
        "<label><input type=radio name=mode value=swipe> swipe</label>"
        "<label>change map <input type=range name=strength min=0 max=100 value=70></label></form>\n"
        '<div class=map><image-swipe label="Swipe between the two dates">\n'
    )
    for picture, label in ((pictures[0], names[0]), (pictures[-1], names[-1])):
        yield f'<figure><img src="{picture}" alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>\n'
    change = map_picture(BlendedMap(plan.tiles, run.log), run.threshold)
    yield f'</image-swipe><img class=change src="{change}" alt="Change map">\n'
    yield f'<svg viewBox="0 0 {grid.width} {grid.height}" preserveAspectRatio=none>\n'
    yield from (_rectangle(feature, plan.tiles) for feature in reversed(shown))
    yield "</svg></div>\n<p id=picked class=soft>Pick a tile in the picture or a row in the table.</p>\n"


def _rectangle(feature: dict[str, Any], tiles: Tiles) -> str:
    left, top, right, bottom = tiles.cell(feature["tile"])
    kind = "" if feature["status"] == DONE else " class=empty"
    return (
        f"<rect data-tile={feature['tile']} x={left:g} y={top:g} width={right - left:g} height={bottom - top:g}{kind}>"
        f"<title>{escape(_text(feature))}</title></rect>\n"
    )


def _text(feature: dict[str, Any]) -> str:
    if feature["status"] != DONE:
        return f"{feature['status']}: {feature['reason']}"
    return feature["caption"] or "(not captioned)"


def _table(shown: Sequence[dict[str, Any]], features: TileFeatures, questions: Sequence[str]) -> Iterator[str]:
    count = (
        f"{len(shown):,} of {len(features):,} tiles, those with the most change." if len(shown) < len(features) else ""
    )
    yield f"<h2>Tiles</h2>\n<p class=soft>{count} Click a column's name to sort.</p>\n"
    yield '<input type=search id=find placeholder="Find in captions" aria-label="Find in captions">\n'
    heads = ["tile", "change", "caption", *questions, "valid", "place"]
    yield "<div class=scroll><table id=tiles><thead><tr>"
    yield "".join(f"<th><button>{escape(head)}</button></th>" for head in heads)
    yield "</tr></thead><tbody>\n"
    for feature in shown:
        answers = [feature.get(f"answer_{number}") or "" for number in range(1, len(questions) + 1)]
        change = "" if feature["change"] is None else f"{100 * feature['change']:.1f} %"
        cells = [str(feature["tile"]), change, _text(feature), *answers, f"{100 * feature['valid']:.0f} %"]
        place = PLACE.format(feature["latitude"], feature["longitude"])
        link = f'<a href="{escape(place)}" rel=noreferrer>{feature["latitude"]:.5f}, {feature["longitude"]:.5f}</a>'
        texts = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f"<tr data-tile={feature['tile']} tabindex=0>{texts}<td>{link}</td></tr>\n"
    yield "</tbody></table></div>\n"


def _facts(run: "SceneRun") -> Iterator[tuple[str, str]]:
    plan = run.plan
    grid = plan.tiles.grid
    for number, scene in enumerate(plan.scenes, start=1):
        yield f"date {number}", f"{scene.date or 'unknown'}: {', '.join(raster.name for raster in scene.rasters)}"
    yield "grid", f"{name(grid.crs)}, {grid.width:,} x {grid.height:,} pixels of {grid.gsd:.4g} m"
    yield "tiles", f"{plan.tiles.side} pixels = {plan.tiles.ground_side:,.0f} m a side, {plan.tiles.margin} shared"
    if plan.aoi is not None:
        yield "area of interest", plan.aoi["file"]
    yield "overlap of the dates", f"{plan.overlap.share:.0%} of the smaller one"
    for scene, found in zip(plan.scenes, plan.registrations, strict=False):
        yield f"registration of {scene.name}", found.text()
    yield "resampling", ", ".join(run.record["resampling"])
    yield "stretch", ", ".join("none" if one is None else f"{one[0]:g} to {one[1]:g}" for one in plan.job.ranges)
    yield "model", f"{run.facts.name} (fingerprint {run.facts.fingerprint or 'unknown'})"
    yield "change threshold", f"{run.threshold:g}, from {run.record['threshold_from']}"
    yield "settings", f"{run.settings}: {json.dumps(run.record['settings'], ensure_ascii=False)}"
    maps = [f"change{suffix(pair, index)}.tif" for index, pair in enumerate(plan.job.pairs)]
    parquet = ["tiles.parquet"] if "geoparquet" in plan.settings.formats else []
    files = ["tiles.geojson", "tiles.gpkg", *parquet, "changes.gpkg", *maps, "run.json"]
    yield "other files", ", ".join(files)
