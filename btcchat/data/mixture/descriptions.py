"""Descriptions of data sets and named mixtures of them, from YAML or `register`. Nothing here reads a record.

A YAML file maps a name to a data set, ``{annotation: ..., images: ...}`` with further facts about it, or to a mixture,
``{mixture: a+b*3}``. Paths are relative to the data root, which is also the default of ``images``.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # pydantic accepts no other on Python < 3.12

from btcchat.assets import resource
from btcchat.errors import BTCChatError, unknown, wrong_type
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
    # Information for people:
    description: str
    kind: str  # as in `btcchat data convert`
    source: str  # where to download it
    license: str
    citation: str
    gsd: Metres | None  # ground sampling distance, per pixel


_registered: dict[str, Description] = {}


def register(name: str, **description: "Unpack[Description]") -> None:
    """Register a data set, ``register("mine", annotation="mine.jsonl", images="tiles", gsd=0.3)``, or a mixture,
    ``register("mine_and_levir", mixture="mine*2+levir_cc")``. Keywords: the keys of the YAML files. Registering a name
    again replaces its description.
    """
    if not isinstance(name, str):
        raise wrong_type("name", name, "a string")
    _registered[name] = _checked("register", name, description)


def mixture_folder(folder: str | Path | None = None) -> Path:
    """The folder of the YAML files: ``folder``, or the packaged datasets_mixture/."""
    path = Path(folder) if folder else resource("datasets_mixture")
    if not path.is_dir():
        raise BTCChatError(f"no folder {path} of data set descriptions (*.yaml); give one with --mixture_folder")
    return path


def known_sets(folder: str | Path | None = None) -> dict[str, Description]:
    """Map each name to its description, for all sets and mixtures: packaged, in ``folder``, and registered.

    Later ones take precedence, so a user's description of ``levir_cc`` replaces the packaged one.
    """
    known = read_folder(mixture_folder())
    mine = (read_folder(mixture_folder(folder)) if folder else {}) | _registered
    for name in sorted(mine.keys() & known.keys()):
        if mine[name] != known[name]:
            logger.info("using your data set '%s', not the one that comes with btcchat", name)
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
        raise BTCChatError(f"{path} does not describe any data set; expected NAME: {{annotation: ..., images: ...}}")
    return {str(name): _checked(str(path), str(name), description) for name, description in content.items()}


def _checked(where: str, name: str, description: Any) -> Description:
    if set(name) & set("+*@:"):
        raise BTCChatError(f"{where}: the name '{name}' contains + * @ or :, which have a meaning in mixtures")
    keys = set(map(str, description)) if isinstance(description, dict) else set()
    if keys:
        check(description, Description, f"{where}: data set '{name}'")
    checked: Description
    if "mixture" in keys and not keys - DESCRIPTIVE - {"mixture"}:
        checked = description
        return checked
    known = READ | DESCRIPTIVE | {"mixture"}
    for key in sorted(keys - known):
        raise BTCChatError(f"{where}: data set '{name}': {unknown('key', key, known)}")
    if "annotation" not in keys or "mixture" in keys:
        raise BTCChatError(
            f"{where}: data set '{name}' must have annotation and may have "
            f"{', '.join(sorted((READ | DESCRIPTIVE) - {'annotation'}))}; a mixture must have mixture"
        )
    checked = {"images": ".", **description}
    return checked
