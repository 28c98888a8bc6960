"""YAML of bounded size: a few lines of it can stand for gigabytes (anchors), or for a tree that no parser survives."""

from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.limits.regular import read_bounded

MOST_BYTES = 2**20
MOST_DEPTH = 20


def read_yaml(path: Path) -> Any:
    """The value of a YAML file. Raises OSError, and BTCChatError "PATH is not YAML (why)"."""
    import yaml

    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8")
        _check_expansion(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # the last three: odd numbers, dates, keys
        raise BTCChatError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _check_expansion(text: str) -> None:
    """Raise ValueError where lists and mappings are nested too deeply, or an anchored one has an alias in it."""
    import yaml

    depth, anchored = 0, 0  # anchored: the depth of the outermost collection with an anchor
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError(f"nested deeper than {MOST_DEPTH} levels")
            if event.anchor and not anchored:
                anchored = depth
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored = 0 if anchored == depth else anchored
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and anchored:
            raise ValueError(f"the alias *{event.anchor} is inside of an anchored value; write the value out")
