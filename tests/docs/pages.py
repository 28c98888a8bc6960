"""The pages a user reads, and their blocks of commands.

A block of commands is run by test_commands.py, on tiny inputs, unless a line above it says why not:
``<!-- not run: needs a GPU -->``. What is between ``<!-- ci: NAME -->`` and ``<!-- ci: end -->`` is run by .ci/run.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "examples/change_encoder_plugin/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
STARTS = r"(?:btcchat|python|torchrun|deepspeed|export|scripts/)"
# A fenced block `sh`, in a list too, or lines that are indented by four and begin with a command.
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<why>(?:not run|ci): [^\n]*?) -->\n\n?)?"
    rf"(?:^ *```sh\n(?P<fenced>.*?)^ *```$|(?P<indented>(?:^    {STARTS}\b[^\n]*\n)+))",
    re.MULTILINE | re.DOTALL,
)

PYTHON = re.compile(r"^```python\n(?P<python>.*?)^```$", re.DOTALL | re.MULTILINE)

# What pip writes as the command; a process that it starts imports it again, hence the guard.
BTCCHAT = """#!{python}
import sys
from btcchat.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


@dataclass(frozen=True)
class Block:
    """Commands of a page. why_not: the reason for which they are not run here, or None."""

    page: str
    code: str
    why_not: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; continued lines are one, `a && b` is two."""
        lines = self.code.replace("\\\n", " ").splitlines()
        words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
        return [one for one in words if one]


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The blocks of commands of a page, in its order."""
    found = []
    for match in BLOCK.finditer(text(page)):
        why = (match["why"] or "").partition(": ")[2].strip()
        found.append(Block(page, match["fenced"] or match["indented"], why or None))
    return found


def code(page: str, language: str) -> list[str]:
    """The fenced blocks of another language, such as python or yaml; "" is those without one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def script(page: str, *, python: bool) -> str:
    """The commands of a page in its order, as a script of bash; with its blocks of Python too, if asked."""
    pieces = {match.start(): match for match in BLOCK.finditer(text(page)) if not match["why"]}
    if python:
        pieces |= {
            match.start(): match
            for match in re.finditer(r"^```python\n(?P<python>.*?)^```$", text(page), re.DOTALL | re.MULTILINE)
        }
    lines = []
    for _, match in sorted(pieces.items()):
        found = match.groupdict()
        if found.get("python"):
            lines.append(f"python - <<'END'\n{found['python']}END")
        else:
            lines.append(found["fenced"] or found["indented"])
    return "\n".join(lines)


def outputs(page: str) -> list[str]:
    """What a page shows as printed: its fenced blocks without a language, and those of JSON lines."""
    return [*code(page, ""), *code(page, "json")]


def install(folder: Path) -> Path:
    """A folder for PATH, in which `btcchat` and `python` are those of this checkout and `pip` does nothing."""
    folder.mkdir()
    programs = {
        "btcchat": BTCCHAT.format(python=sys.executable),
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "pip": "#!/bin/sh\n",
    }
    for name, content in programs.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    return folder
