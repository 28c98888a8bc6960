"""What all registries share: build a named part from the options in its config."""

import inspect
from collections.abc import Mapping
from typing import Any

from btcchat.contract.construct import construct
from btcchat.errors import BTCChatError, choose


def build(kind: str, name: str, table: Mapping[str, type], options: Mapping[str, Any], **sizes: Any) -> Any:
    """Return ``table[name](**sizes, **options)``; an option the part does not have is an error that lists its own.

    So is a part from outside the package that cannot be built: see `construct`.
    """
    part = choose(kind, name, table)
    parameters = inspect.signature(part).parameters
    known = sorted(set(parameters) - set(sizes))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            choices = f"choose from {', '.join(known)}" if known else "it has none"
            raise BTCChatError(f"unknown option '{option}' of {kind} '{name}'; {choices}")
    return construct(kind, name, part, **sizes, **options)
