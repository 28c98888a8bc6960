"""btcchat: a multi-temporal multimodal LLM for remote sensing.

``from btcchat import BTCChat`` is the whole API for most uses; importing the package itself loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at runtime __getattr__ imports them
    from btcchat import plugins
    from btcchat.api import BTCChat
    from btcchat.data.records import Record
    from btcchat.errors import BTCChatError
    from btcchat.processor import Processor, request

__version__ = "0.1.0"
__all__ = ["BTCChat", "BTCChatError", "Processor", "Record", "__version__", "plugins", "request"]

_HOME = {
    "BTCChat": "btcchat.api",
    "BTCChatError": "btcchat.errors",
    "Processor": "btcchat.processor",
    "Record": "btcchat.data.records",
    "request": "btcchat.processor",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    from btcchat.compat.noise import quiet_import

    if name == "plugins":
        return import_module("btcchat.plugins")
    if name not in _HOME:
        raise AttributeError(f"module 'btcchat' has no attribute '{name}'")
    with quiet_import():
        return getattr(import_module(_HOME[name]), name)
