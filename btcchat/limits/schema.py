"""Check values from a file against a TypedDict, with pydantic."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from btcchat.errors import BTCChatError

# Types for a TypedDict. The upper bounds are far above real values, and far below what would exhaust the memory.
Count = Annotated[int, Field(ge=1, le=100_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Metres = Annotated[float, Field(gt=0, le=1000)]  # size of a pixel on the ground
EXPECTED = {  # pydantic's type of an error -> what is accepted; a limit is appended
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a JSON object",
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
}
SHOWN = 60  # characters of a wrong value that an error shows


def check(value: Mapping[str, Any], schema: Any, where: str, way_out: str = "") -> None:
    """Raise BTCChatError, which names the key, its value and what is accepted, if ``value`` does not match ``schema``.

    schema: a TypedDict; its keys are required unless it is ``total=False``. Other keys are ignored, and nothing is
    converted: "5" is not a number. where: the file, for the error. way_out: what to do, at the end of the error.
    """
    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        alike = [fault for fault in faults if fault["loc"][:1] == faults[0]["loc"][:1]]  # one for each type of a union
        depth = max(len(fault["loc"]) for fault in alike)
        nearest = [fault for fault in alike if len(fault["loc"]) == depth]
        then = f"; {way_out}" if way_out else ""
        if nearest[0]["type"] == "missing":
            *outer, key = nearest[0]["loc"]
            inside = f" in {'.'.join(map(str, outer))}" if outer else ""
            raise BTCChatError(f"{where} has no '{key}'{inside}{then}") from None
        key, *inner = nearest[0]["loc"] or ("the value",)
        expected = " or ".join(dict.fromkeys(map(_expected, nearest)))
        shown = repr(nearest[0]["input"])
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        name = str(key) + "".join(f"[{place}]" for place in inner if isinstance(place, int))
        raise BTCChatError(f"{where}: {name} is {shown}, expected {expected}{then}") from None


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def _expected(fault: ErrorDetails) -> str:
    """What is accepted, in a few words; in pydantic's own words for an error that is not in `EXPECTED`."""
    if fault["type"] not in EXPECTED:
        return fault["msg"].removeprefix("Input should be ")
    return " ".join([EXPECTED[fault["type"]], *map(str, fault.get("ctx", {}).values())])
