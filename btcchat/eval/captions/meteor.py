"""METEOR 1.5: the published jar from the package pycocoevalcap, in file mode, run once for all texts.

The jar reads one hypothesis per line and R references per hypothesis, and writes 23 counts per line (``-ssOut``).
Scores are computed from them here, as `MeteorScorer.computeMetrics` of the jar does: for one row, or for a set from the
*sum* of its rows' counts. The mean of row scores is a different number (65.4 instead of 41.8) and is never called
METEOR.

Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language", WMT 2014.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.eval.captions.java import eval_package, running, writing_temporary
from btcchat.eval.captions.paraphrases import write_relevant

COUNTS = 23
# The jar's time and memory grow with the product of the lengths; captions have about 10 words, the longest about 50.
LONGEST = 500
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75  # English, task "rank": the jar's defaults
STAGES = np.array([1.0, 0.6, 0.8, 0.6])  # weights of exact, stem, synonym and paraphrase matches
_WORD = re.compile(r"\w+|[^\w\s]")


def cut(text: str) -> str:
    """``text``, or its first LONGEST words and punctuation marks."""
    if len(text) <= LONGEST:
        return text
    for number, word in enumerate(_WORD.finditer(text)):
        if number == LONGEST:
            return text[: word.start()].rstrip()
    return text


@contextmanager
def meteor_counts(
    rows: Sequence[tuple[str, Sequence[str]]], *, java: str | None = None
) -> Iterator[Callable[[], np.ndarray]]:
    """Start METEOR on rows of (prediction, references); yields a function that waits for the counts, (rows, 23).

    Texts are single lines (presets.clean). Repeated rows are scored once.
    """
    unique = list(dict.fromkeys((prediction, tuple(references)) for prediction, references in rows))
    place = {row: number for number, row in enumerate(unique)}
    index = [place[prediction, tuple(references)] for prediction, references in rows]
    if not unique:
        yield lambda: np.zeros((0, COUNTS))
        return
    width = max(len(references) for _, references in unique)
    hypotheses = [cut(prediction) for prediction, _ in unique]
    # The jar needs the same number of references in every row. The best one counts, so repeating one changes nothing.
    references = [cut(text) for _, texts in unique for text in (*texts, *[texts[0]] * (width - len(texts)))]
    jar = Path(eval_package("pycocoevalcap.meteor").__path__[0]) / "meteor-1.5.jar"
    with ExitStack() as stack:
        with writing_temporary():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="btcchat-meteor-"))
            names = [str(Path(folder) / name) for name in ("hypotheses", "references", "paraphrases.gz")]
            for name, lines in zip(names, (hypotheses, references), strict=False):
                Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
            write_relevant(jar.parent / "data" / "paraphrase-en.gz", hypotheses + references, names[2])
        options = ["-l", "en", "-norm", "-r", str(width), "-a", names[2], "-q", "-ssOut"]
        output = stack.enter_context(running(["-jar", str(jar), *names[:2], *options], java=java))
        yield lambda: _parse(output(), len(unique))[index]


def meteor_score(counts: np.ndarray) -> np.ndarray:
    """Scores in [0, 1], (...), from the counts of a row or their sum over a set, (..., 23)."""
    counts = np.asarray(counts, dtype=float)
    tested, referred, tested_function, referred_function = np.moveaxis(counts[..., :4], -1, 0)
    stages = counts[..., 4:20].reshape(*counts.shape[:-1], 4, 4)  # (..., stage, whose)
    content_tested, content_referred, function_tested, function_referred = np.moveaxis(stages, -1, 0)
    chunks, matched_tested, matched_referred = np.moveaxis(counts[..., 20:], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing matched: 0/0, which the jar also scores as 0
        precision = (DELTA * content_tested + (1 - DELTA) * function_tested) @ STAGES
        precision = precision / (DELTA * (tested - tested_function) + (1 - DELTA) * tested_function)
        recall = (DELTA * content_referred + (1 - DELTA) * function_referred) @ STAGES
        recall = recall / (DELTA * (referred - referred_function) + (1 - DELTA) * referred_function)
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragmentation = chunks / ((matched_tested + matched_referred) / 2)
        score = mean * (1 - GAMMA * fragmentation**BETA)
    scores: np.ndarray = np.maximum(np.nan_to_num(score, nan=0.0), 0.0)
    return scores


def _parse(output: str, rows: int) -> np.ndarray:
    lines = output.splitlines()
    if len(lines) != rows or any(len(line.split()) != COUNTS for line in lines):
        raise BTCChatError(f"METEOR returned {len(lines)} lines of counts for {rows} rows: {output[:80]!r}")
    counts = np.array([line.split() for line in lines], dtype=float)
    # As in the jar's addStats: a row identical to its reference is a single chunk, not fragmented, so it adds none.
    whole = (counts[:, 21] == counts[:, 0]) & (counts[:, 22] == counts[:, 1]) & (counts[:, 20] == 1)
    counts[whole, 20] = 0
    return counts
