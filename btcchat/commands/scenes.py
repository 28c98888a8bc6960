"""``btcchat scenes``: captions and maps of what changed between georeferenced scenes."""

import argparse
from typing import Any

from btcchat.commands import options
from btcchat.commands.options import RAW, Commands, add_device, add_generation, add_images, at_least_0, at_least_1
from btcchat.errors import BTCChatError

SCENES = """\
Caption and map what changed between two or more georeferenced scenes.

  btcchat scenes before.tif after.tif --out run
  btcchat scenes 2015.tif 2018.tif 2021.tif --out run            a series
  btcchat scenes S2A_...SAFE S2B_...SAFE --out run --aoi area.geojson
  btcchat scenes --before B04.tif B03.tif B02.tif --after B04.tif B03.tif B02.tif --out run
  btcchat scenes --list scenes.csv --out runs                    columns before,after[,id]
  btcchat scenes before.tif after.tif --dry-run                  the plan, and how long it will take

The folder holds tiles.geojson, tiles.gpkg, changes.gpkg and change.tif for a GIS, report.html for a browser, and
run.json; docs/scenes.md describes it all. Resume an interrupted run with --resume."""
MISSING = 'btcchat scenes needs packages that are not installed ({}): pip install "btcchat[geo]"'
PACKAGES = ("pyproj", "shapely", "pyogrio", "skimage")


def add(commands: Commands) -> None:
    about = "caption and map what changed between georeferenced scenes"
    parser = commands.add_parser("scenes", help=about, description=SCENES, **RAW)
    folder = "a raster, or a Sentinel-2 SAFE or Landsat folder, the earliest first"
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=folder)
    bands = "red, green and blue of the {} date, one file each"
    parser.add_argument("--before", nargs="+", metavar="FILE", help=bands.format("earlier"))
    parser.add_argument("--after", nargs="+", metavar="FILE", help=bands.format("later"))
    parser.add_argument(
        "--stac", nargs="+", metavar="ITEM", help="STAC items (JSON files or addresses), the earliest first"
    )
    parser.add_argument(
        "--asset", default="visual", metavar="NAME", help="with --stac: the asset of each item to read (default visual)"
    )
    parser.add_argument("--list", metavar="CSV", help="many pairs of scenes: columns before,after[,id]")
    parser.add_argument("--out", metavar="DIR", help="a new folder, or with --resume the folder of an interrupted run")
    parser.add_argument("--resume", action="store_true", help="resume an interrupted run")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    remote = "read https://, s3:// and gs:// files, /vsi paths and remote STAC items"
    parser.add_argument("--allow-remote", action="store_true", help=remote)
    _add_tiles(parser)
    _add_answers(parser)
    _add_machines(parser)
    parser.add_argument("--json", action="store_true", help="print run.json's summary as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def _add_tiles(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("grid and tiles").add_argument
    add("--tile", type=at_least_1, default=256, metavar="PX", help="side of a tile in pixels of the grid (default 256)")
    overlap = "share of a tile's side that overlaps its neighbour (default 0.125)"
    add("--overlap", type=at_least_0, default=0.125, metavar="S", help=overlap)
    add("--gsd", type=float, metavar="M", help="metres per pixel on the ground (default: the last scene's)")
    crs = "CRS of the grid, such as EPSG:32633 (default: the last scene's, or its UTM zone if that is not in metres)"
    add("--crs", metavar="CRS", help=crs)
    add("--aoi", metavar="FILE", help="only tiles that touch these polygons (GeoJSON, GeoPackage, ...)")
    valid = "minimum share of valid pixels in a tile; others are skipped and listed (default 0.5)"
    add("--min-valid", type=at_least_0, default=0.5, metavar="S", help=valid)
    add("--dates", nargs="+", metavar="DATE", help="dates of the scenes (default: from their tags or names)")
    shift = "if the dates are not aligned: auto, ignore, or a shift RIGHT,DOWN in pixels (default: stop if above 3)"
    add("--shift", metavar="WAY", help=shift)
    clouds = "clouds in Sentinel-2 level 2A and Landsat folders: mask makes them no data (default), keep shows them"
    add("--clouds", choices=("mask", "keep"), default="mask", help=clouds)
    add_images(parser)


def _add_answers(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("answers and maps").add_argument
    add("--question", action="append", default=[], metavar="TEXT", help="also ask this about each tile (repeatable)")
    add("--min-change", type=at_least_0, metavar="S", help="caption only tiles whose change score is at least this")
    threshold = "threshold of the change map, for scores and polygons (default: the model's)"
    add("--threshold", type=at_least_0, metavar="T", help=threshold)
    add("--summarize", action="store_true", help="let the language model summarise the captions of all tiles")
    add("--map-type", choices=("float32", "uint8"), default="float32", help="data type of change.tif (default float32)")
    add("--format", action="append", default=[], choices=("geoparquet",), help="write the tiles in this format too")
    add_generation(add)
    add("--seed", type=int, metavar="N", help="seed that makes sampled answers reproducible")


def _add_machines(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and machines")
    group.add_argument("--model", metavar="PATH_OR_ID", help=options.MODEL)
    group.add_argument("--base", metavar="PATH_OR_ID", help=options.BASE)
    add_device(group)
    add = group.add_argument
    add("--batch-size", type=at_least_1, default=8, metavar="N", help="batch size in tiles (default 8)")
    add("--engine", choices=("local", "ray"), default="local", help="this process, or workers of Ray (default local)")
    add("--ray-address", metavar="ADDRESS", help="address of a Ray cluster (default: start Ray on this machine)")
    add("--ray-workers", type=at_least_1, default=2, metavar="N", help="workers, each with the model (default 2)")
    share = "GPUs per worker (default: an equal share of Ray's GPUs, at most 1; 0 computes on the CPU)"
    add("--ray-gpus", type=at_least_0, metavar="N", help=share)


def run(args: argparse.Namespace) -> int:
    _check_installed(args)
    from btcchat.commands import scenes_run

    settings = _settings(args)
    if args.list is not None:
        if args.scenes or args.before or args.after or args.stac or args.dry_run:
            raise BTCChatError(
                "--list takes its scenes from a file; leave out SCENE, --before, --after, --stac, --dry-run"
            )
        return scenes_run.run_list(args.list, scenes_run.Request(args, settings, options.model_options(args)))
    return scenes_run.run_one(_sources(args), scenes_run.Request(args, settings, options.model_options(args)))


def _sources(args: argparse.Namespace) -> list[Any]:
    """The source of each date: files, lists of files, or STAC items."""
    ways = [bool(args.scenes), bool(args.before or args.after), bool(args.stac)]
    if sum(ways) != 1 or bool(args.before) != bool(args.after):
        raise BTCChatError(
            "give the scenes in one way: SCENE SCENE, or --before FILES --after FILES, or --stac ITEM ITEM"
        )
    return args.scenes or args.stac or [args.before, args.after]


def _settings(args: argparse.Namespace) -> Any:
    """Check the flags, so that all faults are reported before anything is opened."""
    from btcchat.decoding.options import GenerationOptions
    from btcchat.geo.settings import Settings

    if args.out is None and not args.dry_run:
        raise BTCChatError("scenes needs --out DIR, the folder for captions and maps")
    if args.dry_run and args.json:
        raise BTCChatError("--json prints the summary of a run, and --dry-run runs nothing; leave one of them out")
    if args.engine != "ray" and (args.ray_address is not None or args.ray_gpus is not None):
        raise BTCChatError("--ray-address and --ray-gpus are for --engine ray; add it, or leave them out")
    if args.engine == "ray" and args.device == "cuda" and args.ray_gpus == 0:
        raise BTCChatError("--device cuda needs a GPU, but --ray-gpus is 0; leave one of them out")
    return Settings(
        tile=args.tile,
        overlap=args.overlap,
        gsd=args.gsd,
        crs=args.crs,
        min_valid=args.min_valid,
        min_change=args.min_change,
        threshold=args.threshold,
        questions=tuple(args.question),
        shift=args.shift,
        reading=options.reading(args),
        clouds=args.clouds,
        generation=GenerationOptions(**options.generation(args)),
        batch_size=args.batch_size,
        map_dtype=args.map_type,
        formats=tuple(args.format),
    )


def _check_installed(args: argparse.Namespace) -> None:
    """Check for packages before torch is imported, which takes seconds."""
    from importlib.util import find_spec

    needed = (*PACKAGES, *(("ray",) if args.engine == "ray" else ()), *(("pyarrow",) if args.format else ()))
    if missing := [name for name in needed if find_spec(name) is None]:
        raise BTCChatError(MISSING.format(", ".join(missing)))
