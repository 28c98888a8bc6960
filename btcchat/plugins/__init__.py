"""Plugins: importable Python modules that add parts by writing rows into the registries.

A plugin is enabled by ``--plugin MODULE`` (every command, and training), by ``BTCCHAT_PLUGINS=a,b`` in the environment,
by `enable` in Python, or by an installed package's entry point in the group ``btcchat.plugins``, whose value is the
module. Flags and `enable` import it at once; the environment and entry points when an unknown name is looked up. A
module is never imported only because a checkpoint names it: it must be enabled or installed.
"""

from btcchat.plugins.enabling import (
    Plugin,
    enable,
    enable_flags,
    enabled,
    load_enabled,
    look_for,
    take_flags,
    without_parts,
)
from btcchat.plugins.recorded import PluginRecord, records, require

__all__ = [
    "Plugin",
    "PluginRecord",
    "enable",
    "enable_flags",
    "enabled",
    "load_enabled",
    "look_for",
    "records",
    "require",
    "take_flags",
    "without_parts",
]
