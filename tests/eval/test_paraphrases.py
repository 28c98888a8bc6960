"""Extracting the part of METEOR's table that a set of texts can use."""

import gzip

import pytest

from btcchat.errors import BTCChatError
from btcchat.eval.captions import paraphrases
from btcchat.eval.captions.paraphrases import cache_folder, write_relevant

PAIRS = [(f"0.{number}", f"house {number}", f"building {number}") for number in range(40)]
LINES = ["\n".join(pair) + "\n" for pair in PAIRS]


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 16])
def test_pairs_all_of_whose_words_occur_are_kept_wherever_the_table_is_cut(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(paraphrases, "_CHUNK", chunk)
    with gzip.open(tmp_path / "table.gz", "wt") as file:
        file.writelines(LINES)
    texts = ["House 0, building 0.", "a house's building 39", "house 7", "5 building"]
    assert write_relevant(tmp_path / "table.gz", texts, tmp_path / "out.gz") == 4
    with gzip.open(tmp_path / "out.gz", "rt") as file:
        assert file.read() == "".join(LINES[number] for number in (0, 5, 7, 39))
    assert write_relevant(tmp_path / "table.gz", ["house building"], tmp_path / "out.gz") == 0


def test_a_truncated_table_is_an_error(tmp_path):
    data = gzip.compress("".join(LINES).encode())
    (tmp_path / "table.gz").write_bytes(data[:-10])
    with pytest.raises(BTCChatError, match="is truncated; reinstall pycocoevalcap"):
        write_relevant(tmp_path / "table.gz", ["house 0"], tmp_path / "out.gz")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table with an empty cache folder; ``passes`` counts how often the table is read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, passes, triples = tmp_path / "table.gz", [], paraphrases._triples
    path.write_bytes(gzip.compress("".join(LINES).encode()))
    monkeypatch.setattr(paraphrases, "_triples", lambda table: passes.append(table) or triples(table))
    return path, passes


def _written(table, texts, folder):
    count = write_relevant(table, texts, folder / "out.gz")
    with gzip.open(folder / "out.gz", "rt") as file:
        lines = file.read()
    assert lines.count("\n") == 3 * count
    return lines


def test_texts_of_known_words_do_not_go_through_the_table_again(table, tmp_path):
    path, passes = table
    assert _written(path, ["house 7 8", "building"], tmp_path) == LINES[7] + LINES[8]
    assert _written(path, ["house 8 building"], tmp_path) == LINES[8] and len(passes) == 1
    assert _written(path, ["house 9 building"], tmp_path) == LINES[9] and len(passes) == 2
    assert _written(path, ["house 9 7 building"], tmp_path) == LINES[7] + LINES[9] and len(passes) == 2


def test_a_cache_with_too_many_words_is_discarded(table, tmp_path, monkeypatch):
    monkeypatch.setattr(paraphrases, "MOST_WORDS", 4)
    path, passes = table
    for texts, count in ((["house building 1"], 1), (["house building 2 3"], 2), (["house building 1"], 3)):
        assert _written(path, texts, tmp_path) == "".join(LINES[int(n)] for n in texts[0].split()[2:])
        assert len(passes) == count


@pytest.mark.parametrize("fault", ["cut", "no gzip", "other words", "not lines of three", "another table", "a folder"])
def test_a_damaged_cache_or_one_of_another_table_is_ignored(table, tmp_path, fault):
    path, passes = table
    _written(path, ["house building 1"], tmp_path)
    kept = cache_folder() / "paraphrases.gz"
    content = gzip.decompress(kept.read_bytes())
    if fault == "cut":
        kept.write_bytes(kept.read_bytes()[:-10])
    elif fault == "a folder":
        kept.unlink()
        kept.mkdir()
    elif fault == "another table":
        path.write_bytes(gzip.compress("".join(LINES[:2] * 2).encode()))
    else:
        bad = {
            "no gzip": content,
            "other words": gzip.compress(b"[1]\n"),
            "not lines of three": gzip.compress(content + b"1\n"),
        }
        kept.write_bytes(bad[fault])
    expected = LINES[1] * (2 if fault == "another table" else 1)
    assert _written(path, ["house building 1"], tmp_path) == expected and len(passes) == 2
