"""Everything that Turnguard raises, as one tree.

TurnguardError
├── ConfigError        the developer's mistake: a file, a key, a value, a missing extra
├── ModeratorError     the moderator gave no verdict
│   ├── Unavailable    refused, reset, 5xx, 429, a full queue, an open circuit
│   ├── Timeout        the deadline passed
│   ├── Rejected       a 4xx but 429: this request will never be accepted
│   └── Unparseable    a 200 that holds no legal verdict
├── StoreError         the database of records and reviews cannot be used
├── ReviewError        a review that is not known, was answered already, or an answer that cannot be taken
└── Blocked            a surface that blocks by exception; carries the decision

A failed moderator and blocked content are never conflated. No message holds content or credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

Retry = Literal["never", "once", "wait", "now"]

if TYPE_CHECKING:
    from turnguard.core.decision import Decision
    from turnguard.core.verdict import Failure


class TurnguardError(Exception):
    """The root: catch this to catch everything that Turnguard raises on purpose."""


class ConfigError(TurnguardError):
    """The developer's mistake. `problems` holds one sentence each; `str()` joins them with line breaks."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ModeratorError(TurnguardError):
    """The moderator gave no verdict. `cause` is a short stable word or sentence that is safe to log.

    `retry` says what asking again can do: `never` help, help `once` (a server error can be an accident), help after a
    `wait` (the server is busy; `retry_after` is its own wish in seconds), or help `now` (a connection was reset).
    """

    failure: ClassVar[Failure] = "unavailable"

    def __init__(self, cause: str, *, retry: Retry = "never", retry_after: float | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.retry = retry
        self.retry_after = retry_after


class Unavailable(ModeratorError):
    """Refused, reset, 5xx, 429, a full queue, an open circuit."""

    failure = "unavailable"


class Timeout(ModeratorError):
    """The deadline passed before a verdict came."""

    failure = "timeout"


class Rejected(ModeratorError):
    """The server refused this request for good (4xx but 429).

    `too_long` says that this content does not fit into the model's context. That is no failure of the moderator: the
    policy's `on_uncheckable` decides, so that content cannot choose the rule that it is decided by.
    """

    failure = "rejected"

    def __init__(
        self, cause: str, *, retry: Retry = "never", retry_after: float | None = None, too_long: bool = False
    ) -> None:
        super().__init__(cause, retry=retry, retry_after=retry_after)
        self.too_long = too_long


class Unparseable(ModeratorError):
    """The server answered 200 without a legal verdict. Never read as safe."""

    failure = "unparseable"


class StoreError(TurnguardError):
    """The database of records and reviews cannot be reached, read or written. The text holds no credentials."""


class ReviewError(TurnguardError):
    """A review that is not known here, was answered already or has expired, or an answer that cannot be taken."""


class Blocked(TurnguardError):
    """Raised only where a surface blocks by exception. `decision` says why; the text holds no content."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.summary())
        self.decision = decision
