"""Independent questions: several about the same images as one sample, none of which sees another or its answer.

A chat repeats neither its images nor its system text, but its later answers can be read off the earlier ones. Asked
alone, each question would repeat both. Here all questions share one beginning::

    system, images | question 1, answer 1 | question 2, answer 2 | ...
    0 0 0 0 0 0 0    1 1 1 1 1              2 2 2 2 2                    the branch of each token

A token sees the beginning and what comes before it in its own branch (layers/branches.py).
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from btcchat.prompt.tokenise import IGNORE_INDEX, Encoded


class Branched(NamedTuple):
    """A joined sample."""

    encoded: Encoded
    branches: list[int]  # of each id, 0 for the shared beginning; empty for a single prompt
    left_out: int  # questions that did not fit


def join(prompts: Sequence[Encoded], lengths: Sequence[int], max_length: int | None) -> Branched:
    """Join prompts that begin alike, each with one question and its answer, as far as they fit in ``max_length``.

    lengths: tokens of each placeholder, all of which are in the shared beginning. The first token after it is not
    learned, since the token that precedes it in the joined sample belongs to another question.
    """
    if len(prompts) == 1:
        return Branched(prompts[0], [], 0)
    tokens = [list(zip(one.input_ids, one.labels, strict=True)) for one in prompts]
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False)))
    while any(len(one) <= shared or one[shared][1] != IGNORE_INDEX for one in tokens):
        shared -= 1
    ids, labels = prompts[0].input_ids[:shared], prompts[0].labels[:shared]
    branches = [0] * shared
    extra = sum(lengths) - len(lengths)  # tokens of the images that are not ids
    joined = 0
    for one in prompts:
        if joined and max_length is not None and len(ids) + len(one.input_ids) - shared + extra > max_length:
            break
        joined += 1
        ids, labels = ids + one.input_ids[shared:], labels + one.labels[shared:]
        branches += [joined] * (len(one.input_ids) - shared)
    return Branched(Encoded(ids, labels), branches, len(prompts) - joined)
