"""All scores of a set of captions and of parts of it, with one run of METEOR alongside the other metrics."""

from collections.abc import Mapping, Sequence

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.eval.captions.counts import METRICS, Counts
from btcchat.eval.captions.java import find_java
from btcchat.eval.captions.meteor import meteor_counts
from btcchat.eval.captions.ngrams import CaptionRow, NGramScorer
from btcchat.eval.captions.presets import as_ids, build_preset


def score_captions(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    preset: str = "levir-cc",
    java: str | None = None,
) -> dict[str, float]:
    """Score ``predictions[i]`` against ``references[i]``; return METRICS of the set, times 100."""
    scores = count_captions(predictions, references, preset=preset, java=java)["all"].scores()
    return dict(zip(METRICS, scores.tolist(), strict=True))


def count_captions(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    preset: str = "levir-cc",
    parts: Mapping[str, Sequence[int]] | None = None,
    java: str | None = None,
) -> dict[str, Counts]:
    """As `score_captions`, but return the counts of each row, for each part of the rows.

    parts: names and row numbers; the default is one part ``"all"``. A part is scored as a set of its own: its CIDEr-D
    uses the document frequencies of its own references. Empty parts are left out. With the preset ``levir-cc`` the part
    ``"all"`` is repeated as ``"all, vocab-ids"``, with METEOR as in the code bases that feed it word numbers, so that
    papers of both kinds can be compared.

    java: see `java.find_java`. Raises BTCChatError for rows that cannot be scored.
    """
    _check(predictions, references)
    rule, java = build_preset(preset), find_java(java)
    parts = {"all": range(len(predictions))} if parts is None else parts
    texts = list(dict.fromkeys(text for row in zip(predictions, references, strict=True) for text in (row[0], *row[1])))
    normal = dict(zip(texts, rule.apply(texts, java), strict=True))
    rows = [(normal[a], tuple(normal[text] for text in b)) for a, b in zip(predictions, references, strict=True)]
    if rule.ids:
        for_meteor = _numbered(rows)
    else:
        twice = preset == "levir-cc" and "all" in parts
        for_meteor = rows + (_numbered([rows[number] for number in parts["all"]]) if twice else [])
    with meteor_counts(for_meteor, java=java) as counted:
        ngrams = NGramScorer(rows)
        others = {name: (ngrams.bleu(p), ngrams.rouge_l(p), ngrams.cider_d(p)) for name, p in parts.items() if len(p)}
        meteor = counted()
    counts = {}
    for name, (bleu, rouge_l, cider_d) in others.items():
        counts[name] = Counts(bleu, meteor[np.asarray(parts[name])], rouge_l, cider_d)
        if name == "all" and len(for_meteor) > len(rows):
            counts["all, vocab-ids"] = Counts(bleu, meteor[len(rows) :], rouge_l, cider_d)
    return counts


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise BTCChatError(
            f"got {len(predictions)} predictions but references for {len(references)}; give one list per prediction"
        )
    if not predictions:
        raise BTCChatError("nothing to score: there are no predictions")
    for number, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise BTCChatError(f"row {number}: expected a list of at least one reference, got {texts!r}")


def _numbered(rows: list[CaptionRow]) -> list[CaptionRow]:
    """The rows with numbers for words."""
    texts = list(dict.fromkeys(text for prediction, references in rows for text in (*references, prediction)))
    number = dict(zip(texts, as_ids(texts), strict=True))
    return [(number[prediction], tuple(number[text] for text in references)) for prediction, references in rows]
