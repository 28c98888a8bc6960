"""The flags that set options of the change encoder: merged into one dict, and a preset's overridden by later ones."""

import logging
import os
from collections.abc import Mapping
from typing import Any

from btcchat.train.json_flag import read_json_flag

logger = logging.getLogger(__name__)

OBJECTS = ("cc_args", "cc_expert_args")  # JSON objects of options; the second is CCExpert's name of the flag
SINGLE = ("cc_n_layers", "cc_head", "cc_dropout")  # UniRS's flags, one option each


def options_by_flag(flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Flag -> the options it gives. Raises BTCChatError if a JSON flag is not an object."""
    objects = {name: read_json_flag(name, flags.get(name)) for name in OBJECTS}
    single = {name: {name: flags[name]} for name in SINGLE if flags.get(name) is not None}
    return {name: options for name, options in objects.items() if options is not None} | single


def encoder_options(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Option -> value, from all these flags. Raises BTCChatError if two flags disagree on an option."""
    from btcchat.change_encoder import merge_options  # torch

    return merge_options({f"--{name}": options for name, options in options_by_flag(flags).items()})


def encoder_name(flags: Mapping[str, Any]) -> str | None:
    """The change encoder that --chg and --chg_type name, or None if they name none; published names become ours."""
    from btcchat.change_encoder import CHG_TYPES  # torch

    name = flags.get("chg_type")
    if name is None:
        return "concat" if flags.get("chg") is False else None
    return CHG_TYPES.get(name, str(name))


def override(preset: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """``preset`` without the encoder options that the later ``flags`` replace or make pointless.

    An option in ``flags`` wins, whichever flags set it on the two sides; --cc_args and --cc_expert_args replace each
    other as a whole. If ``flags`` name another change encoder, options that it does not have are left out, and this is
    logged.
    """
    before = options_by_flag(preset)
    if not before:
        return dict(preset)
    replaced = {option for options in options_by_flag(flags).values() for option in options}
    if any(name in flags for name in OBJECTS):
        before = {name: options for name, options in before.items() if name not in OBJECTS}
    kept = {name: {key: v for key, v in options.items() if key not in replaced} for name, options in before.items()}
    name = encoder_name(flags)
    if name is not None and name != encoder_name(preset):
        kept = _known(kept, name)
    merged = dict(preset)
    for flag in (*OBJECTS, *SINGLE):
        options = kept.get(flag)
        if not options:
            merged.pop(flag, None)
        elif flag in OBJECTS:
            merged[flag] = options
    return merged


def _known(options: Mapping[str, Mapping[str, Any]], encoder: str) -> dict[str, dict[str, Any]]:
    """Flag -> those of its options that the change encoder has."""
    from btcchat.change_encoder import has_option  # torch

    known = {flag: {key: v for key, v in given.items() if has_option(encoder, key)} for flag, given in options.items()}
    left_out = sorted({key for flag, given in options.items() for key in given if key not in known[flag]})
    if left_out and int(os.environ.get("RANK", 0)) == 0:  # only the first process logs it
        logger.info("the preset's %s left out: change encoder '%s' has no such option", _are(left_out), encoder)
    return known


def _are(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last} are" if first else f"{last} is"
