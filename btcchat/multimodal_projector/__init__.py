"""Projectors: vision or change tokens in, tokens of the language model's width out.

protocol.py says what a projector must have.
"""

import re
from collections.abc import Mapping
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.multimodal_projector.contract import check_attributes
from btcchat.multimodal_projector.mlp import Identity, Linear, MLPGelu
from btcchat.multimodal_projector.mlp_downsample import MLPDownsample
from btcchat.multimodal_projector.protocol import Projector, ProjectorModule
from btcchat.registry import Registry, build, defaults

# Each is built as Projector(in_features=, out_features=, **options); "mlpNx_gelu" stands for any N.
PROJECTORS: Registry[type[Projector]] = Registry(
    "projector",
    {
        "mlp_downsample": MLPDownsample,
        "mlpNx_gelu": MLPGelu,
        "linear": Linear,
        "identity": Identity,
    },
)

LAYERS = re.compile(r"mlp([1-9]\d?)x_gelu")
SIZES = ("in_features", "out_features")  # each is built with these, besides its options


def build_projector(config: Mapping[str, Any], *, in_features: int, out_features: int) -> ProjectorModule:
    """Build the projector named by ``config["mm_projector_type"]``; all other keys are its options.

    ``in_features`` is C, ``out_features`` D. Raises BTCChatError for an unknown name or option, for widths that do not
    fit, and for a projector that breaks its contract.
    """
    options = dict(config)
    name = projector_name(options)
    options.pop("mm_projector_type", None)
    if match := LAYERS.fullmatch(name):
        name, options["num_layers"] = "mlpNx_gelu", int(match[1])
    elif name == "mlpNx_gelu" and "num_layers" not in options:
        raise BTCChatError("projector 'mlpNx_gelu' needs a number of layers N, as in 'mlp2x_gelu'")
    sizes = {"in_features": in_features, "out_features": out_features}
    projector: ProjectorModule = build(PROJECTORS, name, options, **sizes)
    check_attributes(name, projector)
    return projector


def projector_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Option -> its default, for the projector that ``config`` describes; see `defaults`."""
    name = projector_name(config)
    return defaults(PROJECTORS.find("mlpNx_gelu" if LAYERS.fullmatch(name) else name), SIZES)


def projector_name(config: Mapping[str, Any]) -> str:
    """The registry's name of the projector that ``config`` describes."""
    name = str(config.get("mm_projector_type"))
    path = name == "mm_projector" or not name.isidentifier()  # an identifier may name a plugin's projector
    if name not in PROJECTORS and "mm_projector" in name and path:
        return "mlp_downsample"  # a published config holds the path of the folder it was trained from
    return name
