"""Phrases that a native reader stops at do not come back: in docs, help, messages and comments."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

# What not to write -> what to write instead.
PHRASES = {
    r"\bgo(?:es|ne)? on with\b|\bgo(?:es)? on from\b|\brun\w* goes on\b": "continues, resumes",
    r"\b(?:go|goes|stand|stands|is|are|what comes) behind (?:it|them|the same)\b|\breads? on behind\b": "after",
    r"\bto be had\b": "available, could be downloaded",
    r"\banew\b": "again",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"; less [a-z\"]|\b\w+ less concat\b": "minus",
    r"\b(?:captions?|sentences?)(?: \w+){0,2} costs? nothing\b": "baselines",
    r"\bwith a clock\b": "a timed test",
    r"\b(?:is|are|was|were) told\b(?! apart)|\btold (?:with|before)\b": "reported",
    r"\bin front of (?:its answer|the script)\b": "before",
    r"\bmust stand\b(?! out)|\bstands? (?:in no|first\b|at both|where\b|beside\b|before\b|there\b)": "is, are",
    r"\b[Bb]eside (?:it|them) stands?\b|\b[Bb]elow stands?\b": "is, are",
    r"\bli(?:e|es) (?:in|on a|on the disk|beside|outside of|apart|behind)\b": "is, are",
    r"(?<!there )(?<!that )(?<!what )(?<!value )\bis no (?:name|folder|adapter|model|number|clue|caption|character"
    r"|image|product|fault|key|object|text|JSON|change\b)": "is not a",
    r"\bwould assume other\b": "if the file would be read back differently",
    r"\bnot gone on\b": "not resumed",
    r"\bof another origin\b": "from elsewhere",
    r"\bare others; |\bsays other\b|\b(?:said|read|told) otherwise\b": "differs, is different",
    r"\bhas no place for\b|\bcannot be said in\b": "cannot store, does not support",
    r"\bof one's own\b": "your own",
    r"\bdesign\.md\b|\bFACTS(?: [A-Z]\b|\.md)": "a page that ships",
}
SUFFIXES = (".md", ".py", ".sh", ".yaml", ".js", ".html", ".css", ".toml")


def shipped() -> list[Path]:
    """The files of this repository that people read, but for the tests and what models are trained on."""
    folders = [ROOT / name for name in ("btcchat", "scripts", "examples", "datasets_mixture", "docs")]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    words = ROOT / "btcchat" / "assets" / "synthetic"
    return [path for path in found if words not in path.parents] + [ROOT / "CHANGELOG.md", *(ROOT / p for p in PAGES)]


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_does_not_come_back(phrase):
    pattern = re.compile(phrase)
    found = []
    for path in shipped():
        for match in pattern.finditer(" ".join(path.read_text(encoding="utf-8").split())):
            context = match.string[max(match.start() - 40, 0) : match.end() + 30]
            found.append(f"{path.relative_to(ROOT)}: ...{context}...")
    assert not found, f"write: {PHRASES[phrase]}"


def test_the_phrases_are_those_of_the_style_table():
    """Each pattern finds the phrase that it is for."""
    said = (
        "--resume True goes on with a stopped run. Flags go behind it. It is not to be had. Drawn anew. Mend that. "
        "attentive-0; less concat. Captions that cost nothing. A test with a clock. It is told. "
        "In front of its answer a turn must stand. Beside them stand others. It lies in a folder. It is no folder. "
        "Reading it again would assume other. It is not gone on with. "
        "A file of another origin. The weights are others; it says other. It has no place for one. A set of one's own. "
        "See design.md."
    )
    lower = said.lower().replace("design.md", "FACTS.md")
    assert [phrase for phrase in PHRASES if not re.search(phrase, lower)] == []
