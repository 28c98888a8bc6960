"""Children and temporary folders do not outlive a command, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds to wait for an end; the children would sleep for 600
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")
POOL = """
import sys, time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from btcchat.console.children import process_pool
from btcchat.console.signals import clean_exit

def work(folder):
    with TemporaryDirectory(dir=folder) as own:
        Path(own, "child").touch()
        Path(folder, "child.pid").write_text(str(__import__("os").getpid()))
        time.sleep(600)

@clean_exit
def main():
    with process_pool(2, get_context("spawn")) as pool:
        list(pool.map(work, [sys.argv[1]]))

if __name__ == "__main__":
    sys.exit(main())
"""
IGNORED = """
import os, signal, sys, time
from btcchat.console.signals import clean_exit

def interrupt(times=[]):
    if len(times) < 2:  # the second one is that of the first, raised again
        times.append(1)
        os.kill(os.getpid(), getattr(signal, sys.argv[1])) if len(times) == 1 else time.sleep(1)

class Iterator:
    __del__ = lambda self: interrupt()

@clean_exit
def main():
    if sys.argv[2] == "fork":
        os.register_at_fork(after_in_parent=interrupt)
    while True:
        if sys.argv[2] == "fork":
            os.fork() or os._exit(0)
        else:
            Iterator()
        time.sleep(0.1)

sys.exit(main())
"""


def start(tmp_path, *command) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    options = {"env": environment, "stderr": subprocess.PIPE, "text": True, "preexec_fn": _heed}
    return subprocess.Popen([sys.executable, *map(str, command)], **options)


def _heed() -> None:
    """Undo that a shell ignores Ctrl-C in background jobs, which their children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pid_in(path: Path) -> int:
    for _ in range(600):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def ended(pid: int) -> bool:
    """Whether the process ends, waiting for it if necessary."""
    for _ in range(20 * PATIENCE):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (signal.SIGTERM, 143, "btcchat: terminated\n"),
        (signal.SIGINT, 130, "btcchat: interrupted\n"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_java_ends_with_the_command_and_its_folder_is_removed(tmp_path, end, code, words):
    pytest.importorskip("pycocoevalcap")
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/java.pid\nexec sleep 600\n")
    java.chmod(0o755)
    rows = [{"id": n, "prediction": "a house", "references": ["a house is built"]} for n in "ab"]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = start(tmp_path, "-m", "btcchat", "score", tmp_path / "p.jsonl", "--java", java)
    pid = pid_in(tmp_path / "java.pid")
    process.send_signal(end)
    assert process.communicate(timeout=PATIENCE)[1] == words and process.returncode == code
    assert ended(pid)
    left = [path.name for path in (tmp_path / "tmp").glob("btcchat-*")]
    assert not left or end == signal.SIGKILL  # which leaves no time to clean up


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_processes_of_a_pool_end_with_the_command_and_remove_their_folders(tmp_path, end, code):
    (tmp_path / "pool.py").write_text(POOL)
    process = start(tmp_path, tmp_path / "pool.py", tmp_path)
    pid = pid_in(tmp_path / "child.pid")
    process.send_signal(end)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert ended(pid)
    assert not list(tmp_path.rglob("child")) or end == signal.SIGKILL


@pytest.mark.parametrize("where", ["fork", "del"])
@pytest.mark.parametrize(
    ("end", "code", "words"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_is_not_lost_where_python_ignores_exceptions(tmp_path, end, code, words, where):
    (tmp_path / "ignored.py").write_text(IGNORED)
    process = start(tmp_path, tmp_path / "ignored.py", end.name, where)
    try:
        assert process.communicate(timeout=30)[1] == f"btcchat: {words}\n" and process.returncode == code
    finally:
        process.kill()


def test_a_child_ends_whose_parent_died_while_it_was_starting(tmp_path):
    (tmp_path / "early.py").write_text(
        "import os, sys, time\nfrom multiprocessing import get_context\nfrom pathlib import Path\n"
        "from btcchat.console.children import end_with_parent\n"
        "def work(folder):\n    parent = os.getppid()\n"
        "    Path(folder, 'child.pid').write_text(str(os.getpid()))\n"
        "    while os.getppid() == parent:\n        time.sleep(0.1)\n"
        "    end_with_parent()\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    get_context('spawn').Process(target=work, args=sys.argv[1:]).start()\n    time.sleep(600)\n"
    )
    process = start(tmp_path, tmp_path / "early.py", tmp_path)
    pid = pid_in(tmp_path / "child.pid")
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert ended(pid)


def test_data_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "loader.py").write_text(
        "import os, sys, time\nfrom pathlib import Path\nfrom torch.utils.data import DataLoader\n"
        "from btcchat.console.children import end_with_parent\n"
        "def item(batch):\n    Path(sys.argv[1]).write_text(str(os.getpid()))\n    time.sleep(600)\n"
        "next(iter(DataLoader([1], collate_fn=item, num_workers=1, worker_init_fn=end_with_parent)))\n"
    )
    process = start(tmp_path, tmp_path / "loader.py", tmp_path / "worker.pid")
    pid = pid_in(tmp_path / "worker.pid")
    process.kill()
    process.communicate()
    assert ended(pid)
