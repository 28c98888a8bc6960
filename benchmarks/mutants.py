"""Do the tests notice faults? Put one small fault at a time into the package, and run the tests that cover its line.

  pip install pytest-cov
  python benchmarks/mutants.py cover            run the tests that are not slow, to record the lines they cover
  python benchmarks/mutants.py listed           the faults of mutants_listed.py, which the tests once missed
  python benchmarks/mutants.py drawn --count 200 --seed 0 > drawn.md    a random sample over the core files
  python benchmarks/mutants.py drawn --again drawn.md tests/media       its survivors again, with more tests

A mutant is killed when a test fails or takes too long, and survives when all pass. Prints a Markdown table.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import accelerate  # noqa: F401 - packages that tests import are imported here once; each mutant runs in a fork
import av  # noqa: F401
import hypothesis  # noqa: F401
import numpy  # noqa: F401
import peft  # noqa: F401
import pydantic  # noqa: F401
import pytest
import rasterio  # noqa: F401
import torch
import transformers.models.llama.modeling_llama  # noqa: F401

from mutants_listed import listed
from mutations import ROOT, Mutation, mutations

CORE = (
    "model.py", "merge.py", "processor.py", "generation.py", "change_encoder", "prompt", "decoding", "layers",
    "data/records", "data/mixture", "data/changed.py", "eval/captions", "eval/answers", "eval/maps", "media",
    "multimodal_projector",
)  # fmt: skip
COVERED = ROOT / ".mutants.db"  # test, seconds, file, line; git-ignored
PLUGINS = ("-p", "pytest_timeout", "-o", "timeout=0", "-p", "no:cacheprovider")  # for pytest on a mutant
SECONDS = 120  # of tests per mutant: those of its part first, then the quickest


def cover(tests: Sequence[str]) -> None:
    """Run the tests that are not slow (or the given ones) and record the lines of the package that each covers."""
    seconds: dict[str, float] = {}
    failed: set[str] = set()

    class Results:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
            if report.failed:
                failed.add(report.nodeid)

    os.environ["COVERAGE_FILE"] = coverage_file = str(COVERED.with_suffix(".coverage"))
    options = ["-q", "-m", "not slow", "--cov=btcchat", "--cov-context=test", "--cov-report=", "-p", "no:cacheprovider"]
    if (code := pytest.main([*options, *tests], plugins=[Results()])) > pytest.ExitCode.TESTS_FAILED:
        sys.exit(f"mutants: the tests could not be run (pytest ended with {code})")
    for test in sorted(failed):
        print(f"mutants: {test} fails without a mutant and is left out", file=sys.stderr)
    from coverage import CoverageData

    data = CoverageData(coverage_file)
    data.read()
    COVERED.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(COVERED)) as table:
        table.execute("create table covered (test, seconds, file, line)")
        for path in data.measured_files():
            file = os.path.relpath(path, ROOT)
            for line, contexts in data.contexts_by_lineno(path).items():
                tests = {context.rpartition("|")[0] for context in contexts} - {"", *failed}
                rows = [(test, seconds.get(test, 0.0), file, line) for test in sorted(tests)]
                table.executemany("insert into covered values (?, ?, ?, ?)", rows)
        table.execute("create index place on covered (file, line)")
        table.commit()
    Path(coverage_file).unlink()


def known_tests() -> set[str]:
    """The tests that exist now; for a test renamed since `cover`, pytest would report an error."""
    found: set[str] = set()

    class Collected:
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            found.update(item.nodeid for item in items)

    with tempfile.TemporaryFile("w+") as names:
        if not (pid := os.fork()):  # so that this process imports nothing of btcchat
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.chdir(ROOT)
            pytest.main(["-q", "--collect-only", "-p", "no:cacheprovider"], plugins=[Collected()])
            names.write("\n".join(found))
            names.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        names.seek(0)
        return set(names.read().split("\n"))


def tests_of(mutation: Mutation, known: set[str], most: float) -> list[str]:
    """Tests that cover the mutated lines, for ``most`` seconds: those of its part first, then the quickest."""
    last = mutation.line + mutation.old.count("\n")
    with contextlib.closing(sqlite3.connect(COVERED)) as table:
        query = "select distinct test, seconds from covered where file = ? and line between ? and ?"
        rows = table.execute(query, (mutation.file, mutation.line, last)).fetchall()
    part = Path(mutation.file).parts[1].removesuffix(".py")
    rows = [row for row in rows if row[0] in known]
    rows.sort(key=lambda row: (part not in row[0].partition("::")[0], row[1]))
    chosen, total = [], 0.0
    for test, seconds in rows:
        total += seconds
        if chosen and total > most:
            break
        chosen.append(test)
    return chosen


def run(copy: Path, mutation: Mutation, tests: Sequence[str]) -> str:
    """``killed``, ``killed by time`` or ``survived``. copy: a copy of the repository, which is restored."""
    if not tests:
        return "survived: no test covers this line"
    file = copy / mutation.file
    text = file.read_text(encoding="utf-8")
    file.write_text(mutation.apply(text), encoding="utf-8")
    try:
        code = _forked(copy, tests)
    finally:
        file.write_text(text, encoding="utf-8")
    return "killed by time" if code is None else "survived" if code == 0 else "killed"


def _forked(copy: Path, tests: Sequence[str]) -> int | None:
    """Run the tests in a fork of this process; -> their exit status, None if they take too long.

    The limit is on CPU time, so that no mutant is killed because the machine is busy, and on wall-clock time for tests
    that only wait.
    """
    pid = os.fork()
    if not pid:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS + 5))
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1)
            os.dup2(null.fileno(), 2)
        code = 1
        try:
            code = int(pytest.main(["-x", "-q", *PLUGINS, *tests]))
        finally:  # even after SystemExit: what this process would clean up belongs to its parent
            os._exit(code)
    end = time.monotonic() + 10 * SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == -signal.SIGXCPU else code
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A copy of the repository, with the same ../shared beside it."""
    folder = Path(tempfile.mkdtemp())  # a fork that runs Python's exit functions would remove a TemporaryDirectory
    try:
        copy = folder / "btcchat"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache"))
        if (shared := ROOT.parent / "shared").is_dir():
            (folder / "shared").symlink_to(shared.resolve())
        yield copy
    finally:
        shutil.rmtree(folder)


def core_files() -> list[str]:
    """The core files, relative to the root, sorted."""
    found: list[Path] = []
    for name in CORE:
        path = ROOT / "btcchat" / name
        found += [path] if path.is_file() else path.rglob("*.py")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def drawn(count: int, seed: int) -> list[Mutation]:
    """A random sample of ``count`` mutations of the core files."""
    found = [mutation for file in core_files() for mutation in mutations(file)]
    return random.Random(seed).sample(found, min(count, len(found)))


def report(chosen: Sequence[Mutation], first: Sequence[str] = (), seconds: float = SECONDS) -> int:
    """Try the mutations; print the counts and the survivors, and return how many survived.

    first: tests to run before those known to cover the line, such as new ones. seconds: limit for the latter.
    """
    torch.set_num_threads(1)
    results: list[tuple[Mutation, str]] = []
    known = set() if all(mutation.tests for mutation in chosen) else known_tests()
    tests = {mutation: [*first, *(mutation.tests or tests_of(mutation, known, seconds))] for mutation in chosen}
    with copied() as copy:
        for test_list in {tuple(tests[mutation]) for mutation in chosen[:5]} - {()}:
            if _forked(copy, test_list):
                sys.exit(f"mutants: tests fail without a mutant, among {', '.join(test_list[:3])} ...")
        for number, mutation in enumerate(chosen, 1):
            results.append((mutation, run(copy, mutation, tests[mutation])))
            print(f"{number}/{len(chosen)} {results[-1][1]}: {mutation}", file=sys.stderr, flush=True)
    print("| operator | mutants | killed | survived |\n|---|---|---|---|")
    total = Counter(mutation.operator for mutation, _ in results)
    killed = Counter(mutation.operator for mutation, result in results if result.startswith("killed"))
    for operator, all_ in sorted(total.items()):
        print(f"| {operator} | {all_} | {killed[operator]} | {all_ - killed[operator]} |")
    print(f"| all | {total.total()} | {killed.total()} | {total.total() - killed.total()} |\n")
    for mutation, result in results:
        if result.startswith("survived"):
            print(f"- {result}: `{mutation}`")
    return total.total() - killed.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cover", "listed", "drawn"))
    parser.add_argument(
        "tests", nargs="*", help="with cover: run these tests instead of all; with drawn: run these first"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"seconds of tests per mutant (default {SECONDS})"
    )
    parser.add_argument("--again", metavar="FILE", help="with drawn: only the survivors in this report")
    parser.add_argument("--count", type=int, default=200, help="mutants to draw (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    args = parser.parse_intermixed_args()
    if args.what == "cover":
        return cover(args.tests)
    if args.what == "drawn" and not COVERED.is_file():
        parser.error("the coverage is missing; first run python benchmarks/mutants.py cover")
    chosen = listed() if args.what == "listed" else drawn(args.count, args.seed)
    if args.again:
        earlier = Path(args.again).read_text(encoding="utf-8")
        chosen = [mutation for mutation in chosen if f"`{mutation}`" in earlier]
    survived = report(chosen, args.tests, args.seconds)
    if args.what == "listed" and survived:
        sys.exit(1)


if __name__ == "__main__":
    main()
