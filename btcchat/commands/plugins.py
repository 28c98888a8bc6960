"""``btcchat plugins``: list the enabled plugins with their parts, and the installed ones."""

import argparse
import json
from dataclasses import asdict

from btcchat.commands.options import RAW, Commands

ABOUT = "list the enabled plugins and the parts that they add"
PLUGINS = """\
List the enabled plugins with the parts they add, and the installed ones, which are imported when a part is unknown.

  btcchat plugins                          the ones in BTCCHAT_PLUGINS=a,b and the installed ones
  btcchat plugins --plugin my_package      my_package as well

The exit code is 3 if an enabled plugin cannot be loaded."""
HOW = {"entry point": "installed", "Python": "enabled in Python"}


def add(commands: Commands) -> None:
    parser = commands.add_parser("plugins", help=ABOUT, description=PLUGINS, **RAW)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    from btcchat.plugins import enabled
    from btcchat.plugins.installed import entry_points

    plugins = enabled()
    modules = {plugin.module for plugin in plugins}
    installed = [point for point in entry_points() if point.module not in modules]
    if args.json:
        print(json.dumps({"enabled": [*map(asdict, plugins)], "installed": [*map(asdict, installed)]}, indent=2))
    else:
        for plugin in plugins:
            print(" ".join(filter(None, [plugin.module, plugin.version, f"({HOW.get(plugin.how, plugin.how)})"])))
            lines = [f"{kind}: {', '.join(names)}" for kind, names in plugin.adds.items()]
            for line in [plugin.error] if plugin.error else lines or ["adds no parts"]:
                print(f"  {line}")
        if not plugins:
            print("No plugin is enabled; enable one with --plugin MODULE, or BTCCHAT_PLUGINS=MODULE.")
        if installed:
            print("Installed, and imported when a part is unknown:")
        for point in installed:
            print(f"  {point.module} (entry point '{point.name}' of {point.package} {point.version})")
    return 3 if any(plugin.error for plugin in plugins) else 0
