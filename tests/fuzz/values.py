"""Values that a JSON or YAML file may hold, odd ones among them."""

import os

from hypothesis import strategies as st

TIMES = int(os.environ.get("BTCCHAT_FUZZ", "1"))  # as many examples

ODD = [
    None, True, "", "x", "-1", "\ud800", "a\0b", "../a", "s3://a/b", "x" * 300, "{split:>99}", 0, -1, 1.5, 1e300,
    10**13, 10**400, float("nan"), float("inf"), [], [1], ["x"], [[]], [None], {}, {"a": 1}, {"bytes": "x"},
    {"path": 5},
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.sampled_from(ODD) | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def mutated(data: bytes, edits: list[tuple[int, bytes]], end: int) -> bytes:
    """``data`` with other bytes at some places, cut at ``end``."""
    changed = bytearray(data)
    for place, written in edits:
        start = place % max(len(changed), 1)
        changed[start : start + len(written)] = written
    return bytes(changed[:end])


EDITS = st.lists(st.tuples(st.integers(0, 2**16) | st.integers(0, 60), st.binary(min_size=1, max_size=8)), max_size=6)
ENDS = st.just(2**20) | st.integers(0, 2000)
