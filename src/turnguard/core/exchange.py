"""One request's worth of content: what the model can judge at once. A step becomes one exchange or several."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from turnguard.core.step import Stage


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image as it goes on the wire: made once, hashed once, serialised once.

    `digest` is a SHA-256 of `data`. `base64` is ASCII.
    """

    data: bytes = field(repr=False)
    media_type: str
    digest: bytes = field(repr=False)
    base64: str = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Picture:
        """Hash and serialise `data` (an encoded PNG or JPEG)."""
        import hashlib

        return cls(data, media_type, hashlib.sha256(data).digest(), base64.b64encode(data).decode("ascii"))

    @property
    def data_uri(self) -> str:
        """The picture as a `data:` URI."""
        return f"data:{self.media_type};base64,{self.base64}"


@dataclass(frozen=True, slots=True)
class OwnCategory:
    """A category that a policy defines: what it means, and examples of what it covers and what it does not."""

    name: str
    definition: str
    disallowed: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnCategories:
    """What one policy tells the model to judge by: categories beside the taxonomy, or a text in its place.

    `text` replaces the taxonomy, and then there are no `categories`. `digest` is made once: verdicts are remembered
    under it. `tokens` is how much room the definitions take in every prompt, estimated from above.
    """

    categories: tuple[OwnCategory, ...]
    digest: bytes = field(repr=False)
    tokens: int = 0
    text: str | None = None

    @classmethod
    def of(cls, categories: Iterable[OwnCategory] = (), text: str | None = None) -> OwnCategories:
        """Hash the definitions; their order counts, since the model reads them in it."""
        import hashlib

        made = tuple(categories)
        said = repr(made if text is None else text).encode("utf-8", "surrogatepass")
        return cls(made, hashlib.sha256(said).digest(), len(said) // 2, text)


@dataclass(frozen=True, slots=True)
class Exchange:
    """At most one prompt text, one image and one response: the model takes no more (model card).

    The texts are the original content; the model family neutralises control tokens when it builds the request. `stage`
    is for records and tests, and `tenant` for whether a remembered verdict is shown as one; neither is ever part of a
    verdict's identity. `own` are the categories of the policy that asks; a family that takes none rejects such an
    exchange.
    """

    prompt: str = field(repr=False)
    picture: Picture | None = None
    response: str | None = field(default=None, repr=False)
    stage: Stage = "input"
    own: OwnCategories | None = None
    tenant: str | None = field(default=None, repr=False, compare=False)
