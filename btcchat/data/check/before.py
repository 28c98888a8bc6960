"""The check before the first step: rows whose text does not fit their frames, and missing files."""

from itertools import product

import numpy as np

from btcchat.data.mixture import Mixture
from btcchat.data.mixture.sampling import captioned
from btcchat.data.mixture.stream import Chunks, Stream, StreamMixture
from btcchat.data.records import Records
from btcchat.errors import BTCChatError
from btcchat.processor import Processor


def check_before(mixture: Mixture | StreamMixture, processor: Processor) -> None:
    """Raise BTCChatError naming the first bad row of the sets that are not streamed. No file is opened.

    Text is checked once for each shape of row in a file (``Records.shapes``); every file of the rows in use must exist.
    """
    used: dict[int, tuple[Records, np.ndarray, set[str]]] = {}
    for member in mixture.sets:
        if isinstance(member, Stream):
            continue
        selection = member.selection if isinstance(member, Chunks) else member
        records, key = selection.records, id(selection.records)
        if key not in used:
            used[key] = records, np.zeros(len(records), bool), set()
        _, rows, ways = used[key]
        rows[np.asarray(selection.rows)] = True
        ways.add(selection.captions)
    for records, rows, ways in used.values():
        for row, way in product(records.shapes.values(), sorted(ways)):
            record = captioned(records[row], way, (0,))[0]
            try:
                processor.check_text(record)
            except BTCChatError as error:
                raise BTCChatError(f"{record.where}: {error}") from error
        records.check_files(rows)
