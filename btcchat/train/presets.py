"""Presets: YAML files of flags under scripts/v1_5. ``--preset NAME`` in a command line is replaced by its flags."""

import argparse
import json
import logging
import os
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from btcchat.assets import resource
from btcchat.errors import BTCChatError, choose, printable
from btcchat.limits.yaml_file import read_yaml
from btcchat.train.encoder_flags import OBJECTS, SINGLE, override

logger = logging.getLogger(__name__)

# Flags of the change encoder, which decide which of the preset's flags are passed on
ENCODER = ("chg", "chg_type", "from_origin", "fresh_change_encoder", *OBJECTS, *SINGLE)
SMOKE = "smoke"  # scripts/v1_5/smoke.yaml: flags that --smoke sets in place of the preset's

Flags: TypeAlias = dict[str, Any]  # name -> value, as read from YAML: text, a number, a truth value or None


def presets() -> dict[str, Path]:
    """Name -> file of every shipped preset, e.g. ``release/3b/sft``."""
    folder = resource("scripts") / "v1_5"
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in paths.items() if name != SMOKE}


def smoke_file() -> str:
    return str(resource("scripts") / "v1_5" / f"{SMOKE}.yaml")


def summary(path: Path) -> str:
    """The first line of a preset's opening comment."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def load_preset(name: str) -> Flags:
    """The flags of a shipped preset or of a YAML file; a file that it ``extends`` is read first.

    Raises BTCChatError for an unknown name or a file that is not a mapping of flags.
    """
    return reduce(lambda base, flags: override(base, flags) | flags, chain(name))


def chain(name: str) -> list[Flags]:
    """The flags of a preset's files, starting with the base of all. Does not import torch; see `load_preset`."""
    return _read(Path(name) if name.endswith((".yaml", ".yml")) else choose("preset", name, presets()))


def _read(path: Path, extending: tuple[Path, ...] = ()) -> list[Flags]:
    """The flags of a file, after those of the file that it extends. extending: the files that led to this one."""
    if os.path.abspath(path) in map(os.path.abspath, extending):
        raise BTCChatError(f"preset {extending[0]} extends itself ({' > '.join(map(str, [*extending, path]))})")
    try:
        flags = read_yaml(path)
    except FileNotFoundError:
        if extending:
            raise BTCChatError(
                f"{extending[-1]} extends {path}, which does not exist; `extends` takes the name of a YAML file in the "
                "same folder, so copy a shipped preset there"
            ) from None
        raise BTCChatError(f"no preset {path}; `btcchat train --list` lists the shipped ones") from None
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(flags, dict):
        raise BTCChatError(f"{path} is not a preset; expected one `flag: value` per line")
    if "plugin" in flags:
        raise BTCChatError(f"{path}: a preset may not enable a plugin; add --plugin {flags['plugin']} to the command")
    base = flags.pop("extends", None)
    if base is None:
        return [flags]
    if not isinstance(base, str):
        raise BTCChatError(f"{path}: extends is {base!r}, expected the name of one file, e.g. `extends: other.yaml`")
    return [*_read(path.parent / base, (*extending, path)), flags]


def expand(argv: list[str]) -> list[str]:
    """Replace ``--preset NAME`` (and ``--smoke``) by its flags. The other flags follow, so they override them.

    If they name a different change encoder, options of the preset that it does not have are left out. The environment
    variable BTCCHAT_DATA overrides the preset's ``data_root``.
    ``--smoke`` writes a random model and a few scenes to ``OUTPUT_DIR/smoke``.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--smoke", action="store_true")
    args, rest = parser.parse_known_args(argv)
    if args.preset is None:
        if args.smoke:
            raise BTCChatError("--smoke needs --preset NAME")
        return argv
    typed = _encoder_flags(rest)
    flags = override(load_preset(args.preset), typed)
    if args.smoke:
        from btcchat.synthetic.smoke import smoke_inputs  # torch

        flags |= load_preset(smoke_file())
        parser.add_argument("--output_dir", default=f"runs/smoke/{Path(args.preset).stem}")
        flags["output_dir"] = parser.parse_known_args(rest)[0].output_dir
        flags |= smoke_inputs(Path(flags["output_dir"]) / "smoke", flags | typed)
    elif not any(word.partition("=")[0] == "--data_root" for word in rest):
        _prefer_environment(flags)
    return to_argv(flags) + rest


def to_argv(flags: Flags) -> list[str]:
    """The words of a command line; a flag without a value is left out."""
    words = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in flags.items()}
    return [word for name, text in words.items() if flags[name] is not None for word in (f"--{name}", text)]


def _prefer_environment(flags: Flags) -> None:
    """Leave out the preset's ``data_root`` if BTCCHAT_DATA is set."""
    root = os.environ.get("BTCCHAT_DATA")
    if root and flags.get("data_root") is not None:
        preset = flags.pop("data_root")
        if int(os.environ.get("RANK", 0)) == 0:  # only the first process logs it
            logger.info(
                "the data root is %s (BTCCHAT_DATA); for the preset's, add --data_root %s", printable(root), preset
            )


def _encoder_flags(argv: list[str]) -> Flags:
    """The flags in ``argv`` that concern the change encoder, with values parsed as in a preset."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name in ENCODER:
        parser.add_argument(
            *dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")), dest=name, nargs="?", const=True
        )
    typed = vars(parser.parse_known_args(argv)[0])
    return {name: yaml.safe_load(value) if isinstance(value, str) else value for name, value in typed.items()}
