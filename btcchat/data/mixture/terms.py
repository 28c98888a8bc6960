"""A mixture as written, ``a+b@first:500*3``, and the sets it names."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from btcchat.data.mixture.descriptions import Description, read_file
from btcchat.data.mixture.sampling import CAPTIONS, is_sampling
from btcchat.errors import BTCChatError, choose

MOST_SETS = 10_000  # in a mixture, counting repeats
MOST_NESTED = 50  # levels of mixtures of mixtures
DEFAULT = {"sampling": "all", "captions": "written"}
_YAML = re.compile(r"\.ya?ml(?![^:+@*\s])")  # the end of a file's path


@dataclass(frozen=True)
class Term:
    """One set of a mixture: its description, which of its records are used (sampling.py), and how captions are used."""

    name: str  # with its split: "levir_cc:train"
    description: Description  # of this split
    sampling: str
    captions: str
    data_set: Description  # the description that all its splits share

    def split(self, split: str) -> "Term":
        """Another split of the same data set, as described. Raises BTCChatError if it does not have it."""
        name = self.name.partition(":")[0]
        return _term(name, *of_split(name, self.data_set, split, split), self.data_set, [])

    @property
    def label(self) -> str:
        """As in a mixture: "levir_cc:train@first:5"."""
        options = [option for option in (self.sampling, self.captions) if option not in DEFAULT.values()]
        return "@".join([self.name, *options])


def terms(
    mixture: str, known: dict[str, Description], inside: tuple[str, ...] = (), split: str = "train"
) -> list[Term]:
    """The sets of a mixture; a set that is listed n times is returned n times.

    A term is ``NAME``, ``NAME:SPLIT``, ``NAME@first:500``, ``NAME@flatten_list``, ``FILE.yaml`` or .yml (all sets
    of that file, or its only mixture) or ``FILE.yaml:NAME``, each followed by ``*TIMES`` to repeat it. NAME may be
    that of a mixture. split: used for sets that have splits if none is named.
    """
    chosen: list[Term] = []
    _refuse_signs_in_paths(mixture)
    for text, times in parse_mixture(mixture):
        name, *options = (piece.strip() for piece in text.split("@"))
        names, choices = _look_up(name, known)
        for name in names:
            name, _, requested = name.partition(":")
            if name not in choices and (os.path.exists(name) or os.sep in name):
                raise BTCChatError(
                    f"data mixture '{_short(mixture)}': '{name}' is a path, but a mixture has the names of data sets; "
                    "describe the file in a YAML file and give that (docs/data.md, Data sets of your own)"
                )
            description = choose("data set", name, choices)
            if "mixture" not in description:
                sets = [_term(mixture, *of_split(name, description, requested, split), description, options)]
            elif requested:
                raise BTCChatError(
                    f"data mixture '{mixture}': :{requested} is for a single set, but '{name}' is a mixture"
                )
            elif options:
                raise BTCChatError(
                    f"data mixture '{mixture}': @{options[0]} is for a single set, but '{name}' is a mixture"
                )
            elif len(inside) == MOST_NESTED:
                raise BTCChatError(f"data mixture '{inside[0]}' is nested more than {MOST_NESTED} mixtures deep")
            elif name in inside:
                raise BTCChatError(f"data mixture '{name}' contains itself ({' > '.join([*inside, name])})")
            else:
                sets = terms(description["mixture"], choices, (*inside, name), split)
            if len(chosen) + len(sets) * times > MOST_SETS:
                raise BTCChatError(
                    f"data mixture '{_short(mixture)}' lists more than {MOST_SETS:,} sets, counting repeats; "
                    "give smaller *TIMES, or train for more epochs"
                )
            chosen += sets * times
    return chosen


def with_absolute_paths(mixture: str) -> str:
    """A valid ``mixture`` with the absolute paths of its YAML files, as it means the same in every folder.

    A path whose folders have + @ or * in their names is left as it is: they have a meaning in mixtures.
    """
    pieces = [piece.strip() for piece in mixture.split("+")]
    for place, term in enumerate(pieces):
        if end := _YAML.search(term):
            path = os.path.abspath(term[: end.end()])
            if not set(path) & set("+@*"):
                pieces[place] = path + term[end.end() :]
    return "+".join(pieces)


def of_split(name: str, description: Description, requested: str, default: str) -> tuple[str, Description]:
    """The name and the description of one split of a set with several, ``splits: [train, val]``."""
    if "splits" not in description:
        if requested:
            raise BTCChatError(f"data set '{name}' has no splits; leave out ':{requested}'")
        return name, description
    split = requested or default
    choose(f"split of {name}", split, dict.fromkeys(description["splits"]))
    annotation = description["annotation"]
    if isinstance(annotation, str) and "{split}" in annotation:
        return f"{name}:{split}", {**description, "annotation": annotation.replace("{split}", split)}
    return f"{name}:{split}", {**description, "split": split}


def _look_up(name: str, known: dict[str, Description]) -> tuple[list[str], dict[str, Description]]:
    """Return the names in a term, and the descriptions to look them up in."""
    end = _YAML.search(name)
    if end is None:
        return [name], known
    mine, inside = read_file(Path(name[: end.end()])), name[end.end() :]
    if inside:
        return [inside.removeprefix(":")], known | mine
    mixtures = [name for name in mine if "mixture" in mine[name]]
    if len(mixtures) > 1:
        raise BTCChatError(f"{name} has {len(mixtures)} mixtures; name one, e.g. {name}:{mixtures[0]}")
    if not mine:
        raise BTCChatError(f"{name} does not describe any data set")
    return mixtures or list(mine), known | mine


def _refuse_signs_in_paths(mixture: str) -> None:
    """Raise BTCChatError if the path of an existing file contains + @ or *, which have a meaning in mixtures."""
    for end in _YAML.finditer(mixture):
        for plus in re.finditer(r"^|\+", mixture[: end.start()]):
            path = mixture[plus.end() : end.end()].strip()
            if set(path) & set("+@*") and Path(path).is_file():
                raise BTCChatError(
                    f"'{path}' contains + @ or *, which have a meaning in mixtures; rename it, or name its sets "
                    f"and give --mixture_folder '{Path(path).parent}'"
                )


def _term(mixture: str, name: str, description: Description, data_set: Description, options: list[str]) -> Term:
    chosen: dict[str, str] = {}
    for option in options:
        if not is_sampling(option) and option not in CAPTIONS:
            raise BTCChatError(
                f"data mixture '{mixture}': '@{option}' of '{name}' is neither all, first:N, end:N, random:N, N% nor "
                f"{', '.join(CAPTIONS)}"
            )
        kind = "sampling" if is_sampling(option) else "captions"
        if kind in chosen:
            raise BTCChatError(f"data mixture '{mixture}': '{name}' has @{chosen[kind]} and @{option}; give one")
        chosen[kind] = option
    sampling = chosen.get("sampling", str(description.get("sampling", DEFAULT["sampling"])))
    captions = chosen.get("captions", str(description.get("captions", DEFAULT["captions"])))
    choose("use of captions", captions, dict.fromkeys(CAPTIONS))
    return Term(name, description, sampling, captions, data_set)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def parse_mixture(mixture: str) -> list[tuple[str, int]]:
    """``"a+b@first:9*3"`` -> ``[("a", 1), ("b@first:9", 3)]``."""
    repeats = []
    for term in mixture.split("+"):
        name, star, repeat = (piece.strip() for piece in term.partition("*"))
        if not name or (star and not re.fullmatch(r"0*[1-9]\d{0,8}", repeat, re.ASCII)):
            raise BTCChatError(
                f"data mixture '{_short(mixture)}': '{_short(term)}' is not a set's name, or NAME*TIMES with TIMES >= 1"
            )
        repeats.append((name, int(repeat) if star else 1))
    return repeats
