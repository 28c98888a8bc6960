"""The packages that a checkpoint needs, looked for before torch is imported and any model is built."""

from pathlib import Path

from btcchat.checkpoint.config import read_config
from btcchat.checkpoint.schema import RootConfig
from btcchat.compat.extras import require


def check_extras(path: str | Path | None) -> None:
    """Raise BTCChatError where the folder ``path`` holds an adapter and peft is not installed. Hub ids pass."""
    if not isinstance(path, str | Path):  # the packaged model; what is not a path is told where it is resolved
        return
    file = Path(path).expanduser() / "config.json"
    if file.is_file() and read_config(file, RootConfig).get("base_model") is not None:
        require("peft", f"the adapter {path}")
