import pytest

from btcchat.errors import BTCChatError
from btcchat.media import Reading


def test_flags_become_a_reading():
    assert Reading.parse() == Reading() == Reading(bands=None, stretch="shared", nodata=None)
    assert Reading.parse("4,3,2", "0,3000", "-9999") == Reading((4, 3, 2), (0.0, 3000.0), -9999.0)
    assert Reading.parse("1", "per-date", "none") == Reading((1,), "per-date", "none")


@pytest.mark.parametrize(
    "reading", [Reading(), Reading((4, 3, 2), (-25.5, 3000.0), -9999.0), Reading((1,), "none", "none")]
)
def test_a_record_is_read_back_as_it_was(reading):
    assert Reading.parse(**reading.record()) == reading


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"bands": "4,3"}, "three .* or one"),
        ({"bands": "0"}, "counted from 1"),
        ({"bands": "red"}, "--bands red: expected three band numbers"),
        ({"stretch": "shard"}, "--stretch shard: expected shared, per-date, none or LOW,HIGH"),
        ({"stretch": "3000,0"}, "the first is the smaller"),
        ({"stretch": "0,inf"}, "two numbers"),
        ({"stretch": "1,2,3"}, "two numbers"),
        ({"nodata": "black"}, "--nodata black: expected a number"),
    ],
)
def test_invalid_flags_name_what_is_accepted(flags, words):
    with pytest.raises(BTCChatError, match=words):
        Reading.parse(**flags)


@pytest.mark.parametrize("given", [{"bands": [4, 3, 2]}, {"bands": ("4",)}, {"stretch": 5}, {"nodata": [0]}])
def test_a_wrong_type_names_the_argument(given):
    with pytest.raises(TypeError, match=f"^{next(iter(given))} must be"):
        Reading(**given)
