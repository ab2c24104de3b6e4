"""The settings of a scheduler, each in one row: its names, default, type, check and meaning. Pure.

The constructor of `BackgroundTaskScheduler` checks its arguments by this table; TOML files and environment variables
are read by it; the tables of docs/guide/configuration.md are made from it. Tests compare it with the signature of the
constructor, which shows users its defaults, and with the fields of `SchedulerConfig` and `RedisJobStoreConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from redsched.checks import check_mapping, check_name, check_names_list, check_queue, int_between, seconds_to_ms
from redsched.codec.payload_security import PayloadSecurity
from redsched.codec.values import MAX_PAYLOAD_BYTES
from redsched.errors import InvalidConfigError
from redsched.schedules.zones import parse_timezone
from redsched.tasks.executor import check_executors

__all__ = ["SETTINGS", "Kind", "Setting", "checked", "default_of", "fields"]

Kind = Literal["text", "int", "number", "bool", "list", "table", "options", "stores", "security", "object"]
"""The type of a value, in a file and in the environment. `object`: only code can give it."""
Table = Literal["scheduler", "store", ""]
Check = Callable[[Any, str], Any]


# -- checks ---------------------------------------------------------------------------------------------------------


def _count(value: Any, name: str) -> int:
    return int_between(value, name, 1, error=InvalidConfigError)


def _shards(value: Any, name: str) -> int:
    return int_between(value, name, 1, 1024, error=InvalidConfigError)


def _seconds(minimum_ms: int = 0) -> Check:
    def check(value: Any, name: str) -> float:
        return seconds_to_ms(value, name, minimum_ms=minimum_ms) / 1000

    return check


def _names(value: Any, name: str) -> Any:
    return check_names_list(value, name, empty=name != "queues", error=InvalidConfigError)


def _mapping(value: Any, name: str) -> Any:
    return check_mapping(value, name, error=InvalidConfigError)


def _zone(value: Any, name: str) -> str:
    return parse_timezone(value, "UTC")


def _executors(value: Any, name: str) -> Any:
    return check_executors(value)


def _provider(value: Any, name: str) -> Any:
    if not callable(getattr(value, "get_service", None)):
        raise InvalidConfigError(f"{name} is {value!r}; it must have a method get_service(class)", field=name)
    return value


def _security(value: Any, name: str) -> Any:
    if not isinstance(value, PayloadSecurity):
        raise InvalidConfigError(f"{name} must be a PayloadSecurity([key, …])", field=name)
    return value


# -- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    """The argument of `BackgroundTaskScheduler`; of those that have none, the field."""
    kind: Kind
    default: Any
    meaning: str
    """With the unit, as docs/guide/configuration.md says it."""
    check: Check | None = None
    """Returns the value as it is used; numbers of seconds as float. None: it is checked where it is used."""
    table: Table = "scheduler"
    """The class that has it as a field, and the table of a TOML file; "": neither, it is given in code."""
    field: str = ""
    """The name of the field, where that is another; so the specification has it."""
    short: str = ""
    """The environment variable is `REDSCHED_` and the name of the field; or `REDSCHED_` and this."""
    shown: str = ""
    """The default, where the value does not say it."""
    is_argument: bool = True
    """False: it becomes a part of the argument `redis_url`."""
    secret: bool = False

    @property
    def key(self) -> str:
        """The name of the field, and the key in a TOML file."""
        return self.field or self.name


SETTINGS = (
    Setting(
        "host", "text", "localhost", "a [URL](#urls), or a host name", table="store", short="url", is_argument=False,
    ),
    Setting(
        "port", "int", None,
        "overrides that of the URL; refused if a URL of that kind has no such part",
        table="store", is_argument=False, shown="as in the URL",
    ),
    Setting(
        "db", "int", None,
        "overrides that of the URL; refused if a URL of that kind has no such part",
        table="store", is_argument=False, shown="as in the URL",
    ),
    Setting(
        "username", "text", None,
        "overrides that of the URL; refused if a URL of that kind has no such part",
        table="store", is_argument=False, shown="as in the URL",
    ),
    Setting(
        "password", "text", None,
        "overrides that of the URL; refused if a URL of that kind has no such part",
        table="store", is_argument=False, shown="as in the URL", secret=True,
    ),
    Setting(
        "redis_url", "text", "redis://localhost:6379",
        "the URL, made of the fields `host` to `password`", table="",
    ),
    Setting(
        "job_store_prefix", "text", "redsched",
        "the prefix of all keys; schedulers with the same prefix share their jobs", table="store", short="prefix",
    ),
    Setting(
        "connection_pool_size", "int", 50,
        "connections of one process; a worker holds three for each shard and needs two more", _count, table="store",
    ),
    Setting(
        "health_check_interval", "number", 0.0,
        "seconds after which an idle connection is checked before it is used; 0: never. Without checks a "
        "broken connection is still noticed, and the command is sent again", _seconds(), table="store",
    ),
    Setting(
        "lease", "number", 30.0,
        "seconds: the lease of a run. A worker without a sign of life for that long loses it (if its event "
        "loop is blocked: after `stall_limit`)", _seconds(200), table="store", field="distributed_lock_timeout",
    ),
    Setting(
        "lock_prefix", "text", None,
        "the name of the leases key, inside the prefix's hash tag", check_queue, table="store",
    ),
    Setting(
        "redis_options", "options", None,
        "further [options of the connections](#options-of-a-connection), such as `ssl_ca_certs`", _mapping,
        table="store",
    ),
    Setting(
        "job_stores", "stores", None,
        "one store, under any name", is_argument=False, shown="Redis on this machine",
    ),
    Setting("executors", "table", None, "see below", _executors),
    Setting(
        "job_defaults", "table", None,
        "default options of jobs; those of the store override those of the scheduler", _mapping,
    ),
    Setting("timezone", "text", "UTC", "the zone of jobs that name none, and of naive datetimes", _zone),
    Setting("queues", "list", ("default",), "the queues that the worker serves, the preferred first", _names),
    Setting("concurrency", "int", 100, "the number of runs that the worker executes at once", _count),
    Setting(
        "shards", "int", None,
        "the number of hash tags over which the jobs are distributed: see [Cluster](cluster.md)", _shards,
        shown="as stored, else 1; in a cluster 8",
    ),
    Setting(
        "max_catch_up", "int", 1000,
        "with coalesce=False: the maximum number of overdue fires of one job that are run", _count,
    ),
    Setting(
        "stall_limit", "number", 60.0,
        "seconds that a worker's event loop may be [blocked](workers.md#a-blocked-event-loop) before others "
        "take over its runs; 0: as if it had died", _seconds(),
    ),
    Setting("shutdown_grace", "number", 30.0, "seconds that runs have to finish", _seconds()),
    Setting(
        "task_packages", "list", (),
        "modules and packages that a worker imports when it starts, for their decorated tasks", _names,
    ),
    Setting(
        "application", "text", None,
        "the owner of the jobs that the code declares; none: the package of each function. See "
        "[deploys](processes.md)", check_name,
    ),
    Setting("declared_tasks", "bool", True, "whether `start` stores the jobs of `@schedule_task`"),
    Setting("dead_max", "int", 10_000, "the number of dead runs that are kept; the oldest go first", _count),
    Setting("dead_max_bytes", "int", 67_108_864, "bytes of dead runs, including records and tracebacks", _count),
    Setting("dead_age", "number", 7 * 86_400.0, "seconds for which a dead run is kept", _seconds()),
    Setting(
        "events_max", "int", 10_000,
        "entries of the events stream; one entry carries up to 250 transitions", _count,
    ),
    Setting("events_max_bytes", "int", 67_108_864, "bytes of the events stream", _count),
    Setting(
        "outcomes_max_bytes", "int", 134_217_728,
        "bytes of the [outcomes of runs](jobs.md#how-a-job-ends) that are kept: about 94 bytes for a plain "
        "run that is done (`MEMORY USAGE`, with a task name of 27 characters, if 100 or more end together; "
        "152 for a single one), 140 for others. So about 1,400,000 runs per shard: the full five minutes at "
        "up to 4,700 runs/s, or 28 s at 50,000/s; five minutes at 50,000/s need 1.4 GB", _count,
    ),
    Setting("max_payload_bytes", "int", MAX_PAYLOAD_BYTES, "the maximum size of a job's arguments, encoded", _count),
    Setting(
        "retry_for", "number", 10.0,
        "seconds for which a call is retried while Redis does not answer", _seconds(),
    ),
    Setting(
        "durability_replicas", "int", 1,
        'the number of replicas that must have a job of [`durability="replicated"`](durability.md)', _count,
    ),
    Setting("durability_timeout", "number", 5.0, "seconds to wait for the replicas, or for the disk", _seconds(1)),
    Setting(
        "payload_security", "security", None,
        "keys that [sign or encrypt](../security.md) jobs: a `PayloadSecurity`, or a table with `keys`, "
        "`encrypt` and `accept_unsigned`. As variables: `REDSCHED_PAYLOAD_SECURITY__KEYS` (with commas "
        "between them), `REDSCHED_PAYLOAD_SECURITY__ENCRYPT`", _security,
    ),
    Setting(
        "threads", "int", 20,
        "how many plain functions run at once; in a file `executors` says it", _count, table="",
    ),
    Setting(
        "processes", "int", 2,
        "how many functions of the process pool run at once; in a file `executors` says it", _count, table="",
    ),
    Setting(
        "service_provider", "object", None,
        "an object with `get_service(class)`, for methods as tasks", _provider, table="",
    ),
)  # fmt: skip
"""Every setting."""

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def default_of(name: str) -> Any:
    """The default of a setting."""
    return _BY_NAME[name].default


def fields(table: Table) -> dict[str, Setting]:
    """The settings that are fields of a table, by the names of the fields."""
    found = {setting.key: setting for setting in SETTINGS if setting.table == table}
    if table == "store":
        found["job_defaults"] = _BY_NAME["job_defaults"]
    return found


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a scheduler, each checked. None passes where it is the default.

    Raises:
        InvalidInputError: one is wrong; the message names it.
    """
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if not setting.is_argument:
            continue
        value = given[setting.name]
        if setting.check is not None and (value is not None or setting.default is not None):
            value = setting.check(value, setting.name)
        values[setting.name] = value
    return values
