"""Import a plugin. If that fails, one line names the plugin and the reason, and what it registered is removed."""

import sys
from importlib import import_module

from btcchat.compat.noise import quiet_import
from btcchat.errors import BTCChatError
from btcchat.registry import OURS, REGISTRIES, loading


def load(module: str) -> None:
    """Import ``module``, the origin of the rows that it adds. Raises BTCChatError for whatever its body raises."""
    imported = set(sys.modules)
    token = loading.set(module)
    try:
        with quiet_import():
            import_module(module)
    except (Exception, SystemExit) as error:
        _forget(module, imported)
        raise BTCChatError(f"the plugin '{module}' cannot be loaded: {_reason(module, error)}") from error
    finally:
        loading.reset(token)


def check_name(module: str, kind: str = "plugin") -> None:
    """Raise BTCChatError if ``module`` cannot be the name of a Python module."""
    if not all(part.isidentifier() for part in module.split(".")) or module.endswith(".py"):
        raise BTCChatError(
            f"the {kind} '{module}' is not the name of a module; name it as Python imports it, e.g. my_encoder for "
            "my_encoder.py, or my_package.encoder"
        )


def missing(module: str, error: BaseException) -> str | None:
    """``module`` or the package around it, if ``error`` says that there is none; None if it says anything else."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return error.name
    return None


def _forget(module: str, imported: set[str]) -> None:
    """Undo what a plugin did before it failed, so that it can be imported again once it is fixed."""
    packages = {module.partition(".")[0]}
    for table in REGISTRIES.values():
        for name in [name for name in table if table.origin(name) == module]:
            packages |= {origin.partition(".")[0] for origin in table.origins(name)}
            del table[name]
    for name in set(sys.modules) - imported:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


def _reason(module: str, error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, BTCChatError):
        return text
    if name := missing(module, error):
        return (
            f"there is no module '{name}'; install it, add its folder to PYTHONPATH, or run the command in its "
            "folder with --plugin"
        )
    kind = type(error).__name__
    if isinstance(error, SyntaxError):  # which names its file and line itself
        return f"{kind}: {text}"
    return ": ".join(filter(None, [kind, text])) + _place(error)


def _place(error: BaseException) -> str:
    """Where in the plugin it was raised: the innermost line outside this package and Python's imports."""
    import traceback

    others = (sys.modules[OURS].__path__[0], import_module.__code__.co_filename, "<frozen ")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(others)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
