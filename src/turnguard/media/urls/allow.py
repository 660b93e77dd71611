"""Which addresses may be fetched. Pure: matching of URLs, and of IP addresses after name resolution.

Two parsers that read one URL differently are how allow-lists are passed, so a URL with anything unusual in it is
refused rather than repaired: credentials, backslashes, control characters, encoded separators.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from turnguard.core.errors import ConfigError
from turnguard.media.types import Unreadable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}
_ODD = re.compile(r"[\x00-\x20\x7f\\]|%(?:2e|2f|5c|25|0[0-9a-f]|1[0-9a-f])", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?", re.IGNORECASE)
# Not reachable from outside, or a way to write another address; beyond what `is_global` says in every Python.
_CLOSED: tuple[Network, ...] = tuple(
    ipaddress.ip_network(block)
    for block in (
        *("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3"),
        *("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", "fc00::/7", "fe80::/9", "ff00::/8"),
    )
)


class Target(NamedTuple):
    """A URL taken apart and normalised. `url` is the one to ask for."""

    scheme: str
    host: str
    port: int
    path: str
    url: str


def parse(url: str) -> Target:
    """Normalise an http(s) URL: lower case, IDNA, default port, dot segments; `Unreadable` where it is odd."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise Unreadable("a malformed address") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise Unreadable("an address that is neither http nor https")
    if "@" in parts.netloc:
        raise Unreadable("an address with credentials in it")
    if _ODD.search(url.strip()) or not parts.hostname or port == 0:
        raise Unreadable("an address with unusual characters in it")
    host = _host(parts.hostname)
    path = _without_dots(parts.path or "/")
    port = port or _PORTS[scheme]
    shown = f"[{host}]" if ":" in host else host
    place = shown if port == _PORTS[scheme] else f"{shown}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return Target(scheme, host, port, path, f"{scheme}://{place}{path}{query}")


def _host(name: str) -> str:
    if "%" in name:
        raise Unreadable("an address with a zone in it")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    name = name.rstrip(".")
    if not name.isascii():
        try:
            import idna

            name = idna.encode(name, uts46=True).decode("ascii")
        except (ImportError, UnicodeError):
            raise Unreadable("an address whose host is not a valid name") from None
    labels = name.lower().split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Unreadable("an address whose host is not a valid name")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):  # 127.1, 0x7f.1, 2130706433: an IPv4 address in disguise
        raise Unreadable("an address whose host is a number")
    return ".".join(labels)


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4, and unreserved characters decoded (6.2.2.2)."""
    path = re.sub(r"%([46][1-9a-f]|[57][0-9a]|5f|7e|3[0-9]|2d)", lambda m: unquote(m[0]), path, flags=re.IGNORECASE)
    kept: list[str] = []
    segments = path.split("/")[1:]
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment in (".", ".."):
            if segment == ".." and kept:
                kept.pop()
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)


class Allowed:
    """The allow-list: `allow_urls` are URL prefixes that end at a path boundary, `allow_private` are address ranges."""

    def __init__(self, urls: Iterable[str], private: Iterable[str]) -> None:
        """`ConfigError` names the entry that cannot be read."""
        self._prefixes = [_prefix(url) for url in urls]
        self._private = [_network(entry) for entry in private]

    def check(self, url: str) -> Target:
        """The normalised URL where the list allows it, else `Unreadable`. An address literal is checked at once."""
        target = parse(url)
        if not any(_covers(prefix, target) for prefix in self._prefixes):
            raise Unreadable("an address that allow_urls does not list")
        if (literal := _literal(target.host)) is not None and not self.reachable(literal):
            raise Unreadable("a private address")
        return target

    def reachable(self, address: Address) -> bool:
        """Whether a connection to this address may be opened: public, or in a range of `allow_private`."""
        inner = _embedded(address)
        if any(address in network for network in self._private if network.version == address.version):
            return True
        if inner is not None and any(inner in network for network in self._private if network.version == 4):
            return True
        if inner is not None:
            return isinstance(address, ipaddress.IPv6Address) and bool(address.ipv4_mapped) and self.reachable(inner)
        closed = any(address in network for network in _CLOSED if network.version == address.version)
        return address.is_global and not address.is_multicast and not closed


def _covers(prefix: Target, target: Target) -> bool:
    if prefix[:3] != target[:3]:
        return False
    return target.path == prefix.path or target.path.startswith(prefix.path.rstrip("/") + "/")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one: mapped, compatible, 6to4 or NAT64."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address.sixtofour


def _prefix(url: str) -> Target:
    try:
        target = parse(url)
    except Unreadable as cause:
        raise ConfigError(
            f"media.allow_urls: {_shown(url)} is {cause}; write such as https://cdn.example.com/images/"
        ) from None
    if "?" in url or "#" in url:
        raise ConfigError(
            f"media.allow_urls: {_shown(url)} holds a query or a fragment; only scheme, host, port and path match"
        )
    return target


def _shown(url: str) -> str:
    """The entry for an error message: without what may be credentials."""
    head, at, tail = url.rpartition("@")
    plain = f"{head.partition('//')[0]}//...@{tail}" if at else url
    return repr(plain.partition("?")[0].partition("#")[0])


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        raise ConfigError(f"media.allow_private: {entry!r} is not an address range such as 10.0.0.0/8") from None
