"""The part of METEOR's table that a set of texts can use."""

import gzip

import pytest

from btcchat.errors import BTCChatError
from btcchat.eval.captions import paraphrases
from btcchat.eval.captions.paraphrases import write_relevant

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


def test_a_table_that_is_cut_off_is_an_error(tmp_path):
    data = gzip.compress("".join(LINES).encode())
    (tmp_path / "table.gz").write_bytes(data[:-10])
    with pytest.raises(BTCChatError, match="is cut off; install pycocoevalcap again"):
        write_relevant(tmp_path / "table.gz", ["house 0"], tmp_path / "out.gz")
