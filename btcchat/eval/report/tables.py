"""The tables of a report: the scores of a set in metrics.json, as HTML."""

from collections.abc import Iterator, Sequence
from html import escape

import yaml

from btcchat.assets import PACKAGE
from btcchat.eval.answers.answers import IN_RANGES, RANGES, UNKNOWN
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.maps.masks import SCORES, ThresholdScores
from btcchat.eval.runs.samples import CAPTIONS, CLASSES
from btcchat.eval.runs.schema import CaptionSet, ClassSet, QuestionSet, Selection, SetScores
from btcchat.media.page import table

PUBLISHED = ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", "S*m")


def set_tables(name: str, scores: SetScores, selected: Selection | None) -> Iterator[str]:
    """HTML tables of a set. selected: how the checkpoint was chosen, if known."""
    if scores["kind"] == CAPTIONS:
        yield from _captions(scores)
        yield from _published(name, scores, selected)
    elif scores["kind"] == CLASSES:
        yield from _classes(scores)
    else:
        yield from _questions(scores)
    if "change_map" in scores:
        yield from _change_map(scores["change_map"])


def paragraph(text: str, kind: str = "soft") -> str:
    return f"<p class={kind}>{escape(text)}</p>\n"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _cell(value: float | None, ends: Sequence[float] | None) -> str | tuple[str, str]:
    """A score with its 95 % interval below it."""
    return (number(value), f"{ends[0]:.2f} to {ends[1]:.2f}") if ends else number(value)


def _scroll(html: str, kind: str = "") -> str:
    return f'<div class="scroll {kind}">{html}</div>\n'


def _captions(scores: CaptionSet) -> Iterator[str]:
    preset = scores["preset"]
    yield "<h3>Captions</h3>\n"
    rows = []
    for part, row in scores["scores"].items():
        ends = row.get("95 %", {})
        rows.append([part, str(row["pairs"]), *(_cell(row[metric], ends.get(metric)) for metric in METRICS)])
    yield _scroll(table(["", "pairs", *METRICS], rows, own="all"))
    scale = "All scores x100; CIDEr-D goes up to 1000, so S*m can exceed 100"
    small = "below each number: its 95 % interval, from a bootstrap over the pairs"
    yield paragraph(f"Text preset {preset}: {build_preset(preset).about}. {scale}; {small}.")
    for note in scores["notes"]:
        yield paragraph(f"Note: {note}.")
    flags = scores["changed_or_unchanged"]
    if flags is not None:
        yield f"<h3>Changed or unchanged: {flags['accuracy']:.2f} % right</h3>\n"
        rows = [[f"is {truth}", *map(str, counts.values())] for truth, counts in flags["confusion"].items()]
        yield _scroll(table(["", *(f"said {name}" for name in ("changed", "unchanged"))], rows))
        yield paragraph(f"Truth: {flags['truth']}.")
    yield "<h3>Claims</h3>\n"
    claims = scores["factuality"].items()
    rows = [[kind, number(row["precision"]), number(row["recall"]), number(row["F1"])] for kind, row in claims]
    yield _scroll(table(["", "precision", "recall", "F1"], rows))
    yield paragraph(
        "What predictions and references say of objects, direction, counts and places, found with a lexicon."
    )


def _published(name: str, scores: CaptionSet, selected: Selection | None) -> Iterator[str]:
    """For runs on LEVIR-CC: this run next to published numbers, and why they may not be comparable."""
    published = yaml.safe_load((PACKAGE / "assets" / "report" / "published.yaml").read_text(encoding="utf-8"))
    if scores.get("data kind") not in published["kinds"]:
        return
    split = f"{name}, {scores['samples']} pairs"
    standard = scores["test split"] and scores["samples"] == published["test_pairs"]
    chosen = "not recorded with the checkpoint"
    if selected:
        chosen = f"best {selected['metric']} on {', '.join(selected['sets'])}"
        chosen += " (A TEST SPLIT)" * bool(selected["test splits"])
    measured = scores["scores"]["all"]
    rows = [["this run", *(number(measured[metric]) for metric in PUBLISHED), split, chosen, "this page"]]
    for row in published["rows"]:
        values = (number(row["scores"].get(metric)) for metric in PUBLISHED)
        rows.append([row["model"], *values, row["split"], row["chosen"], row["source"]])
    yield "<h3>Published results on LEVIR-CC for comparison</h3>\n"
    if not standard:
        yield paragraph(
            f"This run is on {split}, not on the standard test split of {published['test_pairs']:,} pairs: its numbers "
            "cannot be compared with the published ones.",
            "warning",
        )
    if scores["preset"] != published["preset"]:
        text = f"This run is scored with the preset {scores['preset']}, the published ones with {published['preset']}."
        yield paragraph(text, "warning")
    yield _scroll(table(["", *PUBLISHED, "split", "checkpoint chosen by", "source"], rows, own="this run"), "words")


def _questions(scores: QuestionSet) -> Iterator[str]:
    yield "<h3>Questions</h3>\n"
    rows = [
        [kind, str(row["questions"]), _cell(row["accuracy"], row.get("95 %")), number(row["most frequent"])]
        for kind, row in scores["scores"].items()
    ]
    yield _scroll(table(["", "questions", "accuracy", "always the most frequent answer"], rows))
    ranges = RANGES.get(scores["data kind"] or "")
    yield paragraph("Accuracy in percent" + (f"; {IN_RANGES[ranges]}." if ranges else "."))


def _classes(scores: ClassSet) -> Iterator[str]:
    yield "<h3>Classes</h3>\n"
    accuracy = _cell(scores["accuracy"], scores.get("95 %"))
    row = ["overall accuracy", accuracy, number(scores["most frequent"]), str(scores["samples"])]
    yield _scroll(table(["", "percent", "always the most frequent class", "samples"], [row]))
    confusion = scores["confusion"]
    names = [*confusion, *([UNKNOWN] if any(row[UNKNOWN] for row in confusion.values()) else [])]
    rows = [
        [truth, *(str(counts[name] or "") for name in names), number(scores["recall"].get(truth))]
        for truth, counts in confusion.items()
    ]
    yield "<h3>Confusion matrix</h3>\n" + _scroll(table(["is, said", *names, "recall"], rows), "matrix")


def _change_map(result: ThresholdScores) -> Iterator[str]:
    yield "<h3>Change maps against masks</h3>\n"
    rows = []
    for name, row in result["scores"].items():
        ends = row.get("95 %") or {}
        rows.append([name, *(_cell(row[score], ends.get(score)) for score in SCORES)])
    yield _scroll(table(["", *SCORES], rows))
    about = f"Over the pixels of {result['pairs']} pairs, {result['changed pixels']:.2f} % of them changed"
    yield paragraph(f"{about}; changed: at least {result['threshold']:.3f}, {result['chosen']}.")
