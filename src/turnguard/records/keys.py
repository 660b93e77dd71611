"""The keys of the database: one for digests and one for content, both derived from `records.key`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence

from turnguard.core.errors import ConfigError


class Keys:
    """Encrypts with the first of `secrets`, decrypts with any. Without one, digests have a key of the process."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digest = _derived(secrets[0], b"turnguard digests") if secrets else os.urandom(32)
        self._fernet = None
        if secrets:
            from cryptography.fernet import Fernet, MultiFernet

            derived = (base64.urlsafe_b64encode(_derived(secret, b"turnguard content")) for secret in secrets)
            self._fernet = MultiFernet([Fernet(key) for key in derived])

    @property
    def can_encrypt(self) -> bool:
        """Whether there is a key."""
        return self._fernet is not None

    def encrypt(self, content: bytes) -> bytes:
        """Content as it is stored. Raises `ConfigError` without a key."""
        if self._fernet is None:
            raise ConfigError("content is kept encrypted: give records.key, 32 characters or more")
        return self._fernet.encrypt(content)

    def decrypt(self, token: bytes) -> bytes:
        """What `encrypt` was given. Raises `ConfigError` where no key of the list fits."""
        if self._fernet is None:
            raise ConfigError("the content is encrypted: give the records.key that it was written with")
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token)
        except InvalidToken:
            told = "records.key does not open this content; where keys were rotated, list the old one after the new one"
            raise ConfigError(told) from None

    def digest(self, content: bytes) -> str:
        """A keyed digest: equal content is found again, and none can be guessed from it."""
        return hashlib.blake2b(content, key=self._digest, digest_size=16).hexdigest()


def _derived(secret: str, purpose: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without a salt: 32 bytes for one purpose."""
    pseudorandom = hmac.digest(bytes(32), secret.encode("utf-8", "surrogatepass"), "sha256")
    return hmac.digest(pseudorandom, purpose + b"\x01", "sha256")
