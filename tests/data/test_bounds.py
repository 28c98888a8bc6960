"""Data sets with huge or impossible values: a one-line error, before memory or time is spent."""

import io
import json
import os
import tarfile
import time
import tracemalloc

import pytest
from PIL import Image

from btcchat.data.mixture.descriptions import read_file
from btcchat.data.mixture.mixture import build_datasets
from btcchat.data.mixture.terms import terms
from btcchat.data.records import Records, parse
from btcchat.data.records import shards as shard_files
from btcchat.data.records.shards import TarShards
from btcchat.errors import BTCChatError
from btcchat.media import images, load_frames
from btcchat.media.source import existing_file, natural_key

SET = {"annotation": "a.jsonl", "images": "."}
CHAIN = {f"m{i}": {"mixture": f"m{i + 1}"} for i in range(3000)} | {"m3000": {"mixture": "a"}}
DOUBLES = {f"d{i}": {"mixture": f"d{i + 1}+d{i + 1}"} for i in range(40)} | {"d40": {"mixture": "a"}}
KNOWN = {"a": SET, **CHAIN, **DOUBLES, "thousand": {"mixture": "a*1000"}, "million": {"mixture": "thousand*1000"}}


def refused(use, words: str) -> None:
    """``use`` is refused with a one-line error, at once and within 50 MB."""
    begun = time.process_time()
    tracemalloc.start()
    with pytest.raises(BTCChatError, match=words) as error:
        use()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(error.value) and peak < 50e6 and time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("mixture", "words"),
    [
        ("m0", "data mixture 'm0' is nested more than 50 mixtures deep"),
        ("d0", "lists more than 10,000 sets"),
        ("a*10001", "lists more than 10,000 sets"),
        ("million*999999999", "lists more than 10,000 sets"),
        ("a*" + "9" * 5000, "is not a set's name, or NAME.TIMES with TIMES >= 1"),
        ("a*²", "is not a set's name, or NAME.TIMES"),
        ("a@first:" + "9" * 5000, "is neither all, first:N"),
        ("a@first:²", "is neither all, first:N"),
        ("+".join(["a"] * 10_001), "lists more than 10,000 sets"),
    ],
    ids=range(9),
)
def test_a_mixture_of_too_many_sets_is_refused(mixture, words):
    refused(lambda: terms(mixture, KNOWN), words)


def test_a_mixture_of_many_sets_is_read():
    assert len(terms("thousand*10", KNOWN)) == 10_000 and len(terms("m2960", KNOWN)) == 1


DESCRIPTIONS = {
    "annotation: 5": "annotation is 5, expected a string or a list",
    "annotation: ": "annotation is None, expected a string",
    "annotation: []": "annotation is",
    "annotation: [a, 1]": r"annotation\[1\] is 1, expected a string",
    "annotation: a, images: [a]": r"images is \['a'\], expected a string",
    "annotation: a, sampling: 5": "sampling is 5, expected a string",
    "annotation: a, splits: train": "splits is 'train', expected a list",
    "annotation: a, splits: [1]": r"splits\[0\] is 1, expected a string",
    "annotation: a, splits: {a: b}": "splits is {'a': 'b'}, expected a list",
    "annotation: a, streaming: maybe": "streaming is 'maybe', expected true or false",
    "annotation: a, gsd: large": "gsd is 'large', expected a number",
    "annotation: a, gsd: 0": "gsd is 0, expected more than 0",
    "annotation: a, 5: 6": "unknown key '5'",
    "mixture: 5": "mixture is 5, expected a string",
    "mixture: [a]": r"mixture is \['a'\], expected a string",
}


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_a_value_of_a_wrong_type_is_named(tmp_path, text):
    (tmp_path / "sets.yaml").write_text(f"mine: {{{text}}}\n")
    refused(lambda: read_file(tmp_path / "sets.yaml"), f"sets.yaml: data set 'mine'.*{DESCRIPTIONS[text]}")


@pytest.mark.parametrize("annotation", ["{split:>999999999}", "{split.__class__}", "{0}", "{", "{x}{split}"])
def test_only_the_name_of_the_split_is_replaced_in_an_annotation(annotation):
    known = {"mine": {"annotation": annotation, "images": ".", "splits": ["val"]}}
    [term] = terms("mine:val", known)
    assert term.description["annotation"] == annotation.replace("{split}", "val")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("s3://b/a.jsonl", "annotation s3://b/a.jsonl is an address"),
        ("gs://b/a.parquet", "annotation gs://b/a.parquet is an address"),
        ("foo://b/a.tar", "tar shard foo://b/a.tar cannot be read: Protocol not known"),
        ("shard-{0..400000000}.tar", "must count up and name at most 100,000 shards"),
        ("shard-{5..1}.tar", "must count up"),
        ("shard-{0..%s}.tar" % ("9" * 5000), "must count up"),
        ("fifo", "annotation file .*fifo cannot be read: not a regular file"),
        ("/dev/zero", "annotation file /dev/zero cannot be read: not a regular file"),
        ("fifo.tar", "tar shard .*fifo.tar cannot be read: .*not a regular file"),
        ("a\\0b.tar", "no tar shard"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("a\\0b", "no file can have this name"),
        ("\\ud800", "no file can have this name"),
    ],
    ids=range(13),
)
def test_an_annotation_that_is_not_a_file_is_refused(tmp_path, annotation, words):
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "sets.yaml").write_text(f'mine: {{annotation: "{annotation}"}}\n')

    def read():
        mixture = build_datasets(str(tmp_path / "sets.yaml"), lambda record: record, data_root=tmp_path)
        next(iter(mixture.some(1)))

    refused(read, words)


# -- tar shards ------------------------------------------------------------------------------------------------------


class Zeros(io.RawIOBase):
    """Many zero bytes without using memory."""

    def __init__(self, size: int):
        self.left = size

    def read(self, size: int = -1) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


def write_tar(path, members: list[tuple[str, int, bytes]]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, size, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = size, kind
            tar.addfile(info, Zeros(size))


@pytest.mark.parametrize(
    "members",
    [
        [("0001.png", 60_000_000, tarfile.REGTYPE)],
        [(f"0001.{number}.png", 600_000, tarfile.REGTYPE) for number in range(20)],
        [("long", 60_000_000, tarfile.GNUTYPE_LONGNAME)],
        [("pax", 60_000_000, tarfile.XHDTYPE)],
    ],
    ids=["one member", "many of one sample", "a name", "a header"],
)
def test_the_memory_for_a_tar_shard_is_bounded(tmp_path, monkeypatch, members):
    monkeypatch.setattr(shard_files, "MOST_BYTES", 10_000_000)
    write_tar(tmp_path / "a.tar.gz", members)
    shards = TarShards([str(tmp_path / "a.tar.gz")], ".")
    refused(lambda: list(shards.rows(0)), "tar shard .*a.tar.gz.*(more than 10,000,000 bytes|a header has 60,000,000)")


def test_a_truncated_shard_is_a_one_line_error(tmp_path):
    write_tar(tmp_path / "a.tar.gz", [("0001.png", 500_000, tarfile.REGTYPE)])
    (tmp_path / "a.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-300])
    refused(lambda: list(TarShards([str(tmp_path / "a.tar.gz")], ".").rows(0)), "a.tar.gz cannot be read")


# -- rows ------------------------------------------------------------------------------------------------------------

TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A house."}]
ROW = {"modality": "pair", "images": ["a.png", "b.png"], "conversations": TURNS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "\ud800"}, r"a text has \\ud800 at position 1, which is not a character"),
        ({"dates": ["a", "b\udcff"]}, r"a date has \\udcff at position 2"),
        ({"conversations": [TURNS[0], {"from": "gpt", "value": "a \ud800"}]}, r"a text has \\ud800 at position 3"),
        ({"images": [{"bytes": b"x", "path": "a", "more": 1}, "b"]}, "an object with bytes, more, path in 'images'"),
        ({"images": [b"", 5]}, "5 in 'images', expected a path, or an object with bytes and path"),
        ({"images": [10**400, "b"]}, "10+ in 'images', expected a path"),
    ],
)
def test_a_row_with_an_invalid_value_is_a_one_line_error(changes, words):
    refused(lambda: parse(ROW | changes, "a.jsonl row 1", "."), f"a.jsonl row 1: {words}")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[[" + "[" * 200_000, "[{}" + "9" * 6000, "[NaN]"])
def test_deeply_nested_json_is_a_one_line_error(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    refused(lambda: Records(tmp_path / "a.json", "."), "a.json row 1")


def test_a_row_of_very_many_captions_is_counted(tmp_path):
    row = ROW | {"captions": ["A house."] * 40_000}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert Records(tmp_path / "a.jsonl", ".").num_captions[0] == 40_000


# -- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800", "fifo", "/dev/zero"], ids=range(5))
def test_an_impossible_image_name_is_a_one_line_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    refused(lambda: existing_file(name, "image"), "cannot be read: (File name too long|no file can|not a regular)")


def test_the_pixels_of_a_sample_are_counted_together(tmp_path, monkeypatch, opened):
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    Image.new("RGB", (6, 6)).save(tmp_path / "a.png")
    assert len(load_frames("pair", [tmp_path / "a.png"] * 2)) == 2
    opened.clear()
    words = "the first 3 of 16 images have 108 pixels together, but a sample may only have 100"
    refused(lambda: load_frames("series", [tmp_path / "a.png"] * 16), words)
    assert len(opened) == 3


def test_a_name_of_many_digits_is_sorted():
    assert natural_key("9" * 255) > natural_key("1") and natural_key("1" * 6000)
