"""The table of parts of a kind: which module added a row, and that a name in use cannot be taken."""

from dataclasses import replace

import pytest
from transformers import MistralConfig, MistralForCausalLM

from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.change_encoder.concat import Concat
from btcchat.errors import BTCChatError
from btcchat.eval.captions.presets import PRESETS
from btcchat.language_model import LANGUAGE_MODELS
from btcchat.prompt import TEMPLATES
from btcchat.registry import REGISTRIES, defaults

KINDS = {
    *("change encoder", "vision tower", "projector", "prompt template"),
    *("language model", "converter", "text preset"),
}


class Mine(Concat):
    pass


def test_every_kind_of_part_has_a_registry():
    import btcchat.data.convert
    import btcchat.multimodal_encoder
    import btcchat.multimodal_projector  # noqa: F401

    assert REGISTRIES.keys() == KINDS
    assert {table.origin(name) for table in REGISTRIES.values() for name in table} == {"btcchat"}


def test_the_defaults_of_a_part_are_those_that_json_gives_back_unchanged():
    def part(grid=1, *, needed, none=None, number=0.5, name="a", pair=(1, 2), kind=Mine, most=float("inf"), **more):
        pass

    assert defaults(part, ["grid"]) == {"none": None, "number": 0.5, "name": "a"}


def test_a_name_that_is_taken_is_an_error_that_names_both_origins():
    with pytest.raises(BTCChatError) as caught:
        CHANGE_ENCODERS["attentive"] = Mine
    assert str(caught.value) == (
        f"change encoder 'attentive' is registered already (by btcchat); {__name__} must use another name"
    )
    with pytest.raises(BTCChatError, match="registered already"):
        CHANGE_ENCODERS.update(attentive=Mine)
    assert CHANGE_ENCODERS["attentive"] is not Mine


def test_a_row_remembers_the_module_that_added_it():
    """Not the part's own module: importing transformers would not add this language model."""
    LANGUAGE_MODELS["mine"] = (MistralConfig, MistralForCausalLM)
    TEMPLATES.update(mine=replace(TEMPLATES["v1"], system=""))
    exec("CHANGE_ENCODERS['mine'] = Mine", {"CHANGE_ENCODERS": CHANGE_ENCODERS, "Mine": Mine})
    assert LANGUAGE_MODELS.origin("mine") == TEMPLATES.origin("mine") == __name__
    assert CHANGE_ENCODERS.origin("mine") == "__main__"
    assert CHANGE_ENCODERS.origin("nothing") is None


def test_the_same_class_defined_again_replaces_its_row():
    """As a notebook cell does that runs twice."""

    def cell() -> type:
        class Again(Concat):
            pass

        return Again

    CHANGE_ENCODERS["mine"] = cell()
    second = cell()
    CHANGE_ENCODERS["mine"] = second
    assert CHANGE_ENCODERS["mine"] is second
    with pytest.raises(BTCChatError, match="registered already"):
        CHANGE_ENCODERS["mine"] = Mine
    with pytest.raises(BTCChatError, match="registered already"):
        TEMPLATES["v1"] = TEMPLATES["v1"]


def test_an_unknown_name_is_an_error_that_mentions_plugins():
    with pytest.raises(BTCChatError) as caught:
        CHANGE_ENCODERS.find("attentiv")
    assert str(caught.value) == (
        "unknown change encoder 'attentiv' (did you mean 'attentive'?); choose from attentive, concat, "
        "difference_aware, or enable the plugin that adds it: --plugin MODULE"
    )
    assert PRESETS.find("raw") is PRESETS["raw"]
