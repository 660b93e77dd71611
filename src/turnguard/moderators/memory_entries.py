"""A verdict as it lies in a shared store: encrypted, authenticated, and bound to its key, its model and its time.

Everything is derived from the one secret that all workers have. Who can write to the store cannot make an entry that
is believed, move one to another key, or keep one alive; who can read it learns neither content nor verdicts.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from turnguard.core.errors import ConfigError
from turnguard.core.verdict import Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SKEW = 60.0
"""Seconds that another worker's clock may be ahead."""
PADDED = 256
"""Entries have a multiple of this many bytes, so that their length does not tell a safe verdict from another."""
NONCE = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A verdict from the store, the digest of the tenant that asked for it, and how many seconds it still counts."""

    verdict: Verdict
    tenant: str | None
    left: float


@dataclass(frozen=True, slots=True)
class _Entry:
    at: float
    tenant: str | None
    verdict: Verdict


class Refused(Exception):
    """An entry that is not believed; the message says why in a word."""


class Entries:
    """Seals verdicts and opens them again. `seconds` is how long an entry counts, by the clock of who reads it."""

    def __init__(self, secret: str, seconds: float) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ConfigError("memory.url needs cryptography: pip install 'turnguard[shared]'") from None
        self._cipher = AESGCM
        self._seconds = seconds
        self._adapter = TypeAdapter(_Entry)
        self._format = _format()
        root = hashlib.sha256(secret.encode()).digest()  # BLAKE2 takes a key of 64 bytes at most
        self.content_key, self._naming, self._sealing, self._tenants = (
            hashlib.blake2b(use, key=root, digest_size=32).digest() for use in (b"content", b"name", b"seal", b"tenant")
        )

    def name(self, identity: str, content: bytes) -> bytes:
        """The key in the store of what the model `identity` said of `content` (a keyed digest)."""
        asked = b"%d:%s%s" % (len(content), content, identity.encode("utf-8", "surrogatepass"))
        return b"turnguard:" + hashlib.blake2b(asked, key=self._naming, digest_size=20).hexdigest().encode()

    def tenant(self, name: str | None) -> str | None:
        """A tenant as a keyed digest."""
        if name is None:
            return None
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._tenants, digest_size=12).hexdigest()

    def seal(self, name: bytes, verdict: Verdict, tenant: str | None, now: float) -> bytes:
        """The entry to store under `name`. `now` is a time of day in seconds. Raises `ValueError` for text that JSON
        cannot carry.
        """
        entry = _Entry(now, tenant, replace(verdict, remembered=False))
        data = self._adapter.dump_json(entry, exclude_defaults=True)
        data = data.ljust(-(-len(data) // PADDED) * PADDED)
        nonce = os.urandom(NONCE)
        return b"".join((self._format, nonce, self._sealed_under(name).encrypt(nonce, data, self._format)))

    def open(self, name: bytes, data: object, now: float) -> Found:
        """The verdict that lies under `name`. Raises `Refused`."""
        size = len(self._format)
        if not isinstance(data, bytes) or data[:size] != self._format:
            raise Refused("version")
        try:
            plain = self._sealed_under(name).decrypt(data[size : size + NONCE], data[size + NONCE :], self._format)
            entry = self._adapter.validate_json(plain)
        except ValidationError:
            raise Refused("form") from None
        except Exception:  # noqa: BLE001 - whatever is wrong with what lies there, it is not believed
            raise Refused("forged") from None
        if not now - self._seconds <= entry.at <= now + SKEW:
            raise Refused("time")
        if entry.verdict.failure is not None:
            raise Refused("form")
        return Found(entry.verdict, entry.tenant, min(self._seconds, entry.at + self._seconds - now))

    def _sealed_under(self, name: bytes) -> AESGCM:
        """A cipher for this name alone: what was stored elsewhere does not open here."""
        return self._cipher(hashlib.blake2b(name, key=self._sealing, digest_size=32).digest())


def _format() -> bytes:
    """Names the shape of a verdict: a release that reads verdicts otherwise neither finds nor believes these."""
    shape = repr([(each.name, str(each.type)) for kind in (_Entry, Verdict) for each in fields(kind)])
    return b"TG1" + hashlib.blake2b(shape.encode(), digest_size=5).digest()
