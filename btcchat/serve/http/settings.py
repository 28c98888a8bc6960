"""The settings of a server. Imports nothing heavy; replicas get the settings as JSON."""

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.media.reading import Reading
from btcchat.media.source import existing_file

SHORTEST_KEY = 16  # characters
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """model: arguments of `BTCChat.from_pretrained`. bands, stretch, nodata: for requests that do not set them.

    Raises BTCChatError for a host that other machines can reach without a key, unless ``insecure``.
    """

    model: dict[str, Any] = field(default_factory=dict)
    bands: str | None = None
    stretch: str | None = None
    nodata: str | None = None
    host: str = "127.0.0.1"
    keys: tuple[str, ...] = ()
    insecure: bool = False
    allow_urls: tuple[str, ...] = ()  # hosts that images may be fetched from
    cors_origins: tuple[str, ...] = ()
    max_queue: int = 64
    max_batch: int = 16  # answers that are written at the same time
    max_batch_tokens: int = 8192
    max_images: int = 16  # of a request
    max_pixels: int = 64 * MIB  # of an image
    max_body: int = 64 * MIB  # bytes of a request
    max_new_tokens: int = 1024  # of an answer
    max_seconds: float = 300.0  # from a request's arrival to the end of its answer
    drain_seconds: float = 30.0  # for answers that are being written at shutdown

    def __post_init__(self) -> None:
        if not self.keys and not self.insecure and not is_loopback(self.host):
            raise BTCChatError(
                f"--host {self.host} can be reached from other machines; give --api-key-file FILE, or --insecure to "
                "serve anyone who reaches it"
            )

    @property
    def model_id(self) -> str:
        return str(self.model.get("path") or "tiny")

    @property
    def reading(self) -> Reading:
        """Raises BTCChatError that names the flag."""
        return Reading.parse(self.bands, self.stretch, self.nodata)

    @property
    def local_only(self) -> bool:
        """Whether anyone on this machine has access, without a key. Web pages of other sites must then be kept out."""
        return not self.keys and not self.insecure

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        values: Any = json.loads(text)
        for name in ("keys", "allow_urls", "cors_origins"):
            values[name] = tuple(values[name])
        return cls(**values)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host name or IP address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_keys(path: str) -> tuple[str, ...]:
    """The keys in a file, one per line, without comments (#) and empty lines. Raises BTCChatError."""
    try:
        text = Path(existing_file(path, "--api-key-file")).read_text(encoding="utf-8")  # type: ignore[arg-type]
    except BTCChatError:
        raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise BTCChatError(f"--api-key-file {path} cannot be read: {reason}; give another file") from None
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise BTCChatError(
            f"--api-key-file {path} has no key; write one per line, e.g. the output of openssl rand -hex 32"
        )
    for number, key in enumerate(keys, start=1):
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise BTCChatError(
                f"--api-key-file {path}: key {number} must have at least {SHORTEST_KEY} printable ASCII characters "
                "without spaces; openssl rand -hex 32 makes one"
            )
    return keys
