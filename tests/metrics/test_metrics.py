"""What is counted is what happened: in one process, over a fleet with its accidents, and as Prometheus reads it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from redsched import BackgroundTaskScheduler, InvalidConfigError, InvalidInputError, MetricsCollector, TaskMetrics
from redsched.integrations import metrics_server, prometheus
from redsched.metrics.collector import BUCKETS, STANDARD
from redsched.testing import Kit, fresh_prefix, kit
from redsched.worker.tally import Tally
from tests.servers import free_port

TASK = f"{__name__}.work"


async def work(how: str = "well") -> None:
    if how == "badly":
        raise ValueError(how)


async def hang() -> None:
    await asyncio.Event().wait()


# -- TaskMetrics ----------------------------------------------------------------------------------------------------


def test_what_nobody_counted_is_zero() -> None:
    metrics = TaskMetrics()
    assert (metrics.get_counter("x"), metrics.get_gauge("x"), metrics.get_histogram("x").count) == (0, 0, 0)
    assert metrics.samples() == []


def test_labels_tell_series_apart_and_without_them_they_are_one() -> None:
    metrics = TaskMetrics()
    metrics.increment("orders", kind="pizza", size="large")
    metrics.increment("orders", 2, size="small", kind="pizza")
    metrics.increment("orders", 4, kind="pasta")
    assert metrics.get_counter("orders") == 7
    assert metrics.get_counter("orders", kind="pizza") == 3
    assert metrics.get_counter("orders", kind="soup") == 0


def test_a_histogram_counts_values_by_upper_bound() -> None:
    metrics = TaskMetrics()
    for value in (0.0, BUCKETS[0], BUCKETS[0] + 1e-9, 5.0, 1e9):
        metrics.observe("seconds", value)
    histogram = metrics.get_histogram("seconds")
    assert histogram.counts[0] == 2, "a bound belongs to its bucket"
    assert histogram.counts[1] == 1
    assert histogram.counts[BUCKETS.index(5.0)] == 1
    assert histogram.counts[-1] == 1
    assert histogram.count == 5


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_counter_only_grows(value: float) -> None:
    with pytest.raises(InvalidInputError, match="only grows"):
        TaskMetrics().increment("orders", value)


def test_a_name_has_one_kind() -> None:
    metrics = TaskMetrics()
    metrics.increment("orders")
    with pytest.raises(InvalidInputError, match="orders is a counter, not a gauge"):
        metrics.set_gauge("orders", 5)


def test_several_threads_lose_no_count() -> None:
    metrics = TaskMetrics()

    def count() -> None:
        for _ in range(5000):
            metrics.increment("orders")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.get_counter("orders") == 20_000


def test_a_collector_gives_counters_and_gauges_by_name() -> None:
    collector = MetricsCollector()
    collector.metrics.increment("orders", kind="a")
    collector.metrics.increment("orders", kind="b")
    collector.metrics.set_gauge("oven", 200.5)
    collector.metrics.observe("seconds", 1)
    assert collector.collect() == {"orders": 2, "oven": 200.5}


def test_many_different_times_are_folded_before_they_fill_the_memory() -> None:
    tally = Tally()
    for start in range(0, 60_000, 250):
        rows = [["id", 1, "done", 0, 1, n, 2 * n, TASK, False] for n in range(start, start + 250)]
        tally.settled(rows, [])
    assert len(tally._lateness) < 21_000
    tally.fold(metrics := TaskMetrics())
    assert metrics.get_counter("runs_total") == 60_000
    late, long = metrics.get_histogram("run_lateness_seconds"), metrics.get_histogram("run_duration_seconds")
    assert (late.count, long.count) == (60_000, 60_000)
    assert late.sum == pytest.approx(sum(range(60_000)) / 1000)
    tally.fold(metrics)
    assert metrics.get_counter("runs_total") == 60_000, "nothing is counted twice"


# -- the standard set -----------------------------------------------------------------------------------------------


async def test_runs_are_counted_by_outcome_and_task(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    for how, attempts in (("well", 1), ("well", 1), ("badly", 3)):
        await scheduler.schedule_immediate_task("work", work, args=[how], max_attempts=attempts)
    await redsched_kit.advance(minutes=5)
    metrics = scheduler.metrics
    counted = {o: metrics.get_counter("runs_total", outcome=o, task=TASK) for o in ("done", "retry", "dead", "missed")}
    assert counted == {"done": 2, "retry": 2, "dead": 1, "missed": 0}
    assert metrics.get_counter("jobs_scheduled_total") == 3
    assert metrics.get_histogram("run_duration_seconds", task=TASK).count == 5
    assert scheduler.metrics.get_counter("runs_total") == 5, "to look changes nothing"


async def test_what_did_not_run_is_counted_with_its_reason(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.schedule_interval("work", work, seconds=60, job_id="coalesced")
    await scheduler.schedule_interval(
        "work", work, seconds=60, coalesce=False, misfire_grace_time=90, job_id="misfired"
    )
    await scheduler.schedule_at("work", work, await redsched_kit.now() - timedelta(hours=1), misfire_grace_time=60)
    await redsched_kit.travel(minutes=10)
    await redsched_kit.run_due()
    metrics = scheduler.metrics
    events = Counter[str]()
    for event in await scheduler.get_history():
        if event.kind in ("missed", "coalesced", "skipped") and event.reason:
            events[event.reason.value] += event.count or 1
    counted = {reason: metrics.get_counter("fires_not_run_total", reason=reason) for reason in events}
    assert counted == dict(events)
    assert events["coalesced"] == 9
    assert events["misfire"] >= 8


async def test_the_totals_of_all_workers_are_what_the_events_say(redsched_kit: Kit, redsched_url: str) -> None:
    """Three workers; one holds runs past their leases, comes back and is refused."""
    prefix = redsched_kit.scheduler.prefix
    fleet = [BackgroundTaskScheduler(redsched_url, prefix, lease=5.0, declared_tasks=False) for _ in range(3)]
    for scheduler in fleet:
        scheduler.register(work)
        scheduler.register(hang)
        await scheduler.store()
    workers = [scheduler.make_worker() for scheduler in fleet]
    producer = redsched_kit.scheduler
    for number in range(60):
        how = "badly" if number % 5 == 0 else "well"
        await producer.schedule_immediate_task("work", work, args=[how], max_attempts=2)
    for _ in range(4):
        await producer.schedule_immediate_task("hang", hang, queue="default")
    stuck = workers[0]
    stuck._prepare()
    await stuck.loops[0].turn()
    assert stuck.capacity.holding
    shard = (await producer.store()).shards[0]
    for run_id in await shard.link.command("ZRANGE", shard.keys.leases, 0, -1):
        await shard.link.command("ZADD", shard.keys.leases, "XX", 1, run_id)  # its leases end
    for _ in range(3):
        for worker in workers[1:]:
            if not worker.loops:
                worker._prepare()
            await worker.loops[0].turn()
            await asyncio.sleep(0.01)
        await redsched_kit.travel(seconds=2)
    for worker in workers:
        for run in list(worker.loops[0].held.values()):
            run.stop("cancelled")
        await asyncio.sleep(0.01)
        await worker.loops[0].turn(claim=False)
    events = Counter(event.kind for event in await producer.get_history(limit=100_000))

    def total(name: str, **labels: str) -> float:
        return sum(scheduler.metrics.get_counter(name, **labels) for scheduler in fleet)

    for outcome in ("done", "retry", "dead"):
        assert total("runs_total", outcome=outcome) == events[outcome], outcome
    assert total("leases_recovered_total") == events["recovered"] > 0
    assert total("settles_refused_total") == events["refused"] > 0
    for scheduler in fleet:
        await scheduler.shutdown(wait=False)


async def test_the_gauges_say_how_it_is_now(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    assert scheduler.worker is not None
    for _ in range(3):
        await scheduler.schedule_delayed_task("work", work, 60)
    await scheduler.schedule_immediate_task("hang", hang)
    dead = await scheduler.schedule_immediate_task("work", work, args=["badly"])
    await redsched_kit.wait_for("dead", dead.id)
    await redsched_kit.wait_for("claimed", count=2)
    metrics = await scheduler.collect_metrics()
    assert metrics.get_gauge("queue_jobs", queue="default", state="scheduled") == 3
    assert metrics.get_gauge("queue_jobs", queue="default", state="due") == 0
    assert metrics.get_gauge("runs_active") == 1
    assert metrics.get_gauge("runs_capacity") == scheduler.worker.concurrency
    assert metrics.get_gauge("dead_runs") == 1


# -- Prometheus -----------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(families: dict[str, Any], name: str) -> Iterable[tuple[dict[str, str], float]]:
    return [(s.labels, s.value) for family in families.values() for s in family.samples if s.name == name]


async def test_prometheus_gets_names_units_and_help(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    handle = await scheduler.schedule_immediate_task("work", work)
    await handle.result(timeout=5)
    await scheduler.collect_metrics()
    scheduler.metrics.increment("orders_total", kind="pizza")
    families = parsed((await prometheus.exposition(scheduler)).decode())
    assert values(families, "redsched_runs_total") == [({"outcome": "done", "task": TASK}, 1.0)]
    assert values(families, "orders_total") == [({"kind": "pizza"}, 1.0)]
    assert ({"task": TASK, "le": "+Inf"}, 1.0) in values(families, "redsched_run_duration_seconds_bucket")
    assert values(families, "redsched_run_duration_seconds_count") == [({"task": TASK}, 1.0)]
    for name, family in families.items():
        if name.startswith("redsched_"):
            assert family.documentation in {text for _, text in STANDARD.values()}


async def test_a_scrape_from_another_thread_awaits_what_redis_knows(redsched_kit: Kit) -> None:
    scheduler = redsched_kit.scheduler
    await scheduler.start()
    await scheduler.schedule_delayed_task("work", work, 60)
    port = free_port()
    with prometheus.serve(scheduler, port):
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read())
        waiting = [({"queue": "default", "state": "scheduled"}, 1.0), ({"queue": "default", "state": "due"}, 0.0)]
        assert sorted(values(parsed(text.decode()), "redsched_queue_jobs"), key=str) == sorted(waiting, key=str)
        with pytest.raises(InvalidConfigError, match=f"127.0.0.1:{port}"):
            prometheus.serve(scheduler, port)
    with prometheus.serve(scheduler, port):
        pass  # the port is free again


async def test_idle_and_slow_connections_take_few_threads_and_are_cut_off(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.3)
    port = free_port()
    before = threading.active_count()

    def crowd() -> int:
        opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for connection in opened[:50]:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")  # and nothing more
        most = threading.active_count()
        for connection in opened:
            connection.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b"", "each is closed by the server"
            connection.close()
        return most

    with prometheus.serve(redsched_kit.scheduler, port):
        most = await asyncio.to_thread(crowd)
        # A connection that is served has its thread, and the timer that cuts it off.
        assert most - before <= 2 * metrics_server.MAX_CONNECTIONS + 2
        status = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").status)
        assert status == 200


async def test_a_scrape_tells_what_the_process_knows_while_redis_is_away(
    redsched_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "WAIT_S", 0.05)
    scheduler = BackgroundTaskScheduler("redis://127.0.0.1:1", fresh_prefix())
    scheduler.metrics.increment("orders_total")
    collector = prometheus.SchedulerCollector(scheduler)
    [family] = await asyncio.to_thread(lambda: list(collector.collect()))
    assert family.name == "orders"
    assert [family.name for family in collector.collect()] == ["orders"], "in the loop's own thread, too"
    async with kit(redsched_kit.scheduler):
        pass


def test_the_guide_has_every_metric_of_the_standard_set() -> None:
    from pathlib import Path

    guide = (Path(__file__).parents[2] / "docs" / "guide" / "metrics.md").read_text()
    rows = [line for line in guide.splitlines() if line.startswith("| `redsched_")]
    assert {row.split("`")[1] for row in rows} == {f"redsched_{name}" for name in STANDARD}
    for name, (kind, text) in STANDARD.items():
        [row] = [row for row in rows if f"`redsched_{name}`" in row]
        assert f"| {kind} |" in row
        assert text in row
