"""A lock names its owner, ends with its process, and is taken over from a dead one."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from btcchat.errors import BTCChatError
from btcchat.outputs.lock import Lock, beside, check_free

HOLD = "import sys, time; from pathlib import Path; from btcchat.outputs.lock import Lock\n"
HOLD += "lock = Lock(Path(sys.argv[1]), 'it'); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".lock"


@pytest.fixture
def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def refused(path) -> str:
    with pytest.raises(BTCChatError) as error:
        Lock(path, "--out X")
    return str(error.value)


def test_the_error_names_the_process_and_its_machine(path, holder):
    words = f"--out X is being written by process {holder.pid} on {socket.gethostname()}; wait for it, or give another"
    assert refused(path) == f"{words} one"
    with pytest.raises(BTCChatError, match="is being written by process"):
        check_free(path, "--out X")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_process_is_taken_over(path, holder, end):
    holder.send_signal(end)
    holder.wait()
    assert path.exists()  # it was left
    with Lock(path, "it"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_the_lock_of_another_machine_stays_until_its_file_is_removed(path):
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    assert refused(path).endswith(
        f"process 1 on elsewhere; wait for it, or give another one, or, if that process is gone, remove {path}"
    )
    path.unlink()
    Lock(path, "it").release()


def test_without_file_system_locks_the_process_is_checked(path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.write_text(json.dumps({"pid": dead.pid, "host": socket.gethostname()}))
    Lock(path, "it").release()
    path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    assert f"process {os.getpid()} on" in refused(path)


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"pid": "x"}'])
def test_a_lock_file_without_an_owner_is_taken_over(path, content):
    path.write_text(content)
    Lock(path, "it").release()


def test_a_forked_child_does_not_hold_its_parents_lock(path):
    lock = Lock(path, "it")
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b"runs")
        time.sleep(30)
        os._exit(0)
    assert os.read(reads, 4) == b"runs"
    os.close(lock._file)  # as if the parent had died
    try:
        Lock(path, "it").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        from btcchat.outputs import lock as module

        module._held.discard(lock)


def test_a_lock_knows_that_its_folder_was_deleted(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with Lock(folder / ".lock", "it") as lock:
        assert lock.holds()
        folder.rename(tmp_path / "gone")
        assert not lock.holds()
        folder.mkdir()
        Lock(folder / ".lock", "it").release()


def test_two_names_of_a_file_have_one_lock(tmp_path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert beside(tmp_path / "link.jsonl") == beside(tmp_path / "a.jsonl") == tmp_path / ".a.jsonl.lock"
    long = [beside(tmp_path / ("x" * 200 + end)) for end in "ab"]
    assert long[0] != long[1] and all(len(path.name) < 80 for path in long)


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path):
    with pytest.raises(BTCChatError, match="it cannot be written: No such file or directory"):
        Lock(tmp_path / "none" / ".lock", "it")


def test_a_full_disk_is_a_one_line_error_and_leaves_no_lock(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert refused(path) == "--out X cannot be written: No space left on device; free some space"
    assert not path.exists()
