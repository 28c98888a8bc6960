"""btcchat.limits.yaml_file: YAML that would expand to much more than its size is refused."""

import pytest
import yaml

from btcchat.errors import BTCChatError
from btcchat.limits.yaml_file import MOST_BYTES, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: *a{i - 1}\n  y{i}: 1\n" for i in range(1, 9))
FAULTS = {
    LAUGHS: "the alias *a0 is inside an anchored value",
    MERGED: "the alias *a0 is inside an anchored value",
    "a: &a [*a]": "the alias *a is inside an anchored value",
    "[" * 200_000: "nested deeper than 20 levels",
    "{a: " * 200_000: "nested deeper than 20 levels",
    "a: " + "9" * 6000: "Exceeds the limit",
    "? [a]\n: b": "found unhashable key",
    "!!python/object:os.system x": "could not determine a constructor",
    "a: 1\nb: {c: 1}\nd: {c: 1, c: 2}\n": "the key 'c' occurs twice, in lines 3 and 3",
    "a: 1\n\n'a': 2": "the key 'a' occurs twice, in lines 1 and 3",
    "a: 2010-13-45": "month must be in 1..12",
    "x" * (MOST_BYTES + 1): "larger than 1,048,576 bytes",
}


@pytest.mark.parametrize("text", FAULTS, ids=range(len(FAULTS)))
def test_an_error_is_one_line(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises((BTCChatError, OSError)) as error:
        read_yaml(tmp_path / "a.yaml")
    assert FAULTS[text] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", [LAUGHS, MERGED, "[" * 200_000, "{a: " * 200_000], ids=range(4))
def test_what_would_expand_too_far_is_refused_at_its_first_events_and_never_built(tmp_path, monkeypatch, text):
    parse, seen = yaml.parse, []

    def counted(*args, **kwargs):
        for event in parse(*args, **kwargs):
            seen.append(event)
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    monkeypatch.setattr(yaml.SafeLoader, "get_single_node", lambda _: pytest.fail("the value is built"))
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(BTCChatError):
        read_yaml(tmp_path / "a.yaml")
    assert len(seen) < 100


def test_bytes_that_are_not_utf8_are_an_error(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(BTCChatError, match=r"a.yaml: not UTF-8 near 'a: .xff'; save it as UTF-8"):
        read_yaml(tmp_path / "a.yaml")


def test_plain_anchors_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: [1, 2]}\nb: *a\nc:\n  <<: *a\n  y: 3\n")
    assert read_yaml(tmp_path / "a.yaml")["c"] == {"x": [1, 2], "y": 3}
