"""Configuration as objects: from code, from environment variables, from a TOML file.

The field names and nesting are those of the specification ("Redis Job Store Configuration"). Here they are checked
by type; what the values may be is checked where they are used, when the scheduler is made.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from redsched.codec.payload_security import PayloadSecurity
from redsched.config_values import EnvText, fields_of, table_of
from redsched.errors import InvalidConfigError
from redsched.logs.redaction import shown_name, shown_value, without_credentials
from redsched.settings import SETTINGS, default_of, fields
from redsched.store.urls import kind_of, split_url, without_password

__all__ = ["RedisJobStoreConfig", "SchedulerConfig"]

_OTHER_VARIABLES = frozenset(
    {
        "REDSCHED_TEST_URL",
        "REDSCHED_REQUIRE_CONTAINERS",
        "REDSCHED_PYTHON",
        "REDSCHED_BENCH_ENVIRONMENTS",
        "REDSCHED_SUDO",
    }
)
"""Environment variables of redsched that are not settings of a scheduler."""


@dataclass(frozen=True, kw_only=True)
class RedisJobStoreConfig:
    """Where the jobs are, and how that Redis is used.

    >>> store = RedisJobStoreConfig(host="redis://localhost:6379", db=1, password="secret", distributed_lock_timeout=60)
    >>> store.url
    'redis://:secret@localhost:6379/1'
    >>> "secret" in repr(store)
    False
    """

    host: str = default_of("host")
    """A URL (see docs/guide/configuration.md), or the name of a host."""
    port: int | None = default_of("port")
    """6379, if neither this nor the URL says otherwise."""
    db: int | None = default_of("db")
    """The number of the database."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    job_store_prefix: str = default_of("job_store_prefix")
    """What all keys start with."""
    connection_pool_size: int = default_of("connection_pool_size")
    """Connections of one process at most. A worker holds three for each shard."""
    health_check_interval: float = default_of("health_check_interval")
    """Seconds after which an idle connection is checked before it is used. 0 = never."""
    job_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of jobs that give none; they go before the `job_defaults` of the scheduler."""
    distributed_lock_timeout: float = default_of("lease")
    """Seconds: the lease of a run."""
    lock_prefix: str | None = default_of("lock_prefix")
    """Names the key of the leases. Every process of a `job_store_prefix` must have the same."""
    redis_options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """Further options of the connections, such as ssl_ca_certs: those that a URL may name, and
    credential_provider and socket_keepalive_options."""

    def __repr__(self) -> str:
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.repr}
        host: Any = self.host
        if isinstance(host, str):
            values["host"] = without_password(host if "://" in host else f"redis://{host}")
        text = ", ".join(f"{name}={value!r}" for name, value in values.items())
        return without_credentials(f"RedisJobStoreConfig({text})")

    @property
    def url(self) -> str:
        """All of it as one URL, with the password.

        Raises:
            InvalidConfigError: a field says what a URL of this kind cannot.
        """
        host = self.host if "://" in self.host else f"redis://{self.host}"
        kind, parts = kind_of(host), split_url(host)
        given = {"username": self.username, "password": self.password, "db": self.db}
        given = {name: str(value) for name, value in given.items() if value is not None}
        if self.port is not None:
            if kind in ("unix", "embedded") or "," in parts.hosts:
                why = (
                    "its host is a URL without one" if kind in ("unix", "embedded") else "its host names several hosts"
                )
                raise InvalidConfigError(f"port is {shown_value(self.port)}, but {why}", field="port")
            parts = replace(parts, hosts=re.sub(r":\d+$", "", parts.hosts) + f":{self.port}")
        if kind == "embedded" and (users := given.keys() - {"db"}):
            raise InvalidConfigError(f"{max(users)} is given, but an embedded server has no users", field=max(users))
        if not given:
            return str(parts)
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in given]
        if kind in ("unix", "embedded"):
            return str(replace(parts, query=urlencode(kept + list(given.items()))))
        if given.keys() != {"db"}:
            credentials = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}"
            parts = replace(parts, credentials=credentials)
        if self.db is not None:
            service = f"/{parts.path.strip('/').split('/')[0]}" if kind == "sentinel" else ""
            parts = replace(parts, path=f"{service}/{self.db}")
        return str(replace(parts, query=urlencode(kept)))


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """All settings of a scheduler: `BackgroundTaskScheduler.from_config(config)`. See there for what they mean.

    >>> config = SchedulerConfig(
    ...     job_stores={"redis": RedisJobStoreConfig(host="redis://localhost:6379")},
    ...     executors={"processpool": {"type": "processpool", "max_workers": 5}},
    ...     timezone="Europe/Berlin",
    ... )
    >>> str(BackgroundTaskScheduler.from_config(config).timezone)
    'Europe/Berlin'
    """

    job_stores: Mapping[str, RedisJobStoreConfig] = field(default_factory=dict[str, RedisJobStoreConfig])
    """One store, under any name; none = Redis on this machine."""
    executors: Mapping[str, Any] = field(default_factory=dict[str, Any])
    job_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timezone: str = default_of("timezone")
    queues: Sequence[str] = default_of("queues")
    concurrency: int = default_of("concurrency")
    shards: int | None = default_of("shards")
    max_catch_up: int = default_of("max_catch_up")
    shutdown_grace: float = default_of("shutdown_grace")
    stall_limit: float = default_of("stall_limit")
    task_packages: Sequence[str] = default_of("task_packages")
    application: str | None = default_of("application")
    """Who owns the jobs that the code declares; none = the package of each function."""
    declared_tasks: bool = default_of("declared_tasks")
    dead_max: int = default_of("dead_max")
    dead_max_bytes: int = default_of("dead_max_bytes")
    dead_age: float = default_of("dead_age")
    events_max: int = default_of("events_max")
    events_max_bytes: int = default_of("events_max_bytes")
    outcomes_max_bytes: int = default_of("outcomes_max_bytes")
    max_payload_bytes: int = default_of("max_payload_bytes")
    retry_for: float = default_of("retry_for")
    durability_replicas: int = default_of("durability_replicas")
    durability_timeout: float = default_of("durability_timeout")
    payload_security: PayloadSecurity | None = None
    """Keys with which jobs are signed or encrypted. In a file a table of its arguments, `keys` and `encrypt`; as
    variables `REDSCHED_PAYLOAD_SECURITY__KEYS`, with commas between the keys, and `…__ENCRYPT`."""

    def __post_init__(self) -> None:
        stores: Any = self.job_stores
        if not isinstance(stores, Mapping) or len(stores) > 1:
            what = f"has {len(stores)} stores" if isinstance(stores, Mapping) else f"is {shown_value(stores)}"
            raise InvalidConfigError(f"job_stores {what}; pass a dict with one store", field="job_stores")
        for name, store in stores.items():
            if not isinstance(store, RedisJobStoreConfig):
                raise InvalidConfigError(
                    f"job_stores: {shown_name(name)!r} is {shown_value(store)}; pass a RedisJobStoreConfig",
                    field="job_stores",
                )
        security: Any = self.payload_security
        if security is not None and not isinstance(security, PayloadSecurity):
            raise InvalidConfigError("payload_security must be a PayloadSecurity([key, …])", field="payload_security")

    @property
    def store(self) -> RedisJobStoreConfig:
        """The one job store."""
        return next(iter(self.job_stores.values()), RedisJobStoreConfig())

    def settings(self) -> dict[str, Any]:
        """The arguments of `BackgroundTaskScheduler`."""
        store = self.store
        values = {
            setting.name: getattr(store if setting.table == "store" else self, setting.key)
            for setting in SETTINGS
            if setting.is_argument and setting.table
        }
        values["redis_url"] = store.url
        values["job_defaults"] = {**self.job_defaults, **store.job_defaults}
        return values

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> SchedulerConfig:
        """Read a TOML file: this class' fields at its top, or in the table `[tool.redsched]`; the job store in
        `[job_stores.redis]`.

        Raises:
            InvalidConfigError: it cannot be read, or a field is unknown or of the wrong type; the message names it.
        """
        try:
            data, problem = tomllib.loads(Path(path).read_text("utf-8")), ""
        except (OSError, ValueError) as error:
            data, problem = {}, str(error)
        if problem:  # not in the except: the error that is caught has the whole text, with its passwords
            raise InvalidConfigError(f"{path}: {problem}", field="path")
        tool = data.get("tool", {})
        own = tool.get("redsched", data) if isinstance(tool, dict) else data
        return _scheduler(table_of(own, "redsched", str(path)), str(path))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> SchedulerConfig:
        """Read environment variables: `REDSCHED_URL` and `REDSCHED_PREFIX` (the store's host and job_store_prefix), and
        `REDSCHED_` with a field's name, of this class or of the store. Two underscores lead into a table:
        `REDSCHED_JOB_DEFAULTS__COALESCE=false`, `REDSCHED_EXECUTORS__PROCESSPOOL__MAX_WORKERS=5`. A list is written
        with commas.

        Raises:
            InvalidConfigError: a variable is unknown or of the wrong type; the message names it.
        """
        environ = os.environ if environ is None else environ
        data: dict[str, Any] = {}
        store: dict[str, Any] = {}
        short = {setting.short: setting.key for setting in SETTINGS if setting.short}
        stores_own = fields("store").keys() - {"job_defaults"}
        for variable, text in environ.items():
            if not variable.startswith("REDSCHED_") or variable in _OTHER_VARIABLES:
                continue
            path = variable.removeprefix("REDSCHED_").lower().split("__")
            path[0] = short.get(path[0], path[0])
            table = store if path[0] in stores_own else data
            for name in path[:-1]:
                table = table.setdefault(name, {})
                if not isinstance(table, dict):
                    raise InvalidConfigError(
                        f"the environment ({variable}): {name} is given as a value as well", field=path[0]
                    )
            if isinstance(table.get(path[-1]), dict):
                raise InvalidConfigError(f"the environment ({variable}): it is given as a table as well", field=path[0])
            table[path[-1]] = EnvText(text, variable)
        if store:
            data["job_stores"] = {"redis": store}
        return _scheduler(data, "the environment")


def _scheduler(data: Mapping[str, Any], where: str) -> SchedulerConfig:
    values = fields_of(fields("scheduler"), data, where)
    stores: Any = values.get("job_stores", {})
    values["job_stores"] = {
        name: RedisJobStoreConfig(
            **fields_of(fields("store"), table_of(store, name, where), f"{where}: job_stores.{shown_name(name)}")
        )
        for name, store in stores.items()
    }
    try:
        return SchedulerConfig(**values)
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{where}: {error}", field=error.field) from None
