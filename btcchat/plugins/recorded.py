"""The plugins that a checkpoint's parts come from: written into its config.json, and required when it is loaded."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from btcchat.errors import BTCChatError
from btcchat.plugins.enabling import is_loaded, load_enabled, load_installed, owner
from btcchat.registry import MAIN, OURS, REGISTRIES

logger = logging.getLogger(__name__)


class PluginRecord(TypedDict):
    """A plugin of a checkpoint, and its parts there: kind -> name."""

    module: str
    version: str | None
    parts: dict[str, str]


def records(parts: Mapping[str, str | None]) -> list[PluginRecord]:
    """A record for each plugin that ``parts`` (kind -> name in its registry) come from; [] if all are our own."""
    found: dict[str, PluginRecord] = {}
    for kind, name in parts.items():
        origin = _origin(kind, name)
        if name is None or origin in (None, OURS):
            continue
        from btcchat.plugins.installed import version

        module = owner(str(origin))
        found.setdefault(module, {"module": module, "version": version(module), "parts": {}})["parts"][kind] = name
    return [found[module] for module in sorted(found)]


def warn_of_scripts(written: Sequence[PluginRecord]) -> None:
    """Warn if a checkpoint has parts that no other process can import."""
    for record in written:
        if record["module"] == MAIN:
            _warn_once(
                f"{_listed(record['parts'])} is defined in a script or notebook ({MAIN}), so the checkpoint cannot be "
                "opened anywhere else; move it into a module, and enable that with --plugin MODULE"
            )


def read_records(value: Any, folder: Path) -> list[PluginRecord]:
    """Check ``plugins`` of a config.json. Raises BTCChatError if it is not a list of records."""
    rows = [] if value is None else value
    shaped = isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("module"), str) and isinstance(row.get("parts"), dict)
        for row in rows
    )
    if not shaped:
        raise BTCChatError(
            f'{folder / "config.json"}: plugins is {value!r}, expected a list of {{"module", "version", "parts"}}; '
            "download or save the checkpoint again"
        )
    return [{"module": row["module"], "version": row.get("version"), "parts": row["parts"]} for row in rows]


def require(recorded: Sequence[PluginRecord], folder: Path, kinds: Collection[str]) -> None:
    """Raise BTCChatError if a checkpoint needs parts of ``kinds`` from plugins that are not enabled.

    An installed entry point is loaded for this. A module that is neither enabled nor installed is not imported, because
    its name was chosen by whoever wrote the file.
    """
    for record in recorded:
        parts = {kind: name for kind, name in record["parts"].items() if kind in kinds}
        if _missing(parts):
            load_enabled()
        if _missing(parts) and not is_loaded(record["module"]):
            load_installed(record["module"])
        if missing := _missing(parts):
            raise BTCChatError(_way_out(record["module"], missing, folder))
        _compare(record, parts, folder)


def _way_out(module: str, missing: Mapping[str, str], folder: Path) -> str:
    parts = _listed(missing)
    if module == MAIN:
        return (
            f"{folder} has a part that was defined in a script or notebook ({parts}); move it into a module that "
            "registers it, and enable that with --plugin MODULE"
        )
    if is_loaded(module):
        return (
            f"{folder} needs {parts} of the plugin '{module}', which is enabled but does not register it; use the "
            "version of the plugin that the checkpoint was saved with"
        )
    return (
        f"{folder} needs the plugin '{module}' (its {parts}); enable it with --plugin {module}, or "
        f"BTCCHAT_PLUGINS={module} (Python: btcchat.plugins.enable('{module}'))"
    )


def _compare(record: PluginRecord, parts: Mapping[str, str], folder: Path) -> None:
    """Warn if the parts come from a different plugin than recorded, or from a different version of it."""
    module, recorded = record["module"], record["version"]
    for kind, name in parts.items():
        there = owner(str(_origin(kind, name)))
        if there != owner(module):
            _warn_once(
                f"{folder} was saved with the {kind} '{name}' of the plugin '{module}'; the one in use is from "
                f"'{there}'"
            )
            continue
        from btcchat.plugins.installed import version

        now = version(there)
        if now != recorded:
            had, has = (one or "without a version" for one in (recorded, now))
            _warn_once(f"{folder} was saved with the plugin '{module}' {had}; the one in use is {has}")


def _missing(parts: Mapping[str, str]) -> dict[str, str]:
    return {kind: name for kind, name in parts.items() if _origin(kind, name) is None}


def _origin(kind: str, name: str | None) -> str | None:
    """The module that registered a part; None if no registry has it, e.g. for an alias in a published folder."""
    return None if name is None or kind not in REGISTRIES else REGISTRIES[kind].origin(name)


def _listed(parts: Mapping[str, str]) -> str:
    return ", ".join(f"{kind} '{name}'" for kind, name in parts.items())


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
