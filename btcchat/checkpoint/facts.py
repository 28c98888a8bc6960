"""A few facts about a model, which run.json records and a report shows."""

from typing import Any

from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12


class EncoderFacts(TypedDict):
    type: str
    options: dict[str, Any]  # from its config, completed with defaults
    segments: int  # of a pair
    tokens_per_pair: int


class TowerFacts(TypedDict):
    type: str
    name: str | None  # from the config, if it gives one
    resolution: int  # pixels per side
    layers: int | None
    width: int
    select_layers: list[int]


class ProjectorFacts(TypedDict):
    type: str
    options: dict[str, Any]  # likewise


class LLMFacts(TypedDict):
    type: str
    name: str | None
    layers: int | None
    width: int


class ModelParts(TypedDict):
    """The four parts of a model."""

    change_encoder: EncoderFacts
    vision_tower: TowerFacts
    mm_projector: ProjectorFacts
    llm: LLMFacts


class Prompts(TypedDict):
    """The fields of BTCChatConfig that decide the wording of a prompt."""

    conv_version: str
    caption_question: str
    pair_prompt: str


def parts_text(parts: ModelParts) -> dict[str, str]:
    """Name of each part -> its facts in words."""
    encoder, tower = parts["change_encoder"], parts["vision_tower"]
    projector, llm = parts["mm_projector"], parts["llm"]
    segments = f"{encoder['segments']} segment{'s' * (encoder['segments'] != 1)}"
    layers = ", ".join(map(str, tower["select_layers"]))
    return {
        "change encoder": f"{_with_options(encoder['type'], encoder['options'])}; {segments}, "
        f"{encoder['tokens_per_pair']} tokens per pair",
        "vision tower": f"{_named(tower)}, {tower['resolution']} pixels, features of layer {layers}",
        "projector": _with_options(projector["type"], projector["options"]),
        "language model": _named(llm),
    }


def _with_options(name: str, options: dict[str, Any]) -> str:
    listed = ", ".join(f"{option} {value}" for option, value in options.items())
    return f"{name} ({listed})" if listed else name


def _named(part: TowerFacts | LLMFacts) -> str:
    """``llama (TinyLlama/TinyLlama-1.1B), 22 layers of width 2048``."""
    name = f"{part['type']} ({part['name']})" if part["name"] else part["type"]
    layers = "" if part["layers"] is None else f"{part['layers']} layers of "
    return f"{name}, {layers}width {part['width']}"
