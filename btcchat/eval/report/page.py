"""A finished evaluation as one self-contained HTML page: tables, what was run, training, samples."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from btcchat.assets import PACKAGE
from btcchat.checkpoint.facts import parts_text
from btcchat.errors import BTCChatError
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.report.curves import curves, training_log
from btcchat.eval.report.samples import LONGEST, SHOWN, Cards
from btcchat.eval.report.tables import paragraph, set_tables
from btcchat.eval.runs.finished import Run, read_run
from btcchat.eval.runs.metrics import selected_text
from btcchat.eval.runs.samples import CAPTIONS, Sample, read_sets
from btcchat.media.reading import FLAGS, Reading
from btcchat.outputs.ours import HTML

ASSETS = PACKAGE / "assets" / "report"
SHARED = PACKAGE / "serve" / "page" / "shared"  # with the page of `btcchat serve`
STYLES = (SHARED / "theme.css", SHARED / "swipe.css", ASSETS / "style.css")
SCRIPTS = (SHARED / "swipe.js", ASSETS / "script.js")
# The page loads nothing from anywhere, even if a text from a data set were not escaped by mistake.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report(
    path: str | Path,
    *,
    samples: int = 100,
    data_root: str | None = None,
    folder: str | None = None,
    java: str | None = None,
) -> Iterable[str]:
    """Yield the page of the run folder ``path`` in pieces.

    samples: cards in the page, at most. data_root, folder: where data and descriptions are now, if they have moved
    since the run. Raises BTCChatError for a run that is not finished, or whose images cannot be read.
    """
    run = read_run(path)
    cards = {s.name: Cards(s, preset=run.preset, java=java) for s in run.sets} if samples else {}
    by_id = _samples(path, run, data_root, folder) if samples else {}
    return _page(Path(path), run, samples, cards, by_id)


def _samples(path: str | Path, run: Run, data_root: str | None, folder: str | None) -> dict[str, Sample]:
    """The run's samples by id, with their images."""
    request = dict(run.request or {"mixture": "+".join(data["set"] for data in run.data)})
    request |= {name: value for name, value in (("data_root", data_root), ("folder", folder)) if value}
    hint = "set --data-root and --mixture-folder, or use --samples 0 for a page without samples"
    try:
        sets = read_sets(request.pop("mixture"), **request)
    except BTCChatError as error:
        raise BTCChatError(f"the data of {path} cannot be read again: {error}; {hint}") from error
    stored = [(data["set"], data["sha256"]) for data in run.data]
    if [(eval_set.name, eval_set.fingerprint) for eval_set in sets] != stored:
        names = " + ".join(name for name, _ in stored)
        raise BTCChatError(f"{names} has changed since {path} was run on it; {hint}")
    return {sample.id: sample for eval_set in sets for sample in eval_set.samples}


def _page(
    path: Path, run: Run, max_cards: int, cards: Mapping[str, Cards], samples: Mapping[str, Sample]
) -> Iterator[str]:
    selected = run.selected
    title = f"{run.model['path']} on {', '.join(run_set.name for run_set in run.sets)}"
    style, script = ("".join(file.read_text(encoding="utf-8") for file in files) for files in (STYLES, SCRIPTS))
    yield f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8>{HTML}"
    yield f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
    yield "<meta name=viewport content='width=device-width'>"
    yield f"<title>{escape(title)}</title><style>\n{style}</style>\n<h1>{escape(title)}</h1>\n"
    if selected:
        text = selected_text(selected)
        yield paragraph(f"{text[0].upper()}{text[1:]}.", "warning" if selected["test splits"] else "soft")
    for run_set in run.sets:
        test = " (a test split)" if run_set.scores["test split"] else ""
        yield f"<h2>{escape(run_set.name)}, {len(run_set.rows):,} samples{test}</h2>\n"
        yield from set_tables(run_set.name, run_set.scores, selected)
    yield "<h2>What was run</h2>\n<dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in _facts(run))
    yield "</dl>\n"
    log = training_log(run.model["path"])
    if log and (drawn := curves(log[1])):
        yield f"<h2>Training</h2>\n{paragraph(f'From {log[0]}, as it is now.')}"
        yield f"<div class=curves>{''.join(drawn)}</div>\n"
    if cards:
        reading = Reading.parse(**{name: run.options.get(name) for name in FLAGS})
        yield from _controls(cards, run.preset)
        for run_set in run.sets:
            chosen = cards[run_set.name].pick(max_cards)
            count = _how_many(len(chosen), len(run_set.rows), max_cards // 2)
            yield f"<h3>{escape(run_set.name)}</h3>\n{paragraph(count)}"
            yield "<section class=samples>\n"
            yield from cards[run_set.name].html(chosen, samples, path, reading)
            yield "</section>\n"
        yield f"<script type=module>\n{script}</script>\n"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "model", run.model["path"]
    yield "fingerprint of the model", run.model["fingerprint"]
    if "parts" in run.model:
        yield from parts_text(run.model["parts"]).items()
    if run.prompts:
        wording = {name: json.dumps(text, ensure_ascii=False) for name, text in run.prompts.items()}
        yield "prompts", ", ".join(f"{name} {text}" for name, text in wording.items())
    for data in run.data:
        yield "data", f"{data['set']}, {data['samples']} samples, fingerprint {data['sha256']}"
    scores = [run_set.scores for run_set in run.sets]
    scorers = {captions["pycocoevalcap"] for captions in scores if captions["kind"] == CAPTIONS}
    if scorers:
        about = build_preset(run.preset).about
        yield "text preset", f"{run.preset} ({about}); pycocoevalcap {', '.join(scorers)}"
    yield "options", ", ".join(f"{name} {value}" for name, value in run.options.items() if value is not None)
    yield "versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())
    yield "processes", str(run.processes)
    yield "next to this page", "run.json, metrics.json, predictions.jsonl"


def _controls(cards: Mapping[str, Cards], preset: str) -> Iterator[str]:
    captions = all(of_set.kind == CAPTIONS for of_set in cards.values())
    sorts = ["In the order of the data", "Worst first", *(f"Lowest {name} first" for name in SHOWN[1:] if captions)]
    tags = {tag for of_set in cards.values() for row in of_set.tags for tag in row}
    shows = ["all", *(tag for tag in ("changed", "unchanged", "misjudged", "right", "wrong") if tag in tags)]
    yield "<h2>Samples</h2>\n<form>" + _select("show", shows, shows) + _select("sort", sorts, range(len(sorts)))
    yield '<input name=find type=search aria-label=find placeholder="Find in texts">'
    yield "<span class=soft id=shown></span></form>\n"
    if any(of_set.kind == CAPTIONS for of_set in cards.values()):
        yield paragraph(
            f"Scores of each pair by itself, with the preset {preset} and, for CIDEr-D, the document frequencies of "
            "its set; the scores of the set are not their mean. The worst pairs have the lowest S*m. Misjudged: an "
            "unchanged pair described as changed, or the reverse."
        )


def _how_many(shown: int, total: int, worst: int) -> str:
    images = f"Images are at most {LONGEST} pixels wide or high here."
    if shown == total:
        return f"All {total:,} samples. {images}"
    others = f"{shown - worst:,} evenly spaced among the rest"
    return f"{shown:,} of {total:,} samples: the {worst:,} worst, and {others}. {images}"


def _select(name: str, texts: Sequence[str], values: Iterable[object]) -> str:
    options = zip(texts, values, strict=True)
    listed = "".join(f"<option value={value}>{text}</option>" for text, value in options)
    return f"<select name={name} aria-label={name}>{listed}</select>"
