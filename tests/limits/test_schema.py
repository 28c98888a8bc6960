"""btcchat.limits.schema: an error names the key, its value and what is accepted."""

from typing import Any, Literal

import pytest
from typing_extensions import TypedDict

from btcchat.errors import BTCChatError
from btcchat.limits.schema import Count, Number, Share, check


class Schema(TypedDict, total=False):
    count: Count
    number: Number
    share: Share
    side: Count | Literal[-1]
    paths: str | list[str]
    options: dict[str, Any] | None
    layers: list[list[int]]


class Inner(TypedDict):
    size: int


FAULTS = [
    ({"count": "5"}, "count is '5', expected a whole number"),
    ({"count": True}, "count is True, expected a whole number"),
    ({"count": 1.0}, "count is 1.0, expected a whole number"),
    ({"count": 0}, "count is 0, expected at least 1"),
    ({"count": 10**13}, "count is 10000000000000, expected at most 100000000"),
    ({"number": float("nan")}, "number is nan, expected a finite number"),
    ({"share": 1.5}, "share is 1.5, expected at most 1"),
    ({"side": 0}, "side is 0, expected at least 1 or -1"),
    ({"paths": 5}, "paths is 5, expected a string or a list"),
    ({"paths": ["a", 1]}, "paths[1] is 1, expected a string"),
    ({"options": "x" * 100}, f"options is '{'x' * 59}..., expected a JSON object"),
    ({"layers": [[1], ["2"]]}, "layers[1][0] is '2', expected a whole number"),
]


@pytest.mark.parametrize(("value", "words"), FAULTS)
def test_a_value_of_a_wrong_type_or_out_of_range_is_named(value, words):
    with pytest.raises(BTCChatError) as error:
        check(value, Schema, "a.json", "save it again")
    assert str(error.value).startswith(f"a.json: {words}") and str(error.value).endswith("; save it again")


class Needed(TypedDict):
    name: str
    inner: Inner


def test_a_missing_key_is_named():
    with pytest.raises(BTCChatError, match="^a.json has no 'inner'; save it again$"):
        check({"name": "a"}, Needed, "a.json", "save it again")
    with pytest.raises(BTCChatError, match="^a.json has no 'size' in inner$"):
        check({"name": "a", "inner": {}}, Needed, "a.json")


def test_values_that_match_the_schema_and_unknown_keys_pass():
    check({"count": 5, "number": 1, "side": -1, "paths": ["a"], "options": None, "other": object()}, Schema, "a.json")
