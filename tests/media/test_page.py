"""Self-contained HTML pages."""

from btcchat.media.page import table

HOSTILE = '<script>alert(1)</script> & "x" <img src=x>'
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot; &lt;img src=x&gt;"


def test_every_cell_of_a_table_is_escaped():
    html = table([HOSTILE], [[HOSTILE, (HOSTILE, HOSTILE)]], own=HOSTILE)
    assert html.count(ESCAPED) == 4 and "<script" not in html and "<img" not in html
    assert "<tr class=own>" in html and f"<td>{ESCAPED}<small>{ESCAPED}</small></td>" in html
