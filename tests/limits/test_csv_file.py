"""btcchat.limits.csv_file: long cells are read, and endless ones are not."""

import csv

import pytest

from btcchat.errors import BTCChatError
from btcchat.limits.csv_file import MOST_CHARACTERS, csv_rows


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path, mark):
    (tmp_path / "a.csv").write_text(f'\ufeffx{mark}y\r\n\r\n"1,;\n"{mark}2\r\n', encoding="utf-8")
    assert list(csv_rows(tmp_path / "a.csv", "a.csv")) == [(1, ["x", "y"]), (2, []), (3, ["1,;\n", "2"])]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_excels_line_about_the_separator_is_no_row(tmp_path, mark):
    (tmp_path / "a.csv").write_text(f"\ufeffsep={mark}\r\nx{mark}y\r\n", encoding="utf-8")
    assert list(csv_rows(tmp_path / "a.csv", "a.csv")) == [(1, ["x", "y"])]
    (tmp_path / "a.csv").write_text(f"sep={mark}y\r\n", encoding="utf-8")  # a header that looks like it
    assert list(csv_rows(tmp_path / "a.csv", "a.csv")) == [(1, ["sep=", "y"])]


def test_a_cell_may_be_longer_than_pythons_limit_up_to_ours(tmp_path):
    csv.field_size_limit(131_072)  # as Python begins
    (tmp_path / "a.csv").write_text(f"x\n{'a' * MOST_CHARACTERS}\n")
    assert [len(cells[0]) for _, cells in csv_rows(tmp_path / "a.csv", "a.csv")] == [1, MOST_CHARACTERS]
    (tmp_path / "a.csv").write_text('x,y\n1,"2\n' + "3,4\n" * MOST_CHARACTERS)  # the quote is never closed
    rows = csv_rows(tmp_path / "a.csv", "a.csv")
    assert next(rows) == (1, ["x", "y"])
    with pytest.raises(
        BTCChatError, match=r"^a.csv row 2: not CSV \(a cell has more than 1,048,576 characters; shorten"
    ):
        next(rows)


def test_a_workbook_is_not_a_csv_file(tmp_path):
    (tmp_path / "list.xlsx").write_bytes(b"PK\x03\x04\x14\x00\xff\xfe\x9a")
    with pytest.raises(BTCChatError, match="list.xlsx: not UTF-8 near .*; save it as CSV in UTF-8"):
        list(csv_rows(tmp_path / "list.xlsx", "list.xlsx"))
