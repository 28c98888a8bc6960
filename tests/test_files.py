"""btcchat.files: atomic writes, errors of one line, and JSON lines that survive a kill."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from btcchat import files
from btcchat.errors import BTCChatError
from btcchat.files import Appender, atomic_write, new_folder, read_json, read_rows, write_json, write_rows


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def message(call, *args, **kwargs) -> str:
    """The message of the BTCChatError that a call raises; it is one line."""
    with pytest.raises(BTCChatError) as raised:
        call(*args, **kwargs)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- atomic writes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_the_old_file_and_no_temporary_one(tmp_path, fault):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(fault), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise fault
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with atomic_write(tmp_path / "a.txt", sync=True) as part:
        part.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old" and part.parent == tmp_path and part.name.startswith(".")
        assert files.temporary_files(tmp_path) == [part]
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"


def test_two_writers_of_one_file_do_not_collide(tmp_path):
    with atomic_write(tmp_path / "a.txt") as first, atomic_write(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first " * 1000)
        second.write_text("second")
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "first " * 1000, "the last writer wins"


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
def test_a_file_has_ordinary_permissions_whichever_library_writes_it(tmp_path):
    umask = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.bin") as part:
            part.unlink()  # as a library does that renames its own file, for the owner only
            part.touch(0o600)
        write_json(tmp_path / "b.json", {})
    finally:
        os.umask(umask)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.bin", "b.json")] == [0o640, 0o640]


def test_missing_folders_are_created_and_a_name_of_any_length_works(tmp_path):
    name = "é" * 120 + ".json"  # 245 bytes; a temporary name with all of it would be too long
    write_json(tmp_path / "a" / "b" / name, {"é": 1})
    assert names(tmp_path / "a" / "b") == [name]


def test_a_file_that_cannot_be_written_is_an_error_with_path_reason_and_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    assert (
        message(write_json, tmp_path / "file" / "a.json", {})
        == f"{tmp_path}/file/a.json cannot be written: Not a directory"
    )
    assert message(write_json, tmp_path, {}, way_out="give a file") == (
        f"{tmp_path} cannot be written: Is a directory; give a file"
    )

    def taken():
        with atomic_write(tmp_path):
            pytest.fail("the folder was noticed only after the work")

    assert message(taken) == f"{tmp_path} cannot be written: Is a directory"

    def full():
        with atomic_write(tmp_path / "a.png", name="--out a.png"):
            raise OSError("encoder error -2\nwhen writing image file")  # Pillow's own have no errno

    assert message(full) == "--out a.png cannot be written: encoder error -2 when writing image file"
    assert names(tmp_path) == ["file"]


def test_an_error_about_another_file_is_not_reported_as_a_write_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.txt"), atomic_write(tmp_path / "a.txt") as part:
        part.write_text((tmp_path / "source.txt").read_text())
    with pytest.raises(FileNotFoundError, match=r"source\.txt"), new_folder(tmp_path / "out"):
        (tmp_path / "source.txt").read_text()
    assert names(tmp_path) == []


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["a.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "empty") as folder:
        (folder / "a.txt").write_text("a")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["empty", "out"] and names(tmp_path / "empty") == []

    def full(path):
        with new_folder(path) as folder:
            raise OSError(28, "No space left on device", str(folder / "a.txt"))

    words = "other cannot be written: No space left on device; free some space, or give another folder"
    assert message(full, tmp_path / "other").endswith(words)
    assert "out already exists; give a new folder" in message(full, tmp_path / "out")
    assert "a.txt is not a writable folder" in message(full, tmp_path / "out" / "a.txt" / "b")


# -- JSON ------------------------------------------------------------------------------------------------------------

BROKEN = {
    b"": "is not JSON (Expecting value, column 1)",
    b'{"a": 1': "is not JSON (Expecting ',' delimiter, column 8)",
    b'{"a": 1,\n "b"}': "is not JSON (Expecting ':' delimiter, line 2, column 5)",
    b'{"a": "caf\xe9"}': "is not UTF-8 (byte 11; save it as UTF-8)",
    b"[" * 100_000: "is not JSON (nested too deeply)",
    b'{"a": ' + b"9" * 5000 + b"}": "is not JSON (a number with too many digits)",
    b"[1]": "holds a list, expected an object {...}",
    b"true": "holds true or false, expected an object {...}",
    b"{}": "has no 'a'",
}


@pytest.mark.parametrize("content", BROKEN, ids=[words[:40] for words in BROKEN.values()])
def test_every_kind_of_broken_json_is_an_error_of_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    got = message(read_json, tmp_path / "a.json", "a", way_out="save it again")
    assert got == f"{tmp_path}/a.json {BROKEN[content]}; save it again"


def test_broken_json_without_a_way_out_of_its_own_has_the_general_one(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert message(read_json, tmp_path / "a.json").endswith("); correct the file or get it again")


def test_a_json_file_that_is_missing_or_a_folder_is_an_error_of_one_line(tmp_path):
    gone = tmp_path / "a.json"
    assert message(read_json, gone) == f"{gone} is missing"
    assert message(read_json, gone, way_out="save it again") == f"{gone} is missing; save it again"
    assert (
        message(read_json, gone, missing="every run has one", way_out="no") == f"{gone} is missing; every run has one"
    )
    assert message(read_json, tmp_path) == f"{tmp_path} cannot be read: Is a directory"


def test_json_is_read_back_as_written(tmp_path):
    value = {"b": "é – \ud83d", "a": [1, None, {"c": "\u2028"}]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", "a", "b") == value
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "b": "é – \\ud83d",\n')
    write_json(tmp_path / "a.json", value, sort_keys=True)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "a": [\n') and text.endswith("}\n")
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + text.encode())  # a byte order mark, as Windows editors write
    assert read_json(tmp_path / "a.json") == value


def test_a_value_that_json_cannot_store_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": tmp_path})
    with pytest.raises(TypeError):
        write_rows(tmp_path / "a.json", [{}, {"a": tmp_path}])
    assert names(tmp_path) == ["a.json"] and read_json(tmp_path / "a.json") == {"a": 1}


# -- JSON lines ------------------------------------------------------------------------------------------------------


def test_rows_are_read_back_with_their_line_numbers(tmp_path):
    rows = [{"a": "one\u2028line\x85"}, {"a": "\udcff, half of a pair"}]
    write_rows(tmp_path / "a.jsonl", rows)
    assert list(read_rows(tmp_path / "a.jsonl")) == list(enumerate(rows, start=1))
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert list(read_rows(tmp_path / "a.jsonl", whole=True)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"a": 1', "not JSON (Expecting ',' delimiter, column 8); expected one object per line"),
        (b'{"a": "caf\xe9"}', "not UTF-8 (byte 11; save it as UTF-8); expected one object per line"),
        (b"[" * 100_000, "not JSON (nested too deeply); expected one object per line"),
        (b"[1, 2]", "got a list, expected one object {...} per line"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\n\n", b'\n{"a": 3}\n'])
def test_a_line_that_is_not_a_row_is_an_error_that_names_it(tmp_path, line, words, end):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + line + end)
    assert message(lambda: list(read_rows(tmp_path / "a.jsonl"))) == f"{tmp_path}/a.jsonl line 2: {words}"
    got = message(lambda: list(read_rows(tmp_path / "a.jsonl", "is no clue; choose another folder")))
    assert got == f"{tmp_path}/a.jsonl line 2 is no clue; choose another folder"


def test_a_jsonl_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path):
    assert (
        message(lambda: list(read_rows(tmp_path / "no"))) == f"{tmp_path}/no cannot be read: No such file or directory"
    )


def test_a_last_line_truncated_by_a_kill_is_dropped_and_the_next_append_continues(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    rows = [{"a": "é"}, {"b": 2}, {"c": 3}]
    write_rows(path, rows[:2])
    whole = path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert list(read_rows(path)) == [(1, rows[0])]
        appender = Appender(path)
        appender.append(rows[1:2])
        appender.append(rows[2:])
        appender.close()
        assert list(read_rows(path, whole=True)) == list(enumerate(rows, start=1))
    assert f"{path}: its last line was cut short" in caplog.text


def test_a_last_line_without_newline_is_read_in_a_file_from_elsewhere(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": ')
    assert "line 2: not JSON" in message(lambda: list(read_rows(tmp_path / "a.jsonl", whole=True)))
    (tmp_path / "a.jsonl").write_text("my notes, which must not be lost")
    assert "line 1: not JSON" in message(lambda: list(read_rows(tmp_path / "a.jsonl")))


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_on_a_full_disk_an_append_writes_all_rows_or_none(tmp_path):
    """A limit on the size of a file interrupts a write, as a full disk does."""
    script = (
        "import resource, signal, sys; from btcchat.files import Appender\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "rows = Appender(sys.argv[1], name='--out a.jsonl', way_out='make room')\n"
        "for n in range(9): rows.append([{'n': n, 'text': 'x' * 20}, {'n': -n, 'text': 'y' * 20}])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.jsonl")], capture_output=True, text=True)
    assert "BTCChatError: --out a.jsonl cannot be written: File too large; make room" in done.stderr
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["n"] for row in found] == [0, 0]


def test_files_imports_only_the_standard_library():
    code = "import sys; before = set(sys.modules); import btcchat.files; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("btcchat")}
    others = {name.partition(".")[0] for name in loaded} - {"btcchat"} - set(sys.stdlib_module_names)
    own = ("errors", "files", "outputs", "outputs.lock", "limits", "limits.regular")
    assert ours <= {"btcchat", *(f"btcchat.{name}" for name in own)} and not others
