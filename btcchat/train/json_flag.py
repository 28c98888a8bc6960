"""Flags whose value is a JSON object."""

import json
from typing import Any

from btcchat.errors import BTCChatError


def read_json_flag(name: str, value: Any) -> dict[str, Any] | None:
    """The value of a JSON flag, given as text or already parsed. Raises BTCChatError if it is not an object."""
    if value is None or isinstance(value, dict):
        return value
    try:
        options = json.loads(value)
    except (json.JSONDecodeError, TypeError):
        options = None
    if not isinstance(options, dict):
        raise BTCChatError(f'--{name} is {value}, expected a JSON object such as {{"name": 1}}')
    return options
