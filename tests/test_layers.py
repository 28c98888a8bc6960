"""The layers of the package: a module imports only from its own layer or a lower one, inside functions too."""

import ast
from pathlib import Path

import pytest

import btcchat

PACKAGE = Path(btcchat.__file__).parent
LAYERS = [  # low to high; the longest matching name decides a module's layer
    {"errors", "files", "limits", "compat", "assets", "console", "outputs"},
    {"registry", "contract", "plugins"},
    {"layers", "media"},
    {
        "change_encoder",
        "multimodal_encoder",
        "multimodal_projector",
        "language_model",
        "prompt",
        # Reading a checkpoint folder: a processor is built from one without weights.
        "checkpoint.schema",
        "checkpoint.config",
        "checkpoint.published",
        "checkpoint.hub",
        "checkpoint.weights",
        "checkpoint.adapter",
        "checkpoint.layout",
        "checkpoint.llava_next",
        "checkpoint.folder",
        "checkpoint.parts",
    },
    {"data.records"},
    {"processor", "merge", "model"},
    {"data", "checkpoint", "generation", "decoding"},
    {"api"},  # the facade: the methods that a user calls
    {"clues", "synthetic", "train", "eval", "serve"},
    {"geo"},
    {"commands", "cli", "__main__", "__init__"},  # __init__ names the public classes for editors
]


def layer(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
    raise AssertionError(f"btcchat/{module} is in no layer; add it to LAYERS")


def modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere; ``from btcchat import X`` is the module that has X."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("btcchat.")}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "btcchat":
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    known = modules()
    return {next(name for name in shorter(full) if name in known) for full in map(home, found) if full}


def home(full: str) -> str:
    """``btcchat.BTCChat`` -> ``api``; the package's own facts (``__version__``) have no layer."""
    name = full.removeprefix("btcchat.")
    return btcchat._HOME[name].removeprefix("btcchat.") if name in btcchat._HOME else name.replace("__version__", "")


def shorter(name: str):
    """The name and its parent modules: the last parts may be objects imported from a module."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_from_its_own_layer_or_a_lower_one(module):
    if module == "__init__":
        return
    above = sorted(name for name in imported(modules()[module]) if layer(name) > layer(module))
    assert not above, f"btcchat.{module} imports from layers above it: {', '.join(above)}"


def test_records_import_only_media_and_errors():
    for name, path in modules().items():
        if name.startswith("data.records"):
            others = {other.split(".")[0] for other in imported(path) if not other.startswith("data.records")}
            assert others <= {"media", "errors", "files", "limits"}, name


def test_data_never_imports_the_model():
    for name, path in modules().items():
        if name.startswith("data"):
            assert not {"model", "api", "generation"} & imported(path), name


def test_at_most_twelve_files_are_in_the_root_of_the_package():
    files = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= 12, files


def test_every_module_is_used():
    """Every module is imported by another module, a test or a benchmark, or is run as a script."""
    root = PACKAGE.parent
    texts = [
        path.read_text(encoding="utf-8") for folder in ("tests", "benchmarks") for path in (root / folder).rglob("*.py")
    ]
    outside = "\n".join(texts)
    used = set().union(*(imported(path) for path in modules().values()))
    run = {"__init__", "__main__", "cli", "synthetic.__main__", "train.train_mem"}
    for name in modules():
        assert name in used | run or f"btcchat.{name}" in outside or name.endswith("__init__"), name
