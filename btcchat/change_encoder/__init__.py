"""Change encoders: the two dates of a pair in, the pair's change tokens out.

A change encoder is called with float ``(P, 2, S, L, C)`` (pairs, dates, depths, tokens, channels; date 0 is
*before*) and returns ``(P, V, L', C)``. Its attribute ``segments`` is V, the placeholders a pair has in the
prompt, and its method ``num_tokens(L)`` is L' (without it: L). It may have ``distance``: of the same input, float32
``(P, g, g)`` in 0..1, how far apart the two dates are at each place, from which a change map is drawn (without it: from
the tower's features). To add one from outside the package::

    from btcchat.change_encoder import CHANGE_ENCODERS
    CHANGE_ENCODERS["mine"] = MyEncoder  # built as MyEncoder(hidden_size=, grid=, num_depths=, **options)
"""

import inspect

from torch import nn

from btcchat.change_encoder import attentive, difference_aware
from btcchat.change_encoder.attentive import AttentiveEncoder
from btcchat.change_encoder.concat import Concat
from btcchat.change_encoder.difference_aware import DifferenceAwareEncoder
from btcchat.errors import choose
from btcchat.registry import build

CHANGE_ENCODERS: dict[str, type[nn.Module]] = {
    "attentive": AttentiveEncoder,
    "concat": Concat,
    "difference_aware": DifferenceAwareEncoder,
}

# Patterns (whole key) of weights that published folders hold and no change encoder's forward uses.
UNUSED_KEYS = attentive.UNUSED_KEYS + difference_aware.UNUSED_KEYS

# Names that the published flags (`--chg_type`, `--mm_resampler_type`) give them.
CHG_TYPES = {"Chg2Cap": "attentive", "cc_expert": "difference_aware"}


def canonical(config: dict) -> dict:
    """``config`` with the registry's own name of the change encoder."""
    name = config.get("change_encoder_type")
    return config | {"change_encoder_type": CHG_TYPES.get(name, name)}


def encoder_defaults(name: str) -> dict:
    """Option -> what a change encoder has where its config does not say."""
    parameters = inspect.signature(choose("change encoder", name, CHANGE_ENCODERS)).parameters
    return {key: one.default for key, one in parameters.items() if one.default is not one.empty}


def build_change_encoder(config: dict, *, hidden_size: int, grid: int, num_depths: int) -> nn.Module:
    """Build the change encoder named by ``config["change_encoder_type"]``; all other keys are its options.

    ``hidden_size`` is C, ``grid`` the tokens per side, ``num_depths`` the S of the vision tower.
    """
    options = canonical(config)
    name = options.pop("change_encoder_type")
    sizes = {"hidden_size": hidden_size, "grid": grid, "num_depths": num_depths}
    return build("change encoder", name, CHANGE_ENCODERS, options, **sizes)
