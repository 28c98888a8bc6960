"""The error messages of the package, read from its source: what `BTCChatError(...)` is given, by folder."""

import ast
import html
from collections.abc import Iterator
from pathlib import Path

# Folder or file of the package -> the heading of its messages; the first that fits counts.
AREAS = {
    "media": "Images and video",
    "limits": "Images and video",
    "geo": "Scenes",
    "checkpoint": "Checkpoints",
    "compat": "Versions of libraries",
    "change_encoder": "Parts of a model",
    "multimodal_encoder": "Parts of a model",
    "multimodal_projector": "Parts of a model",
    "language_model": "Parts of a model",
    "layers": "Parts of a model",
    "contract": "Parts of a model",
    "plugins": "Plugins",
    "registry.py": "Plugins",
    "data": "Data sets",
    "prompt": "Questions and prompts",
    "processor.py": "Questions and prompts",
    "clues": "Prompt augmentation",
    "decoding": "Answers",
    "generation.py": "Answers",
    "model.py": "Answers",
    "merge.py": "Answers",
    "api.py": "Answers",
    "train": "Training",
    "synthetic": "Training",
    "eval": "Evaluation and scores",
    "serve": "The server and chat",
    "outputs": "Files and the command line",
    "files.py": "Files and the command line",
    "errors.py": "Files and the command line",
    "console": "Files and the command line",
    "commands": "Files and the command line",
    "cli.py": "Files and the command line",
}


def messages(package: Path) -> Iterator[tuple[str, str]]:
    """(path in the package, message) of each `BTCChatError(text)`; what is filled in is in {braces}."""
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("BTCChatError") and node.args:
                text = written(node.args[0])
                if text.replace("{...}", "").strip(" :;,"):  # else the words are made elsewhere
                    yield file.relative_to(package).as_posix(), text


def written(node: ast.expr) -> str:
    """The text of a string or f-string, with short names in braces and {...} for anything longer."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return written(node.left) + written(node.right)
    if isinstance(node, ast.FormattedValue):
        name = ast.unparse(node.value).split(".")[-1].rstrip("()")
        return f"{{{name}}}" if name.isidentifier() else "{...}"
    return "{...}"


def area(path: str) -> str:
    """The heading for a file of the package."""
    return AREAS[path.split("/")[0]]


def message_list(package: Path) -> str:
    """Markdown: a heading for each area, and its messages in order of the alphabet."""
    found: dict[str, set[str]] = {heading: set() for heading in AREAS.values()}
    for path, text in messages(package):
        found[area(path)].add(text)
    sections = []
    for heading, texts in sorted(found.items()):
        rows = "\n".join(
            f"- <code>{html.escape(' '.join(text.split()))}</code>" for text in sorted(texts, key=str.lower)
        )
        sections.append(f"### {heading}\n\n{rows}\n")
    return "\n".join(sections)
