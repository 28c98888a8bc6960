"""YAML of bounded size: a few lines can expand to gigabytes (anchors), or nest too deeply for any parser."""

from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError, not_utf8
from btcchat.limits.regular import read_bounded

MOST_BYTES = 2**20
MOST_DEPTH = 20


def read_yaml(path: Path) -> Any:
    """The value of a YAML file. Raises OSError, and BTCChatError if it is not YAML or expands too far."""
    import yaml

    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8")
        _check_expansion(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _check_keys(node)
        return None if node is None else loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise not_utf8(str(path), error) from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # the last three: bad numbers, dates, keys
        raise BTCChatError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _check_keys(root: Any) -> None:
    """Raise ValueError if a mapping has a key twice; yaml would keep its last value."""
    import yaml

    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            nodes.append(value)
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines:
                raise ValueError(f"the key '{key.value}' occurs twice, in lines {lines[name]} and {line}")
            lines[name] = line


def _check_expansion(text: str) -> None:
    """Raise ValueError if lists and mappings are nested too deeply, or if an anchored one contains an alias."""
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
            raise ValueError(f"the alias *{event.anchor} is inside an anchored value; write the value out")
