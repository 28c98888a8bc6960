"""Download images that a request names by URL: only from allowed hosts, and never from a private network."""

import ipaddress
import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import urllib3

from btcchat.errors import BTCChatError

PORTS = {"http": 80, "https": 443}
CHUNK = 2**16
INSTEAD = "send the image itself, as a data: URL"


def fetch(url: str, hosts: Sequence[str], *, most_bytes: int, seconds: float) -> bytes:
    """Download the bytes at an http or https URL. hosts: allowed hosts, as ``name`` or ``name:port``.

    Every IP address of the host must be public; the connection goes to an address that was checked, and redirects are
    not followed. Raises BTCChatError if the URL is refused, fails, or exceeds ``most_bytes`` or ``seconds``.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise BTCChatError(f"{url[:80]!r} is not a valid URL; {INSTEAD}") from None
    if parts.scheme not in PORTS:
        raise BTCChatError(f"{url[:80]!r}: expected a data: URL, or an http or https URL")
    allowed = host in hosts and port == PORTS[parts.scheme]
    if not (allowed or f"{host}:{port}" in hosts):
        raise BTCChatError(
            f"images are not fetched from {host[:80]!r}; send a data: URL, or start the server with --allow-urls HOST"
        )
    if parts.username is not None or parts.password is not None:
        raise BTCChatError("a URL with a user name or password is not fetched; leave them out")
    address = _public_address(host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return _read(parts.scheme, (host, address, port), path, most_bytes=most_bytes, seconds=seconds)
    except BTCChatError:
        raise
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise BTCChatError(f"nothing could be fetched from {host}: {type(error).__name__}; {INSTEAD}") from None


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    return parsed.is_global and not parsed.is_multicast and (mapped is None or is_public(str(mapped)))


def addresses(host: str) -> list[str]:
    """The IP addresses of a host name; none if it cannot be resolved."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


def _public_address(host: str) -> str:
    found = addresses(host)
    if not found:
        raise BTCChatError(f"the host {host[:80]} was not found; check the URL, or {INSTEAD}")
    if not all(map(is_public, found)):
        raise BTCChatError(f"the host {host[:80]} is in a private network, from which nothing is fetched; {INSTEAD}")
    return found[0]


def _read(scheme: str, place: tuple[str, str, int], path: str, *, most_bytes: int, seconds: float) -> bytes:
    host, address, port = place
    timeout, end = urllib3.Timeout(total=seconds), time.monotonic() + seconds
    pool: urllib3.HTTPConnectionPool
    if scheme == "https":
        pool = urllib3.HTTPSConnectionPool(address, port, timeout=timeout, server_hostname=host, assert_hostname=host)
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
    name = host if port in PORTS.values() else f"{host}:{port}"
    with pool:
        reply = pool.request(
            "GET", path, headers={"Host": name, "Accept": "*/*"}, redirect=False, retries=False, preload_content=False
        )
        if reply.status != 200:
            raise BTCChatError(f"{host} answered with status {reply.status}, and redirects are not followed; {INSTEAD}")
        data = bytearray()
        for piece in reply.stream(CHUNK, decode_content=False):
            data += piece
            if len(data) > most_bytes:
                raise BTCChatError(f"{host} sends more than the limit of {most_bytes:,} bytes; name a smaller file")
            if time.monotonic() > end:
                raise BTCChatError(f"{host} did not send the whole file within {seconds:.0f} s; {INSTEAD}")
    return bytes(data)
