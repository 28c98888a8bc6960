"""A griffe extension: the docstrings of btcchat as Markdown.

A docstring names parameters where a sentence begins ("device: auto (cuda, else cpu). dtype: ..."); here each becomes an
item of a list. Sphinx roles (:meth:`ask`) become plain code.
"""

import re
from typing import Any

from griffe import Extension, Object


class Docstrings(Extension):
    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.is_alias or obj.docstring is None:
            return
        names = [one.name for one in getattr(obj, "parameters", ())] or [*obj.members]
        obj.docstring.value = as_markdown(obj.docstring.value, names)


def as_markdown(text: str, names: list[str]) -> str:
    """``text`` with a list item for each parameter among ``names`` that it explains."""
    text = re.sub(r":(?:meth|class|func|mod):`([^`]+)`", r"`\1`", text)
    if not names:
        return text
    name = "(?:" + "|".join(re.escape(one) for one in names) + ")"
    start = re.compile(rf"(?:^|(?<=[.;] ))({name}(?:(?:, | to | and ){name})*): ", re.MULTILINE)
    text = start.sub(lambda match: f"\n- `{match[1]}`: ", text)
    # A sentence that begins a line after such a list and is about no parameter ends the list.
    return re.sub(r"(?<=\.)\n(?=(?:Raises|Returns|The|See|Without|With) )", "\n\n", text)
