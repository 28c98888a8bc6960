"""Existing files are replaced only if btcchat wrote them, and names in an index stay in their folder."""

from pathlib import Path

import pytest

from btcchat.errors import BTCChatError
from btcchat.outputs.ours import HTML, check_replaceable, contained, has_rows_of, is_page

ROW = b'{"set": "a", "kind": "row"}\n'


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [(f"<html>{HTML}".encode(), is_page), (ROW + ROW, has_rows_of("kind", "set")), (b"", is_page)],
)
def test_a_file_of_ours_is_replaced(tmp_path, content, is_ours):
    (tmp_path / "a").write_bytes(content)
    check_replaceable(tmp_path / "a", "--out", is_ours)
    check_replaceable(tmp_path / "new", "--out", is_ours)


@pytest.mark.parametrize(
    "content", [b"notes", b"[1]", ROW.replace(b"set", b"where"), b'{"set": 1}\n', b"[" * 60000, b"\xff\xfe", b'{"set":']
)
@pytest.mark.parametrize("is_ours", [is_page, has_rows_of("set", "kind")])
def test_another_file_is_not_replaced(tmp_path, content, is_ours):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BTCChatError, match="--out .*a already exists, and btcchat did not write it; give another file"):
        check_replaceable(tmp_path / "a", "--out", is_ours)


def test_an_input_is_not_replaced_even_if_it_is_ours(tmp_path):
    (tmp_path / "a").write_text(HTML)
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(BTCChatError, match="link is the input"):
        check_replaceable(tmp_path / "link", "--out", is_page, inputs=[tmp_path / "none", tmp_path / "a"])


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "..\\a", "C:\\a", "\\a", "", "a\0b", "C:a"])
def test_a_name_that_leads_out_of_its_folder_is_refused(name):
    with pytest.raises(BTCChatError, match="index.json names the file .* which is not in its folder"):
        contained(Path("folder"), name, Path("folder/index.json"))


@pytest.mark.parametrize("name", ["a", "sub/a", "a..b", "..."])
def test_a_name_inside_is_joined(name):
    assert contained(Path("folder"), name, Path("i")) == Path("folder") / name
