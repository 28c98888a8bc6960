"""What data sets exist, and named mixtures of them: YAML, or `register`. Nothing here reads a record.

A YAML file maps a name to a data set, ``{annotation: ..., images: ...}`` and what else is worth knowing about it, or to
a mixture, ``{mixture: a+b*3}``. Paths are relative to the data root; ``images`` is that itself where it is left out.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads no other on Python < 3.12

from btcchat.assets import resource
from btcchat.errors import BTCChatError, wrong_type
from btcchat.limits.schema import Metres, check
from btcchat.limits.yaml_file import read_yaml

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

READ = {"annotation", "images", "sampling", "captions", "splits", "split", "subset", "streaming"}
DESCRIPTIVE = {"description", "kind", "source", "license", "citation", "gsd"}


class Description(TypedDict, total=False):
    """A data set, which has an annotation, or a mixture. docs/data.md explains the keys."""

    annotation: str | Annotated[list[str], Field(min_length=1)]
    images: str
    sampling: str
    captions: str
    splits: Annotated[list[str], Field(min_length=1)]
    split: str
    subset: str
    streaming: bool
    mixture: str
    # For the reader:
    description: str
    kind: str  # of `btcchat data convert`
    source: str  # where it is downloaded
    license: str
    citation: str
    gsd: Metres | None  # ground sampling distance, of a pixel


_registered: dict[str, Description] = {}


def register(name: str, **description: "Unpack[Description]") -> None:
    """Make a data set known, ``register("mine", annotation="mine.jsonl", images="tiles", gsd=0.3)``, or a mixture,
    ``register("mine_and_levir", mixture="mine*2+levir_cc")``. Keywords: the keys of the YAML files. Registering a name
    again replaces its description.
    """
    if not isinstance(name, str):
        raise wrong_type("name", name, "a string")
    _registered[name] = _checked("register", name, description)


def mixture_folder(folder: str | Path | None = None) -> Path:
    """Where the YAML files are: ``folder``, or the datasets_mixture/ that comes with the package."""
    path = Path(folder) if folder else resource("datasets_mixture")
    if not path.is_dir():
        raise BTCChatError(f"no folder {path} of data set descriptions (*.yaml); give one with --mixture_folder")
    return path


def known_sets(folder: str | Path | None = None) -> dict[str, Description]:
    """Name -> description of all sets and mixtures: the shipped ones, those of ``folder``, the registered ones.

    The later wins, so a user's description of ``levir_cc`` takes the place of the shipped one.
    """
    known = read_folder(mixture_folder())
    mine = (read_folder(mixture_folder(folder)) if folder else {}) | _registered
    for name in sorted(mine.keys() & known.keys()):
        if mine[name] != known[name]:
            logger.info("data set '%s' is yours, not the one that comes with btcchat", name)
    return known | mine


def read_folder(folder: Path) -> dict[str, Description]:
    known: dict[str, Description] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BTCChatError(f"{folder} cannot be read: {error.strerror}") from None
    for path in (folder / name for name in names if name.endswith((".yaml", ".yml")) and not name.startswith(".")):
        for name, description in read_file(path).items():
            if name in known:
                raise BTCChatError(f"{path}: data set '{name}' is described twice; rename one")
            known[name] = description
    return known


def read_file(path: Path) -> dict[str, Description]:
    try:
        content = read_yaml(path) or {}
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(content, dict):
        raise BTCChatError(f"{path} names no data sets; expected NAME: {{annotation: ..., images: ...}}")
    return {str(name): _checked(str(path), str(name), description) for name, description in content.items()}


def _checked(where: str, name: str, description: Any) -> Description:
    if set(name) & set("+*@:"):
        raise BTCChatError(f"{where}: the name '{name}' has one of + * @ : in it, which a mixture gives a meaning")
    keys = set(map(str, description)) if isinstance(description, dict) else set()
    if keys:
        check(description, Description, f"{where}: data set '{name}'")
    checked: Description
    if "mixture" in keys and not keys - DESCRIPTIVE - {"mixture"}:
        checked = description
        return checked
    if "annotation" not in keys or keys - READ - DESCRIPTIVE:
        raise BTCChatError(
            f"{where}: data set '{name}' must give annotation and may give "
            f"{', '.join(sorted((READ | DESCRIPTIVE) - {'annotation'}))}; a mixture must give mixture"
        )
    checked = {"images": ".", **description}
    return checked
