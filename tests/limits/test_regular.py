"""btcchat.limits.regular: inputs and outputs are regular files, or links to some."""

import os

import pytest

from btcchat.errors import BTCChatError
from btcchat.files import MOST_JSON, Appender, read_json, read_rows, write_json
from btcchat.limits import regular as limits
from btcchat.limits.regular import read_bounded, regular, writable

NOT_REGULAR = {
    "fifo": "not a regular file",
    "/dev/zero": "not a regular file",
    "/dev/full": "not a regular file",
    ".": "Is a directory",
    "nothing": "No such file or directory",
    "a\0b": "no file can have this name",
    "\ud800": "no file can have this name",
    "x" * 5000: "File name too long",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    return tmp_path


@pytest.mark.parametrize("name", NOT_REGULAR, ids=range(len(NOT_REGULAR)))
def test_anything_but_a_regular_file_is_an_os_error_with_the_reason(folder, name):
    for use in (regular, lambda name: read_bounded(name, 10)):
        with pytest.raises(OSError) as error:
            use(name)
        assert error.value.strerror == NOT_REGULAR[name]


@pytest.mark.parametrize("name", NOT_REGULAR, ids=range(len(NOT_REGULAR)))
def test_readers_of_json_report_it_in_one_line(folder, name):
    for use in (read_json, lambda name: list(read_rows(name))):
        with pytest.raises(BTCChatError, match=r"^[^\n]* (cannot be read|is missing)"):
            use(name)


@pytest.mark.parametrize("name", sorted(set(NOT_REGULAR) - {"nothing"}), ids=str.__len__)
def test_nothing_is_written_to_anything_but_a_regular_file(folder, name):
    for use in (lambda name: write_json(name, {}), Appender):
        with pytest.raises(BTCChatError, match=r"^[^\n]* cannot be written: [A-Za-z ]+$"):
            use(name)


def test_a_link_to_a_file_is_read(folder):
    (folder / "a.json").write_text('{"a": 1}')
    (folder / "link.json").symlink_to("a.json")
    assert read_json("link.json") == {"a": 1}


def test_an_output_through_a_link_changes_nothing_in_another_folder(folder, tmp_path):
    (folder / "out").mkdir()
    (folder / "mine.jsonl").write_text("{}\n")
    link = folder / "out" / "link.jsonl"
    link.symlink_to("../mine.jsonl")
    with pytest.raises(BTCChatError, match="a link to .*mine.jsonl, which is in another folder"):
        Appender(link)
    write_json(link, {"a": 1})  # replaces the link itself
    assert not link.is_symlink() and (folder / "mine.jsonl").read_text() == "{}\n"


def test_a_link_within_its_folder_is_appended_to(folder):
    (folder / "a.jsonl").write_text("{}\n")
    (folder / "link.jsonl").symlink_to("a.jsonl")
    appender = Appender(folder / "link.jsonl")
    appender.append([{"a": 1}])
    appender.close()
    assert (folder / "a.jsonl").read_text() == '{}\n{"a": 1}\n'
    (folder / "dangling").symlink_to("/nowhere/a.jsonl")
    with pytest.raises(OSError, match="in another folder"):
        writable(folder / "dangling", appended=True)


def test_a_file_that_is_too_large_is_not_read(folder, monkeypatch):
    (folder / "large.json").touch()
    os.truncate(folder / "large.json", MOST_JSON + 1)  # sparse: it takes no room on the disk
    with pytest.raises(BTCChatError, match="large.json cannot be read: larger than 268,435,456 bytes"):
        read_json(folder / "large.json")


def test_a_line_that_is_too_long_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("btcchat.files.MOST_JSON", 20)
    (folder / "rows.jsonl").write_text('{"a": 1}\n{"a": "' + "x" * 30 + '"}\n')
    rows = read_rows(folder / "rows.jsonl")
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(BTCChatError, match="rows.jsonl line 2 is longer than 20 bytes"):
        next(rows)


def test_a_folder_without_permission_is_an_os_error(monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(limits.os, "stat", denied)
    with pytest.raises(BTCChatError, match="a.json cannot be read: Permission denied"):
        read_json("a.json")
