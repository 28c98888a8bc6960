"""Which pairs count as changed."""

import pytest

from btcchat.data.changed import pair_changed
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.predictions import Prediction

SAME, NEW = "there is no difference .", "a road is built ."


def row(changed: bool | None, *references: str) -> Prediction:
    return Prediction("a", "x", references, changed, "line 1")


def test_the_datas_flags_count_where_every_row_has_one():
    assert changed_rows([row(True, SAME), row(False, NEW)]) == [True, False]
    assert changed_rows([row(True, SAME), row(None, NEW)]) == [False, True]  # else the references of all


@pytest.mark.parametrize(
    ("references", "changed"),
    [([SAME], False), ([NEW], True), ([SAME, SAME, NEW], False), ([SAME, NEW, NEW], True), ([SAME, NEW], True)],
)
def test_most_references_decide_and_divided_ones_say_changed(references, changed):
    assert pair_changed(references) is changed
