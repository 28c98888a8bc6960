"""Change encoders: the two dates of a pair in, the pair's change tokens out.

protocol.py says what a change encoder must and may have. A plugin (btcchat.plugins) adds one with::

    from btcchat.change_encoder import CHANGE_ENCODERS
    CHANGE_ENCODERS["mine"] = MyEncoder  # built as MyEncoder(hidden_size=, grid=, num_depths=, **options)
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from btcchat.change_encoder import attentive, difference_aware
from btcchat.change_encoder.attentive import AttentiveEncoder
from btcchat.change_encoder.concat import Concat
from btcchat.change_encoder.contract import check_attributes
from btcchat.change_encoder.difference_aware import DifferenceAwareEncoder
from btcchat.change_encoder.protocol import ChangeEncoder, ChangeEncoderModule
from btcchat.errors import BTCChatError
from btcchat.registry import Registry, build, defaults

CHANGE_ENCODERS: Registry[type[ChangeEncoder]] = Registry(
    "change encoder",
    {
        "attentive": AttentiveEncoder,
        "concat": Concat,
        "difference_aware": DifferenceAwareEncoder,
    },
)

# Patterns, for the whole key, of weights in published folders that no change encoder uses.
UNUSED_KEYS = attentive.UNUSED_KEYS + difference_aware.UNUSED_KEYS

SIZES = ("hidden_size", "grid", "num_depths")  # each is built with these, besides its options

# Names of the published flags (`--chg_type`, `--mm_resampler_type`) -> names in the registry.
CHG_TYPES = {"Chg2Cap": "attentive", "cc_expert": "difference_aware"}


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the change encoder's name in the registry in place of a published one."""
    name = str(config.get("change_encoder_type"))
    return {**config, "change_encoder_type": CHG_TYPES.get(name, name)}


def encoder_defaults(name: str) -> dict[str, Any]:
    """Option -> its default, for the change encoder ``name``; see `defaults`."""
    return defaults(CHANGE_ENCODERS.find(name), SIZES)


def has_option(name: str, option: str) -> bool:
    """Whether the change encoder ``name``, one of CHANGE_ENCODERS or CHG_TYPES, has this option."""
    parameters = _parameters(CHG_TYPES.get(name, name))
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return option not in (*SIZES, "change_encoder_type")
    return option in parameters and option not in SIZES


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise BTCChatError for an option that the change encoder ``name`` does not have; the error lists those it has."""
    for option in options:
        if not has_option(name, option):
            known = ", ".join(sorted(known for known in _parameters(name) if has_option(name, known)))
            raise BTCChatError(f"unknown option '{option}' of change encoder '{name}'; it has {known or 'none'}")


def merge_options(ways: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Merge options that may be given in several ways: ``{"cc_head": {"cc_head": 4}, "cc_args": {...}}``.

    Raises BTCChatError, naming both ways, for an option with two values.
    """
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for way, options in ways.items():
        for option, value in options.items():
            if option in merged and merged[option] != value:
                raise BTCChatError(
                    f"the change encoder's option {option} is {merged[option]} in {origin[option]} and {value} in "
                    f"{way}; give it once"
                )
            merged[option], origin[option] = value, way
    return merged


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(CHANGE_ENCODERS.find(name)).parameters


def build_change_encoder(
    config: Mapping[str, Any], *, hidden_size: int, grid: int, num_depths: int
) -> ChangeEncoderModule:
    """Build the change encoder named by ``config["change_encoder_type"]``; all other keys are its options.

    ``hidden_size`` is C, ``grid`` the number of tokens per side, ``num_depths`` is S; all are the vision tower's.
    Raises BTCChatError for an unknown name or option, wrong sizes, and an encoder that breaks its contract.
    """
    options = canonical(config)
    name = options.pop("change_encoder_type")
    sizes = {"hidden_size": hidden_size, "grid": grid, "num_depths": num_depths}
    encoder: ChangeEncoderModule = build(CHANGE_ENCODERS, name, options, **sizes)
    check_attributes(name, encoder)
    return encoder
