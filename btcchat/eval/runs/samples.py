"""The samples of an evaluation: one question per record, with the answers it is compared with."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from btcchat.data.changed import flag_of
from btcchat.data.convert.base import CHANGE_QUESTION
from btcchat.data.mixture import known_sets
from btcchat.data.mixture.descriptions import Description
from btcchat.data.mixture.mixture import open_set
from btcchat.data.mixture.sampling import sample as sample_rows
from btcchat.data.mixture.terms import Term, terms, with_absolute_paths
from btcchat.data.records import Record, Records
from btcchat.errors import BTCChatError
from btcchat.media.placeholders import check_placeholders
from btcchat.media.source import Embedded

CAPTIONS: Final = "captions"
CLASSES: Final = "classes"
QUESTIONS: Final = "questions"


@dataclass(frozen=True)
class Sample:
    """One question. ``id`` is that of the record, prefixed with SET/ if a run has several sets."""

    id: str
    records: Records = field(repr=False)
    index: int
    question: str | None  # as in the record, with its <image>; None: the model's own caption question
    references: list[str]
    changed: bool | None = None  # the flag given in the data
    question_type: str | None = None
    kept: Record | None = field(default=None, repr=False)  # None if images in it would stay in memory

    @property
    def record(self) -> Record:
        return self.kept or self.records[self.index]

    @property
    def size(self) -> tuple[int, int, int]:
        """Modality, frames, characters of the question; samples of one size are answered together."""
        return self.records.modality_codes[self.index], self.records.frames[self.index], len(self.question or "")


@dataclass
class EvalSet:
    """A split of a data set. ``kind``: CAPTIONS, CLASSES or QUESTIONS, the same for all its records."""

    name: str  # "levir_cc:test"
    kind: str
    samples: list[Sample]
    fingerprint: str  # of all rows
    term: Term = field(repr=False)

    @property
    def description(self) -> Description:
        return self.term.description

    @property
    def sampling(self) -> str:
        """Which records: "first:9"."""
        return self.term.sampling

    @property
    def content(self) -> str:
        """The same for two sets of the same samples."""
        return f"{self.name} {self.fingerprint}"

    @property
    def is_test(self) -> bool:
        """Whether it is named as a test split: by its own name, or that of its file or the file's folder."""
        split, file = self.name.partition(":")[2], Path(str(self.description["annotation"]))
        words = [re.split(r"[^a-z]+", name.lower()) for name in ([split] if split else [file.stem, file.parent.name])]
        if not {"train", "val"}.isdisjoint(words[0]):
            return False  # regardless of its folder's name
        return any(word.startswith("test") or word == "tst" for word in sum(words, []))


def read_sets(
    mixture: str,
    *,
    split: str = "test",
    data_root: str | Path | None = None,
    folder: str | Path | None = None,
) -> list[EvalSet]:
    """The sets of a mixture such as ``"a+b:val@first:9"``; ``split`` applies to names without one.

    A record with ``captions`` is asked for a caption, a record with ``label`` for its class, and any other (an image,
    or with ``question_type``) its question. Raises BTCChatError that names the row if it lacks its id or references.
    """
    parts = terms(mixture, known_sets(folder), split=split)
    names = [term.name for term in parts]
    for name in names:
        if names.count(name) > 1:
            raise BTCChatError(f"'{mixture}' has '{name}' more than once; name it once")
    root = data_root or os.environ.get("BTCCHAT_DATA")
    return [_read_set(term, f"{term.name}/" if len(parts) > 1 else "", root) for term in parts]


def other_split(eval_set: EvalSet, split: str, where: Mapping[str, Any], splits: dict[str, EvalSet]) -> EvalSet | None:
    """Another whole split of a data set; None if it does not have it. where: data_root of `read_sets`.

    splits: whole splits that have already been read, by name; newly read ones are added.
    """
    if eval_set.name.endswith(f":{split}") or split not in eval_set.description.get("splits", ()):
        return None
    term = eval_set.term.split(split)
    known = splits.get(term.name)
    if known is None or known.term != term:  # two files may describe sets of one name
        known = splits[term.name] = _read_set(term, "", where["data_root"] or os.environ.get("BTCCHAT_DATA"))
    return known


def trained_on(sets: Iterable[EvalSet], mixture: str, folder: str | Path | None) -> list[str]:
    """The names of the sets with samples of ``mixture``, a mixture of training."""
    trained = {(term.name, term.sampling) for term in terms(mixture, known_sets(folder))}

    def shares(one: EvalSet) -> bool:
        return any(
            one.name == name and (one.sampling == some or "all" in (one.sampling, some)) for name, some in trained
        )

    return [one.name for one in sets if shares(one)]


def whole_splits(sets: Iterable[EvalSet]) -> dict[str, EvalSet]:
    """The sets of which no sample is left out, by name."""
    return {eval_set.name: eval_set for eval_set in sets if eval_set.sampling == "all"}


def read_arguments(mixture: str, split: str, data_root: str | None, folder: str | None) -> dict[str, Any]:
    """The arguments of `read_sets` as stored in run.json, with absolute paths."""
    root = data_root or os.environ.get("BTCCHAT_DATA")
    paths = {"data_root": root, "folder": folder}
    absolute = {name: path and os.path.abspath(path) for name, path in paths.items()}
    return {"mixture": with_absolute_paths(mixture), "split": split, **absolute}


def _read_set(term: Term, prefix: str, root: str | Path | None) -> EvalSet:
    kept: list[Record | None] = []  # each row is parsed once, while it is checked
    records = open_set(term, root, lambda record: kept.append(None if _holds_images(record) else record))
    if not isinstance(records, Records):
        raise BTCChatError(f"data set '{term.name}' is streamed; an evaluation needs a file whose rows can be counted")
    samples: list[Sample] = []
    places: dict[str, str] = {}
    digest, kind = hashlib.sha256(), None
    for index in map(int, sample_rows(term.sampling, len(records), name=term.name, seed=0)):
        record = kept[index] or records[index]
        kind = kind or _kind(record)
        sample = replace(_sample(record, records, index, kind, prefix), kept=kept[index])
        first = places.setdefault(sample.id, record.where)
        if first != record.where:
            raise BTCChatError(f"{record.where}: its id '{sample.id}' is already used by {first}")
        samples.append(sample)
        digest.update(json.dumps(record.row, sort_keys=True, default=str).encode())
    if kind is None:
        raise BTCChatError(f"data set '{term.name}' has no samples to evaluate")
    if any(sample.changed is None for sample in samples):  # a flag that some rows lack is not used at all
        samples = [replace(sample, changed=None) for sample in samples]
    return EvalSet(term.name, kind, samples, digest.hexdigest(), term)


def _holds_images(record: Record) -> bool:
    sources = record.sources if isinstance(record.sources, list) else [record.sources]
    return any(isinstance(source, Embedded) for source in sources)


def _kind(record: Record) -> str:
    return CAPTIONS if "captions" in record.row else CLASSES if "label" in record.row else QUESTIONS


def _sample(record: Record, records: Records, index: int, kind: str, prefix: str = "") -> Sample:
    row, where = record.row, record.where
    if isinstance(row.get("id"), bool) or not isinstance(row.get("id"), (str, int)) or row["id"] == "":
        raise BTCChatError(f"{where}: no 'id' (a string or a number); an evaluation needs one in every row")
    questions = [turn["value"] for turn in record.conversations if turn["from"] == "human"]
    answers = [turn["value"] for turn in record.conversations if turn["from"] == "gpt" and turn["value"].strip()]
    if not questions:
        raise BTCChatError(f"{where}: no question; an evaluation needs a turn 'from': 'human'")
    try:
        check_placeholders(questions[0], 1, is_answer=False, shows_images=record.modality != "text")
    except BTCChatError as error:
        raise BTCChatError(f"{where}: {error}") from error
    question: str | None = questions[0]
    changed = None
    if kind == CAPTIONS:
        answers, changed = _captions(row, where), flag_of(row)
        plain = " ".join(questions[0].replace("<image>", " ").split())
        if record.modality == "pair" and (
            plain == CHANGE_QUESTION or len(questions) > 1
        ):  # otherwise a dialogue about the pair
            question, questions = None, questions[:1]
    elif kind == CLASSES and "label" not in row:
        raise BTCChatError(f"{where}: no 'label', although the first row has one; all rows need it")
    elif kind == QUESTIONS and ("captions" in row or (record.modality == "pair" and not row.get("question_type"))):
        raise BTCChatError(
            f"{where}: this pair has neither 'captions' (all its references) nor 'question_type'; convert the data set "
            "with btcchat data convert"
        )
    if len(questions) > 1:
        raise BTCChatError(f"{where}: {len(questions)} questions; a sample of an evaluation must have exactly one")
    return Sample(f"{prefix}{row['id']}", records, index, question, answers, changed, row.get("question_type"))


def _captions(row: Mapping[str, Any], where: str) -> list[str]:
    captions = row.get("captions")
    if not isinstance(captions, list) or not captions:
        raise BTCChatError(f"{where}: no 'captions', the list of its references; btcchat data convert writes it")
    for number, text in enumerate(captions, start=1):
        if not isinstance(text, str) or not text.strip(" ."):
            raise BTCChatError(f"{where}: reference {number} of 'captions' is {text!r}, expected a string")
    return captions
