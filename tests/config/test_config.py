"""Every field of a configuration takes effect, from code, the environment or a file; a wrong one is named."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redsched import (
    BackgroundTaskScheduler,
    CustomTaskExecutor,
    InvalidConfigError,
    PayloadSecurity,
    RedisJobStoreConfig,
    SchedulerConfig,
    StoreAccessError,
    StoreUnavailableError,
    schedule_task,
    settings,
)
from redsched.testing import fresh_prefix, kit
from tests.servers import LocalServer


async def give(value: int = 1) -> int:
    return value


@schedule_task(max_instances=7)
async def decorated() -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with contextlib.closing(LocalServer("--requirepass", "s3cret/word")) as made:
        yield made


def config(server: LocalServer, *, store: dict[str, Any] | None = None, **settings: Any) -> SchedulerConfig:
    values: dict[str, Any] = {
        "host": server.url, "password": "s3cret/word", "job_store_prefix": fresh_prefix(), **(store or {}),
    }  # fmt: skip
    return SchedulerConfig(job_stores={"redis": RedisJobStoreConfig(**values)}, **settings)


def keys(server: LocalServer, db: int = 0) -> list[str]:
    import redis

    with redis.Redis(port=server.port, password="s3cret/word", db=db, decode_responses=True) as client:
        return [str(key) for key in client.scan_iter("*")]


# -- the job store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "redis://localhost"),
        ({"host": "redis.example"}, "redis://redis.example"),
        ({"host": "redis.example", "port": 7000, "db": 3}, "redis://redis.example:7000/3"),
        ({"host": "redis://redis.example:6379/5", "db": 1}, "redis://redis.example:6379/1"),
        ({"host": "redis://redis.example:6379", "port": 7000}, "redis://redis.example:7000"),
        ({"host": "rediss://u:old@redis.example", "password": "p/w"}, "rediss://:p%2Fw@redis.example"),
        ({"host": "redis.example", "username": "ann", "password": "x@y"}, "redis://ann:x%40y@redis.example"),
        ({"host": "[::1]", "port": 7000}, "redis://[::1]:7000"),
        ({"host": "redis+sentinel://a,b:2/jobs", "db": 3}, "redis+sentinel://a,b:2/jobs/3"),
        ({"host": "redis+cluster://a:1,b:2", "password": "p"}, "redis+cluster://:p@a:1,b:2"),
        ({"host": "unix:///run/redis.sock", "db": 2}, "unix:///run/redis.sock?db=2"),
        ({"host": "unix:///run/redis.sock?db=1&password=old", "db": 2}, "unix:///run/redis.sock?password=old&db=2"),
        ({"host": "redis://redis.example?db=1&client_name=x", "db": 3}, "redis://redis.example/3?client_name=x"),
        ({"host": "embedded:///var/lib/x", "db": 2}, "embedded:///var/lib/x?db=2"),
    ],
)
def test_host_port_db_and_password_make_one_url(fields: dict[str, Any], url: str) -> None:
    assert RedisJobStoreConfig(**fields).url == url


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"host": "unix:///run/redis.sock", "port": 1}, "port"),
        ({"host": "embedded:///var/lib/x", "port": 1}, "port"),
        ({"host": "redis+cluster://a:1,b:2", "port": 1}, "port"),
        ({"host": "embedded:///var/lib/x", "password": "hunter2"}, "password"),
        ({"host": "embedded:///var/lib/x", "username": "u", "db": 1}, "username"),
        ({"host": "[nonsense", "db": 1}, "redis_url"),
        ({"host": "h", "db": -1}, "redis_url"),
        ({"host": "h", "port": 0}, "redis_url"),
        ({"host": "redis+cluster://a", "db": 1}, "redis_url"),
    ],
)
def test_a_field_that_the_url_has_no_place_for_is_refused(fields: dict[str, Any], named: str) -> None:
    settings = SchedulerConfig(job_stores={"redis": RedisJobStoreConfig(**fields)})
    with pytest.raises(InvalidConfigError) as raised:
        BackgroundTaskScheduler.from_config(settings)
    assert raised.value.field == named
    assert "hunter2" not in str(raised.value)


def test_a_password_of_digits_from_the_environment_keeps_them() -> None:
    made = SchedulerConfig.from_env({"REDSCHED_REDIS_OPTIONS__PASSWORD": "007", "REDSCHED_REDIS_OPTIONS__DB": "3"})
    assert made.store.redis_options == {"password": "007", "db": "3"}
    BackgroundTaskScheduler.from_config(made)


async def test_the_password_and_the_database_are_used(server: LocalServer) -> None:
    made = config(server, store={"db": 3})
    async with kit(BackgroundTaskScheduler.from_config(made), clean=False) as the_kit:
        handle = await the_kit.scheduler.schedule_immediate_task("give", give)
        assert any(handle.id in key for key in keys(server, 3))
        assert not any(handle.id in key for key in keys(server, 0))
    with pytest.raises(StoreAccessError):
        await BackgroundTaskScheduler.from_config(config(server, store={"password": "wrong"})).start()


async def test_a_user_name_is_used(server: LocalServer) -> None:
    import redis

    with redis.Redis(port=server.port, password="s3cret/word") as client:
        client.execute_command("ACL", "SETUSER", "ann", "on", ">hers", "~*", "&*", "+@all")
    made = config(server, store={"username": "ann", "password": "hers"})
    async with kit(BackgroundTaskScheduler.from_config(made)) as the_kit:
        await the_kit.scheduler.schedule_immediate_task("give", give)
        assert await the_kit.run_due() == 1


async def test_no_more_connections_than_the_pool_has(server: LocalServer) -> None:
    scheduler = BackgroundTaskScheduler.from_config(config(server, store={"connection_pool_size": 2}, retry_for=0))
    store = await scheduler.store()
    for name in ("one", "two"):
        await store.link.command("PING", hold=name)
    import redis

    with redis.Redis(port=server.port, password="s3cret/word") as client:
        mine = [c for c in client.client_list() if c["cmd"] == "ping"]
    assert len(mine) == 2
    store.link._loops.get().pool.timeout = 0.05
    with pytest.raises(StoreUnavailableError, match="No connection available"):
        await store.link.command("PING")
    await store.close()


async def test_a_worker_is_not_made_with_too_few_connections(server: LocalServer) -> None:
    scheduler = BackgroundTaskScheduler.from_config(config(server, store={"connection_pool_size": 2}))
    with pytest.raises(InvalidConfigError, match="connection_pool_size is 2; a worker of 1 shard needs at least 5"):
        await scheduler.start()


async def test_a_connection_that_was_not_used_for_the_interval_is_tried_first(server: LocalServer) -> None:
    import redis

    async def pings(interval: float) -> int:
        scheduler = BackgroundTaskScheduler.from_config(config(server, store={"health_check_interval": interval}))
        store = await scheduler.store()
        with redis.Redis(port=server.port, password="s3cret/word") as client:
            await store.link.command("ECHO", "first", hold="mine")
            store.link._loops.get().held["mine"].next_health_check = 1e-9  # as if the interval had passed
            client.config_resetstat()
            await store.link.command("ECHO", "second", hold="mine")
            stats = client.info("commandstats")
        await store.close()
        return stats.get("cmdstat_ping", {}).get("calls", 0)

    assert await pings(0) == 0
    assert await pings(30) == 1


async def test_the_lock_timeout_is_the_lease(server: LocalServer) -> None:
    made = config(server, store={"distributed_lock_timeout": 60})
    async with kit(BackgroundTaskScheduler.from_config(made)) as the_kit:
        store = await the_kit.scheduler.store()
        assert store.limits.lease_ms == 60_000


async def test_the_lock_prefix_names_the_key_of_the_leases(server: LocalServer) -> None:
    made = config(server, store={"lock_prefix": "mario_pizzeria_locks"})
    seen: list[str] = []

    async def look() -> None:
        seen.extend(key for key in keys(server) if key.endswith("leases"))

    async with kit(BackgroundTaskScheduler.from_config(made)) as the_kit:
        await the_kit.scheduler.schedule_immediate_task("look", look)
        assert await the_kit.run_due() == 1
        assert seen == [f"{{{the_kit.scheduler.prefix}:0}}:mario_pizzeria_locks:leases"]
        other = BackgroundTaskScheduler(made.store.url, the_kit.scheduler.prefix, lock_prefix="others")
        with pytest.raises(InvalidConfigError, match="lock_prefix is 'others', but the jobs"):
            await other.schedule_immediate_task("give", give)
        await other.shutdown()
        other = BackgroundTaskScheduler(made.store.url, the_kit.scheduler.prefix)
        await other.schedule_immediate_task("give", give)
        assert (await other.store()).lock_prefix == "mario_pizzeria_locks"
        await other.shutdown()


async def test_processes_of_one_prefix_must_have_the_same_shards(server: LocalServer) -> None:
    made = config(server, shards=4)
    async with kit(BackgroundTaskScheduler.from_config(made)) as the_kit:
        await the_kit.scheduler.schedule_immediate_task("give", give)
        other = BackgroundTaskScheduler(made.store.url, the_kit.scheduler.prefix, shards=2)
        with pytest.raises(InvalidConfigError, match=r"shards is '2', but the jobs of the prefix .* with '4'"):
            await other.start()
        await the_kit.scheduler.clear_all_jobs()
        async with kit(other):
            await other.schedule_immediate_task("give", give)


# -- the scheduler --------------------------------------------------------------------------------------------------


async def test_the_options_of_a_job_come_from_the_call_the_decorator_the_store_the_scheduler_then_from_here(
    server: LocalServer,
) -> None:
    made = config(
        server,
        store={"job_defaults": {"coalesce": True, "max_instances": 3}},
        job_defaults={"coalesce": False, "max_instances": 4, "timeout": 9},
    )
    async with kit(BackgroundTaskScheduler.from_config(made)) as the_kit:
        scheduler = the_kit.scheduler

        async def told(task: Any, **options: Any) -> tuple[bool, int, float | None, int]:
            job = await (await scheduler.schedule_delayed_task("x", task, 60, **options)).get()
            assert job is not None
            return job.coalesce, job.max_instances, job.timeout, job.max_attempts

        assert await told(give) == (True, 3, 9, 1)
        assert await told(decorated) == (True, 7, 9, 1)
        assert await told(decorated, max_instances=8, timeout=None, max_attempts=2) == (True, 8, None, 2)


SETTINGS: dict[str, tuple[Any, str]] = {
    "timezone": ("Asia/Kolkata", "str(scheduler.timezone)"),
    "queues": (["urgent", "default"], "scheduler.make_worker().queues[:2]"),
    "concurrency": (7, "scheduler.make_worker().concurrency"),
    "shards": (3, "len(store.shards)"),
    "max_catch_up": (17, "scheduler.make_worker().max_catch_up"),
    "shutdown_grace": (1.5, "scheduler.shutdown_grace"),
    "stall_limit": (7.5, "scheduler._worker_settings['stall_limit_ms'] / 1000"),
    "task_packages": (["shop"], "list(scheduler.registry.packages)"),
    "application": ("shop", "scheduler.application"),
    "declared_tasks": (False, "scheduler._declared_tasks"),
    "dead_max": (11, "store.limits.dead_max"),
    "dead_age": (3600.0, "store.limits.dead_age_ms / 1000"),
    "dead_max_bytes": (5000, "store.limits.dead_max_bytes"),
    "events_max_bytes": (7000, "store.limits.events_max_bytes"),
    "outcomes_max_bytes": (9000, "store.limits.outcomes_max_bytes"),
    "events_max": (77, "store.limits.events_max"),
    "max_payload_bytes": (4096, "scheduler.max_payload_bytes"),
    "retry_for": (0.5, "store.shards[0].resend.for_seconds"),
    "durability_replicas": (2, "store.durability_level(()).replicas"),
    "durability_timeout": (0.5, "store.durability_level(()).timeout_ms / 1000"),
}
"""Setting -> a value that is not the default, and where it is found again."""


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_setting_takes_effect(name: str) -> None:
    value, where = SETTINGS[name]
    assert value != getattr(SchedulerConfig(), name)
    scheduler = BackgroundTaskScheduler.from_config(SchedulerConfig(**{name: value}))
    assert eval(where, {"scheduler": scheduler, "store": await scheduler.client.open()}) == value


def test_every_setting_is_tested() -> None:
    fields = {field.name for field in dataclasses.fields(SchedulerConfig)}
    assert fields == {*SETTINGS, "job_stores", "executors", "job_defaults", "payload_security"}


def test_the_constructor_has_the_settings_of_the_table_with_their_defaults() -> None:
    parameters = inspect.signature(BackgroundTaskScheduler).parameters
    arguments = {setting.name: setting.default for setting in settings.SETTINGS if setting.is_argument}
    assert {name: parameter.default for name, parameter in parameters.items()} == arguments


@pytest.mark.parametrize(("kind", "table"), [(SchedulerConfig, "scheduler"), (RedisJobStoreConfig, "store")])
def test_a_configuration_has_the_settings_of_the_table_with_their_defaults(kind: Any, table: Any) -> None:
    found = {field.name: field for field in dataclasses.fields(kind)}
    assert found.keys() == settings.fields(table).keys()
    for name, setting in settings.fields(table).items():
        default = {} if found[name].default is dataclasses.MISSING else found[name].default
        assert default == ({} if setting.default is None and default == {} else setting.default), name
        assert "repr=False" in str(found[name]) or not setting.secret, name


def test_a_configuration_gives_the_constructor_its_defaults() -> None:
    """Each setting that a configuration can have, and none that the constructor does not know."""
    arguments = {setting.name for setting in settings.SETTINGS if setting.is_argument}
    given = SchedulerConfig().settings()
    assert arguments - given.keys() == {"threads", "processes", "service_provider"}
    assert given.pop("redis_url") == "redis://localhost"
    for name, value in given.items():
        assert value == settings.default_of(name) or (value == {} and settings.default_of(name) is None), name


# -- from a file, from the environment ------------------------------------------------------------------------------

FILE = """
timezone = "Europe/Berlin"
queues = ["urgent", "default"]
concurrency = 50
shutdown_grace = 5

[job_defaults]
coalesce = false
timeout = 2.5

[job_stores.redis]
host = "redis://localhost:6379"
db = 1
password = "secret"
distributed_lock_timeout = 60
lock_prefix = "locks"

[job_stores.redis.job_defaults]
max_instances = 3

[executors.processpool]
type = "processpool"
max_workers = 5
"""

ENVIRONMENT = {
    "REDSCHED_URL": "redis://localhost:6379", "REDSCHED_DB": "1", "REDSCHED_PASSWORD": "secret",
    "REDSCHED_DISTRIBUTED_LOCK_TIMEOUT": "60", "REDSCHED_LOCK_PREFIX": "locks", "REDSCHED_TIMEZONE": "Europe/Berlin",
    "REDSCHED_QUEUES": "urgent, default", "REDSCHED_CONCURRENCY": "50", "REDSCHED_SHUTDOWN_GRACE": "5",
    "REDSCHED_JOB_DEFAULTS__COALESCE": "false", "REDSCHED_JOB_DEFAULTS__TIMEOUT": "2.5",
    "REDSCHED_JOB_DEFAULTS__MAX_INSTANCES": "3", "REDSCHED_EXECUTORS__PROCESSPOOL__TYPE": "processpool",
    "REDSCHED_EXECUTORS__PROCESSPOOL__MAX_WORKERS": "5", "PATH": "/bin", "REDSCHED_TEST_URL": "redis://other",
}  # fmt: skip


@pytest.mark.parametrize("way", ["file", "pyproject", "environment"])
def test_a_configuration_can_be_read(way: str, tmp_path: Path) -> None:
    file = tmp_path / "redsched.toml"
    if way == "environment":
        made = SchedulerConfig.from_env(ENVIRONMENT)
    elif way == "file":
        file.write_text(FILE)
        made = SchedulerConfig.from_toml(file)
    else:
        file.write_text('[project]\nname = "shop"\n[tool.redsched]\n' + FILE.replace("\n[", "\n[tool.redsched."))
        made = SchedulerConfig.from_toml(file)
    assert made.store.url == "redis://:secret@localhost:6379/1"
    assert (made.store.distributed_lock_timeout, made.store.lock_prefix) == (60, "locks")
    assert (made.timezone, list(made.queues), made.concurrency) == ("Europe/Berlin", ["urgent", "default"], 50)
    scheduler = BackgroundTaskScheduler.from_config(made)
    assert (scheduler.options.coalesce, scheduler.options.timeout_ms, scheduler.options.max_instances) == (
        False,
        2500,
        3,
    )
    assert scheduler._executors._by_name["processpool"]._size == 5  # type: ignore[union-attr]
    assert "secret" not in repr(made)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("concurency = 5", "'concurency' is not a setting; did you mean 'concurrency'?"),
        ("concurrency = 'five'", "concurrency is 'five'; it must be an int"),
        ("concurrency = true", "concurrency is True; it must be an int"),
        ("timezone = 5", "timezone is 5; it must be text"),
        ("queues = 'default'", "queues is 'default'; it must be a list"),
        ("[job_stores.redis]\nhots = 'x'", "redis: 'hots' is not a setting; did you mean 'host'?"),
        ("[job_stores.redis]\npassword = 5", "password is ***; it must be text"),
        ("[job_stores.a]\n[job_stores.b]", "pass a dict with one store"),
        ("job_stores = 5", "job_stores is 5; it must be a table"),
        ("concurrency = ", "Invalid value"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "redsched.toml"
    file.write_text(text)
    with pytest.raises(InvalidConfigError) as caught:
        SchedulerConfig.from_toml(file)
    assert str(file) in str(caught.value)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"nowhere\.toml"):
        SchedulerConfig.from_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("REDSCHED_CONCURENCY", "5", "REDSCHED_CONCURENCY.*did you mean 'concurrency'"),
        ("REDSCHED_CONCURRENCY", "many", "REDSCHED_CONCURRENCY.*must be an int"),
        ("REDSCHED_DB", "one", "REDSCHED_DB.*must be an int"),
        ("REDSCHED_DECLARED_TASKS", "maybe", "REDSCHED_DECLARED_TASKS.*true or false"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_with_the_variable(variable: str, text: str, says: str) -> None:
    with pytest.raises(InvalidConfigError, match=says):
        SchedulerConfig.from_env({variable: text})


def test_what_the_scripts_read_is_taken_for_no_setting() -> None:
    """A shell that exports one of them must still be able to start a worker."""
    root = Path(__file__).resolve().parents[2]
    files = [
        *root.glob(".ci/**/*"),
        *root.glob("tests/*.sh"),
        *root.glob("examples/*.sh"),
        *root.glob("benchmarks/*.py"),
    ]
    text = "".join(path.read_text() for path in files if path.is_file())
    read = set(re.findall(r"\bREDSCHED_[A-Z_]+", text))
    assert {"REDSCHED_PYTHON", "REDSCHED_REQUIRE_CONTAINERS", "REDSCHED_BENCH_ENVIRONMENTS"} <= read
    assert SchedulerConfig.from_env(dict.fromkeys(read, "1")) == SchedulerConfig()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"job_stores": {"a": RedisJobStoreConfig(), "b": RedisJobStoreConfig()}}, "job_stores"),
        ({"job_stores": {"redis": "redis://localhost"}}, "job_stores"),
        ({"job_stores": "redis://localhost"}, "job_stores"),
        ({"executors": {"x": "threadpool"}}, "executors"),
        ({"executors": {"x": {"type": "gevent"}}}, "executors"),
        ({"executors": {"x": {"type": "threadpool", "workers": 5}}}, "executors"),
        ({"executors": {"x": {"max_workers": 0}}}, "executors"),
        ({"executors": {"default": None}}, "executors"),
        ({"executors": {"x": CustomTaskExecutor}}, "executors"),
        ({"executors": []}, "executors"),
        ({"timezone": "Mars"}, "timezone"),
        ({"job_defaults": {"colaesce": True}}, "colaesce"),
        ({"concurrency": 0}, "concurrency"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field) as caught:
        BackgroundTaskScheduler.from_config(SchedulerConfig(**settings))
    assert getattr(caught.value, "field", None) in (field, "queues")


def test_the_guide_names_every_field_with_its_default() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "configuration.md").read_text()
    rows = [line.split(" | ") for line in guide.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    fields = [*dataclasses.fields(RedisJobStoreConfig), *dataclasses.fields(SchedulerConfig)]
    assert {field.name for field in fields} <= named
    for field in fields:
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            [defaults] = [row[1] for row in rows if f"`{field.name}`" in row[0]]
            assert f"{field.default:,.0f}" in defaults, field.name


KEY, OLDER = "k" * 32, "o" * 32


def test_payload_keys_come_from_code_a_file_or_the_environment(tmp_path: Path) -> None:
    given = PayloadSecurity([KEY, OLDER], accept_unsigned=True)
    file = tmp_path / "redsched.toml"
    file.write_text(f'[payload_security]\nkeys = ["{KEY}", "{OLDER}"]\naccept_unsigned = true\n')
    variables = {
        "REDSCHED_PAYLOAD_SECURITY__KEYS": f"{KEY}, {OLDER}",
        "REDSCHED_PAYLOAD_SECURITY__ACCEPT_UNSIGNED": "true",
    }
    for config in (
        SchedulerConfig(payload_security=given),
        SchedulerConfig.from_toml(file),
        SchedulerConfig.from_env(variables),
    ):
        made = config.settings()["payload_security"]
        assert (made.label, made.accept_unsigned, made.encrypt) == (given.label, True, False)
        assert KEY not in repr(config)
        assert BackgroundTaskScheduler.from_config(config) is not None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (f'payload_security = "{KEY}"', "must be a table"),
        ("[payload_security]\nencrypt = true", "at least one key"),
        ('[payload_security]\nkeys = ["short"]', "at least 32 are needed"),
        (f'[payload_security]\nkeys = "{KEY}"', "a list of at least one key"),
        (f'[payload_security]\nkeys = ["{KEY}"]\nencrypt = "yes"', "encrypt must be true or false"),
        (f'[payload_security]\nkeys = ["{KEY}"]\nkey = "{KEY}"', "no setting 'key'"),
    ],
)
def test_wrong_payload_keys_are_refused_and_not_shown(tmp_path: Path, table: str, told: str) -> None:
    file = tmp_path / "redsched.toml"
    file.write_text(table)
    with pytest.raises(InvalidConfigError, match=told) as raised:
        SchedulerConfig.from_toml(file)
    assert KEY not in str(raised.value)
    assert str(file) in str(raised.value)
