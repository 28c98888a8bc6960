"""Which files of btcchat a pair goes through, from the command ``btcchat caption BEFORE AFTER`` to its text.

    python benchmarks/trace_files.py                        # the packaged example pair, the packaged tiny model
    python benchmarks/trace_files.py a.png b.png --model FOLDER

The command runs in this process. From the moment that it parses its words, every call of a function in btcchat/ is
noted. Importing a module, which runs its body and the bodies of its classes, is not a call, nor is anything that is
called meanwhile. One line a file, in the order in which they are entered, with the functions that were called; a file
that is entered only while the model is read from its checkpoint is marked.
"""

import argparse
import inspect
import sys
import threading
from pathlib import Path
from types import FrameType

import btcchat
from btcchat import cli
from btcchat.commands.caption import EXAMPLE
from btcchat.commands.options import load_model

PACKAGE = Path(btcchat.__file__).resolve().parent
PARSE = argparse.ArgumentParser.parse_args.__code__
LOAD = load_model.__code__


class Trace:
    """``files``: name -> function -> whether it was called outside of loading the model. Use it as a context."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bool]] = {}
        self._started = False
        self._names: dict[str, str | None] = {}  # file name of a code object -> the name in btcchat/, if it is there

    def __enter__(self) -> "Trace":
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call":
            return
        self._started = self._started or code is PARSE
        if not self._started or not code.co_flags & inspect.CO_OPTIMIZED:  # a body of a module or of a class
            return
        name = self._name(code.co_filename)
        if name is None:
            return
        function = getattr(code, "co_qualname", code.co_name).partition(".<locals>")[0]
        if self.files.get(name, {}).get(function):
            return
        callers = []
        while frame := frame.f_back:
            callers.append(frame.f_code)
        if any(_imports(caller.co_filename) for caller in callers):
            return
        functions = self.files.setdefault(name, {})
        functions[function] = functions.get(function, False) or LOAD not in callers

    def _name(self, file: str) -> str | None:
        if file not in self._names:
            path = Path(file).resolve()
            self._names[file] = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None
        return self._names[file]


def _imports(file: str) -> bool:
    return file.startswith("<frozen importlib")


def report(files: dict[str, dict[str, bool]]) -> str:
    lines = []
    for name, functions in files.items():
        loading = "" if any(functions.values()) else " (while the model is loaded)"
        lines.append(f"{name}{loading}: {', '.join(functions)}")
    loading = sum(not any(functions.values()) for functions in files.values())
    return "\n".join([*lines, f"{loading} of them only while the model is loaded", f"{len(files)} files"])


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", metavar="BEFORE AFTER", help="(default: the packaged example pair)")
    parser.add_argument("--model", help="checkpoint (default: the packaged tiny model)")
    options = parser.parse_args(words)
    images = options.images or [str(EXAMPLE / f"{name}.png") for name in ("before", "after")]
    command = ["caption", *images, "--device", "cpu", *(["--model", options.model] if options.model else [])]
    with Trace() as trace:
        code = cli.main(command)
    print(report(trace.files))
    return code


if __name__ == "__main__":
    sys.exit(main())
