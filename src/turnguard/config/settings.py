"""The shape of `turnguard.yaml`, except for the rules under `policy:`. Defaults and units stand here, once."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from turnguard.config.values import (
    ApiKey,
    BaseUrl,
    Count,
    Duration,
    HeaderName,
    Pixels,
    Proxy,
    Share,
    Size,
    known_family,
    no_boolean,
)
from turnguard.core.families import DEFAULT, able
from turnguard.core.validate import Section


def _can(trait: Literal["reasoning", "controversial"], value: str, default: str, family: str | None) -> str:
    """A setting that the family has no use for is a mistake, never ignored. `family` None: it is wrong itself."""
    if value != default and family is not None and family not in able(trait):
        raise ValueError(f"the family {family!r} has no {trait}; those that have: {', '.join(able(trait))}")
    return value


class TLSSettings(Section):
    """Whom to trust, and who to be, on an https connection. Paths of PEM files, from the YAML's folder."""

    ca: str | None = Field(None, description="Authorities to trust in place of the system's.")
    cert: str | None = Field(None, description="The client's certificate.")
    key: str | None = Field(None, description="The key of the client's certificate, where cert does not hold it.")

    @model_validator(mode="after")
    def _whole(self) -> TLSSettings:
        if self.key is not None and self.cert is None:
            raise ValueError("a key belongs to a client's certificate: name it under cert")
        return self


class EndpointSettings(Section):
    """One moderator endpoint, several replicas of one, or a checkpoint that is judged with in this process.

    `checkpoint` is a directory or `owner/name` on the hub, and takes the place of `base_url`.
    """

    base_url: BaseUrl | list[BaseUrl] | None = Field(None, description="The server, up to /v1; a list names replicas.")
    checkpoint: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A folder or owner/name on the hub, judged with in this process; instead of base_url."
    )
    model: str = Field("nemotron_moderator", description="The name that the server serves (vLLM: --served-model-name).")
    family: Annotated[str, AfterValidator(known_family)] = Field(
        DEFAULT, description="How the model is asked and how its reply is read."
    )
    api_key: ApiKey = Field(SecretStr(""), description="Never shown again, in no log and no error.")
    headers: dict[HeaderName, ApiKey] = Field(
        default_factory=dict, description="Sent with every request, such as {X-Tenant: search}; never shown again."
    )
    tls: TLSSettings | None = Field(None, description="A certificate authority of your own, a client's certificate.")
    proxy: Proxy | None = Field(None, description="Asked only if it is named here; the environment's is not used.")
    categories: Literal["always", "never"] = Field(
        "always", description='"never" asks for labels only: faster, but every rule per category is idle.'
    )

    reasoning: Literal["always", "never"] = Field(
        "never", description='"always": the model thinks before its verdict, where the family can; takes seconds.'
    )
    controversial: Literal["safe", "unsafe"] = Field(
        "unsafe", description="What the third label of qwen3guard counts as."
    )

    @field_validator("reasoning")
    @classmethod
    def _can_reason(cls, value: str, info: ValidationInfo) -> str:
        return _can("reasoning", value, "never", info.data.get("family"))

    @field_validator("controversial")
    @classmethod
    def _can_doubt(cls, value: str, info: ValidationInfo) -> str:
        return _can("controversial", value, "unsafe", info.data.get("family"))

    @model_validator(mode="after")
    def _one_place(self) -> EndpointSettings:
        if self.checkpoint is not None and self.base_urls:
            raise ValueError("the model is either behind a base_url or a checkpoint in this process: give one of them")
        if self.tls is not None and any(not url.startswith("https://") for url in self.base_urls):
            raise ValueError("tls is for a base_url that begins with https://")
        return self

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The replicas, in the order given; empty where none was."""
        if self.base_url is None:
            return ()
        return (self.base_url,) if isinstance(self.base_url, str) else tuple(self.base_url)


class FallbackSettings(EndpointSettings):
    """A second moderator. `block_only` may block but never allow; the in-process `sandbox` rules are always that."""

    authority: Literal["full", "block_only"] = Field(
        "full", description="block_only: its unsafe verdicts count, its safe ones do not."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> FallbackSettings:
        if self.family == "sandbox" and "authority" in self.model_fields_set and self.authority == "full":
            raise ValueError("the sandbox rules may block but never allow: authority must be block_only")
        if self.family != "sandbox" and not self.base_urls and self.checkpoint is None:
            raise ValueError("a fallback needs a base_url, a checkpoint, or family: sandbox")
        return self

    @property
    def may_allow(self) -> bool:
        """Whether a safe verdict of the fallback counts."""
        return self.authority == "full" and self.family != "sandbox"


_SHARED = tuple(name for name in EndpointSettings.model_fields if name != "reasoning")
"""What a second look at the same server has from the moderator."""


class SecondLookSettings(EndpointSettings):
    """Whom to ask again, and about what: the same model with reasoning, or another one at a base_url of its own.

    What is not given is the moderator's own where the same server is asked.
    """

    between: tuple[Share, Share] | None = Field(
        None, description="Ask again where P(unsafe) lies in this range, or where there is none."
    )
    unsafe: bool = Field(False, description="Ask again wherever the label that decides is unsafe.")
    decides: Literal["strictest", "second"] = Field(
        "strictest",
        description="The stricter decision counts; second: the second verdict's, where P lies in the range.",
    )

    @model_validator(mode="after")
    def _sound(self) -> SecondLookSettings:
        if self.family == "sandbox":
            raise ValueError("the sandbox rules are no second look: use a model")
        if self.between is None and not self.unsafe:
            raise ValueError("say where to look again: between: [0.2, 0.8], unsafe: true, or both")
        if self.between is not None and self.between[0] > self.between[1]:
            raise ValueError("the range of 'between' is empty: its first number is the lower one")
        if self.between is None and self.decides == "second":
            raise ValueError("decides: second lowers only verdicts whose P lies in the range: give 'between'")
        return self


class ModeratorSettings(EndpointSettings):
    """The moderator, and how long and how much it may be asked."""

    deadline: Duration = Field(2.0, description="For a text step: queueing, retries and failover included.")
    attempt_timeout: Duration | None = Field(
        None, description="For one request; null: half the deadline when there is another endpoint to try."
    )
    max_input_tokens: Annotated[Count, Field(ge=64)] = Field(
        2000, description="Longer text is judged in overlapping windows; the server's limit counts when smaller."
    )
    max_windows: Count = Field(32, description="More than this many windows is uncheckable, and nothing is sent.")
    max_in_flight: Count = Field(64, description="Requests open at once, per guard.")
    max_waiting: Annotated[int, BeforeValidator(no_boolean), Field(ge=0)] = Field(
        1024, description="Checks that wait for a free request; beyond that the moderator is unavailable."
    )
    fallback: FallbackSettings | None = Field(
        None,
        description="A second moderator, such as {family: sandbox}; with authority: block_only it may never allow.",
    )
    second_look: SecondLookSettings | None = Field(
        None,
        description="Ask again, better, where the first answer is worth doubting: {between: [0.2, 0.8], "
        "reasoning: always}, or the base_url, model and family of a larger model.",
    )

    @field_validator("second_look", mode="before")
    @classmethod
    def _same_server(cls, value: Any, info: ValidationInfo) -> Any:
        """Without a place of its own a second look asks the same model."""
        if not isinstance(value, dict) or "base_url" in value or "checkpoint" in value:
            return value
        return {name: info.data[name] for name in _SHARED if name in info.data} | value

    @field_validator("second_look")
    @classmethod
    def _asks_otherwise(cls, again: SecondLookSettings | None, info: ValidationInfo) -> SecondLookSettings | None:
        known = {name: info.data[name] for name in (*_SHARED, "reasoning") if name in info.data}
        if again is not None and all(getattr(again, name) == value for name, value in known.items()):
            raise ValueError(
                "second_look asks the same model in the same way: give it reasoning: always, or the base_url, model "
                "and family of a larger one"
            )
        return again


def _store(value: SecretStr) -> SecretStr:
    try:
        place = urlsplit(value.get_secret_value())
        known = place.scheme in ("redis", "rediss", "valkey", "valkeys") and bool(place.hostname) and place.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("a shared memory is a URL such as redis://host:6379/0 (also rediss, valkey and valkeys)")
    return value


def _long_enough(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if info.data.get("url") is not None and len(value.get_secret_value()) < SHORTEST_KEY:
        raise ValueError(
            f"a shared memory needs a key of {SHORTEST_KEY} characters or more, the same for all workers: "
            "key: ${TURNGUARD_MEMORY_KEY}, made with 'openssl rand -hex 32'"
        )
    return value


class MemorySettings(Section):
    """How long verdicts are remembered, and where workers share them. `url` may hold a password, so that it is as
    secret as `key`.
    """

    entries: Count = Field(50_000, description="Verdicts that a process remembers.")
    ttl: Duration = Field(3600.0, description="How long a verdict counts.")
    url: Annotated[SecretStr, AfterValidator(_store)] | None = Field(
        None, description="redis://host:6379/0 (Redis or Valkey): verdicts are shared by all workers and machines."
    )
    key: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        description="Required with url, 32 characters or more, the same for all workers.",
        validate_default=True,
    )


class MediaSettings(Section):
    """How pictures, documents and URLs are read."""

    deadline: Duration = Field(15.0, description="For a step with images or documents.")
    max_bytes: Size = Field(50_000_000, description="A larger file is uncheckable, undecoded.")
    max_pixels: Pixels = Field(50_000_000, description="A larger picture is uncheckable, undecoded.")
    max_frames: Count = Field(
        32, description="Frames or pages with a view of their own; the others share contact sheets."
    )
    max_requests: Count = Field(64, description="Requests of one step, shared among its pictures and pages.")
    tiles: Literal["auto", "never"] = Field(
        "auto", description='Large screenshots are judged whole and in tiles; "never": whole only.'
    )
    allow_urls: tuple[str, ...] = Field(
        (), description="URL prefixes that may be fetched, such as https://cdn.example.com/; nothing else is."
    )
    allow_private: tuple[str, ...] = Field(
        (), description="Address ranges inside your own network that allow_urls may resolve to."
    )
    max_urls: Count = Field(16, description="URLs of one step; more are uncheckable and not fetched.")


class StreamSettings(Section):
    """How a stream is judged: `window` new characters per check; text waits at most `max_delay` for its window."""

    window: Count = Field(200, description="New characters per check.")
    max_delay: Duration = Field(1.0, description="Text never waits longer than this for its window to fill.")
    keep_shown_prefix: bool = Field(False, description="The state keeps what was shown before a stream was blocked.")


class ChecksSettings(Section):
    """Which steps are judged together, and when. `tools`: which definitions of tools are judged; `dynamic` leaves out
    those that the application itself defines.
    """

    input: Literal["before", "beside"] = Field(
        "before", description="beside: judged beside the agent's model call; nothing is shown before the verdict."
    )
    history: Annotated[int, BeforeValidator(no_boolean), Field(ge=0)] = Field(
        0, description="Earlier user turns judged together with the newest, against split requests."
    )
    trusted_roles: tuple[str, ...] = Field(
        ("system", "developer"),
        description="Roles that your own application writes; [] where a client writes the roles.",
    )
    tools: Literal["dynamic", "all", "none"] = Field(
        "dynamic", description="Tool definitions that are judged: those from outside (MCP), all, or none."
    )


class AuditSettings(Section):
    """One JSON line per decision, to `path`; `content: true` adds the content itself.

    `key` keys the content digests: with the same key equal content has equal digests across restarts and machines.
    Without one a key is made at random for each guard. A relative path counts from the YAML's folder.
    """

    path: str | None = Field(
        None, description="A file that takes one JSON line per decision; {pid} in its name: one file per process."
    )
    content: bool = Field(False, description="Record the content itself, too.")
    required: bool = Field(False, description="A path that cannot be written is an error when the guard is made.")
    key: SecretStr = Field(
        SecretStr(""), description="Keys the digests: equal content stays recognisable across restarts and machines."
    )
    max_bytes: Size = Field(100_000_000, description="The file is rotated at this size.")
    backups: Annotated[int, BeforeValidator(no_boolean), Field(ge=0)] = Field(
        5, description="Rotated files that are kept."
    )


SHORTEST_KEY = 32


def _record_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < SHORTEST_KEY:
        raise ValueError(f"a key has {SHORTEST_KEY} characters or more, such as those of: openssl rand -hex 32")
    return value


def _no_key(value: Any) -> Any:
    """An empty key, such as an unset variable leaves, is none."""
    return None if value in ("", []) else value


def _database(value: SecretStr) -> SecretStr:
    scheme, _, rest = value.get_secret_value().partition("://")
    if scheme not in ("sqlite", "postgresql") or not rest.strip("/"):
        raise ValueError("a database is named as sqlite:///turnguard.db or postgresql://user:password@host/name")
    return value


RecordKey = Annotated[SecretStr, AfterValidator(_record_key)]


class RecordsSettings(Section):
    """The database of records, policies and reviews.

    Keys for digests and for content are derived from `key`. The first of a list encrypts; the others still decrypt.
    Without a key digests have a key of the process, and content cannot be kept.
    """

    url: Annotated[SecretStr, AfterValidator(_database)] | None = Field(
        None, description="sqlite:///turnguard.db or postgresql://user:password@host/name; a relative file counts "
        "from the YAML's folder."
    )  # fmt: skip
    content: bool = Field(False, description="Record the content itself, too, encrypted with the key.")
    keep: Duration | None = Field(7_776_000.0, description="Older records are deleted; null keeps them.")
    key: Annotated[RecordKey | list[RecordKey] | None, BeforeValidator(_no_key)] = Field(
        None, description="32 characters or more, or a list: the first encrypts, the others still decrypt."
    )
    required: bool = Field(False, description="A decision waits for its record; without one the check has failed.")
    tags: tuple[str, ...] = Field((), description="Names in the host's metadata that go into the record.")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, the one that encrypts first; empty where none was given."""
        given = self.key if isinstance(self.key, list) else [self.key] if self.key is not None else []
        return tuple(key.get_secret_value() for key in given)

    @model_validator(mode="after")
    def _encrypted(self) -> RecordsSettings:
        if self.content and not self.keys:
            raise ValueError("content is kept encrypted: give records.key, 32 characters or more")
        return self


class ReviewsSettings(Section):
    """Steps that wait for a person. With `records.url` they wait in the database, else in this process's memory.

    `answers` says whose answer counts where a host pauses its run: `store` (the command line, the console, the API),
    `host` (what the run is resumed with) or `either`.
    """

    ttl: Duration = Field(86400.0, description="How long a step waits for a person; then it is rejected.")
    answers: Literal["store", "host", "either"] = Field(
        "store", description="Whose answer counts with records.url: the store's, the host's, or either."
    )


class TelemetrySettings(Section):
    """What spans say beyond the decision. Metrics never carry metadata."""

    metadata: tuple[str, ...] = Field(
        (), description="Names of a step's metadata that go into spans, such as user and thread; else none does."
    )
