"""Which files of btcchat a pair passes through in ``btcchat caption BEFORE AFTER``, from the command to the caption.

    python benchmarks/trace_files.py                        # the packaged example pair, the packaged tiny model
    python benchmarks/trace_files.py a.png b.png --model FOLDER

The command runs in this process. Once it parses its arguments, every call of a function in btcchat/ is recorded.
Importing a module (which runs its body and the bodies of its classes) does not count as a call, nor does anything
called meanwhile. The files that are entered form four groups:

    way       passes the pair on: a function of the file calls one in another file of the package
    step      does its work and returns; it can be read on its own
    part      belongs to an exchangeable part (tower, change encoder, projector, layers); another part has other files
    loading   is entered only while the model is loaded from its checkpoint

To learn how a pair becomes text, read the files of the first group.
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
PARSE = argparse.ArgumentParser.parse_known_args.__code__
LOAD = load_model.__code__


PARTS = ("change_encoder/", "multimodal_encoder/", "multimodal_projector/", "language_model/", "layers/")
GROUPS = ("way", "step", "part", "loading")


class Trace:
    """A context manager that records calls. ``files``: name -> function -> whether it was called outside of loading.

    ``handing_on``: files with a function that, outside of loading, called one in another file.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bool]] = {}
        self.handing_on: set[str] = set()
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
        if not self._started or not code.co_flags & inspect.CO_OPTIMIZED:  # the body of a module or of a class
            return
        name = self._name(code.co_filename)
        if name is None:
            return
        function = getattr(code, "co_qualname", code.co_name).partition(".<locals>")[0]
        callers = []
        while frame := frame.f_back:
            callers.append(frame.f_code)
        if any(_imports(caller.co_filename) for caller in callers):
            return
        after_loading = LOAD not in callers
        functions = self.files.setdefault(name, {})
        functions[function] = functions.get(function, False) or after_loading
        caller = next(filter(None, (self._name(one.co_filename) for one in callers)), None)
        resumed = code.co_flags & inspect.CO_GENERATOR  # by the code that takes its next value
        # language_model/ is called through a method of transformers, like a library; limits/ only checks paths.
        aside = name.startswith(("language_model/", "limits/"))
        if after_loading and not resumed and not aside and caller not in (None, name):
            self.handing_on.add(caller)

    def group(self, name: str) -> str:
        if not any(self.files[name].values()):
            return "loading"
        if name.startswith(PARTS):
            return "part"
        return "way" if name in self.handing_on else "step"

    def _name(self, file: str) -> str | None:
        if file not in self._names:
            path = Path(file).resolve()
            self._names[file] = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None
        return self._names[file]


def _imports(file: str) -> bool:
    return file.startswith("<frozen importlib")


def report(trace: Trace) -> str:
    """One line per file, by group, in the order in which the files are entered."""
    grouped = {group: [name for name in trace.files if trace.group(name) == group] for group in GROUPS}
    lines = [f"{group:8}{name}: {', '.join(trace.files[name])}" for group, names in grouped.items() for name in names]
    counts = ", ".join(f"{len(names)} {group}" for group, names in grouped.items())
    return "\n".join([*lines, f"{len(trace.files)} files are entered: {counts}", f"{len(grouped['way'])} files"])


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "images", nargs="*", metavar="BEFORE AFTER", help="two images (default: the packaged example pair)"
    )
    parser.add_argument("--model", help="checkpoint (default: the packaged tiny model)")
    options = parser.parse_args(words)
    images = options.images or [str(EXAMPLE / f"{name}.png") for name in ("before", "after")]
    command = ["caption", *images, "--device", "cpu", *(["--model", options.model] if options.model else [])]
    with Trace() as trace:
        code = cli.main(command)
    print(report(trace))
    return code


if __name__ == "__main__":
    sys.exit(main())
