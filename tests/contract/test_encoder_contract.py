"""The checks of a change encoder: what they pass, and what each of them finds."""

import re
from functools import partial

import pytest

from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.change_encoder.contract import Sizes, encoder_checks
from btcchat.contract.findings import run_checks
from btcchat.registry import build_part
from tests.contract import encoders
from tests.contract.encoders import FINDINGS


def findings_of(part, sizes=None, **options):
    make = partial(build_part, "change encoder", "mine", part, options)
    return run_checks(encoder_checks(make, sizes, saved=True))


@pytest.mark.parametrize("name", CHANGE_ENCODERS)
@pytest.mark.parametrize("sizes", [None, Sizes(192, 12, 1)], ids=["no model", "a model"])
def test_our_own_encoders_fulfil_the_contract(name, sizes):
    findings = findings_of(CHANGE_ENCODERS[name], sizes)
    assert {finding.result for finding in findings} == {"pass"}
    assert len(findings) == 16


@pytest.mark.parametrize("part", [encoders.Difference, encoders.WithDistance, encoders.LooksAtNumbers])
def test_an_encoder_of_a_plugin_fulfils_the_contract(part):
    assert {finding.result for finding in findings_of(part)} == {"pass"}


@pytest.mark.parametrize("part", FINDINGS, ids=lambda part: part.__name__)
def test_each_way_to_break_the_contract_is_found_by_its_check(part):
    found = [finding for finding in findings_of(part) if finding.result != "pass"]
    check, result, words = FINDINGS[part]
    assert [(finding.check, finding.result) for finding in found] == [(check, result)]
    assert re.search(words, found[0].found), found[0].found
    assert "\n" not in found[0].found


def test_an_output_made_on_the_cpu_is_found():
    found = {finding.check: finding for finding in findings_of(encoders.MadeOnTheCPU)}
    assert found["device"].found.startswith("returned a tensor on cpu for an input on meta at grid 4, 1 depth")


def test_sizes_that_the_class_refuses_with_a_message_are_left_out():
    constructor = findings_of(encoders.Pooling)[0]
    assert constructor.result == "pass"
    assert "hidden_size 32 at grid 4, 1 depth; refused: grid 5, 1 depth, grid 4, 2 depths" in constructor.found


def test_the_sizes_of_the_model_must_not_be_refused():
    constructor, *others = findings_of(encoders.Pooling, Sizes(64, 9, 1))
    assert not others and constructor.result == "fail"
    assert "expected an even grid and one depth, got 9 and 1" in constructor.found


def test_options_that_need_a_wide_encoder_get_one():
    """Three heads do not divide a power of two, so the width of the model is used."""
    findings = findings_of(encoders.Pooling, Sizes(96, 6, 1), heads=3)
    assert {finding.result for finding in findings} == {"pass"}
    assert findings[0].found.startswith("hidden_size 96 at grid 4, 1 depth; grid 6, 1 depth")


def test_the_grid_of_the_model_is_tried_too():
    class OnlySmall(encoders.Difference):
        def forward(self, features):
            if self.grid > 8:
                raise RuntimeError("too many tokens")
            return super().forward(features)

    assert {finding.result for finding in findings_of(OnlySmall)} == {"pass"}
    forward = findings_of(OnlySmall, Sizes(64, 12, 1))[-1]
    assert (forward.check, forward.result) == ("forward", "fail")
    assert "RuntimeError: too many tokens" in forward.found and "at grid 12, 1 depth" in forward.found
