"""Every exception that redsched raises, as one tree.

RedschedError
├── InvalidInputError (ValueError)      refused before anything was stored
│   ├── InvalidScheduleError            an invalid expression, zone or interval, or a schedule that never fires
│   ├── InvalidConfigError              a wrong or unknown setting
│   ├── EncodingError                   arguments that msgpack cannot encode
│   └── PayloadTooLargeError            arguments above the limit
├── UnknownTaskError (LookupError)      no function is registered under that name
├── ConflictingIdError (KeyError)       a job with that id already exists
├── JobLookupError (KeyError)           no job with that id
├── RecordVersionError                  a record written by a newer redsched
├── UnknownKeyError                     sealed with a payload key that this process does not have
├── UntrustedRecordError                not signed by one of our payload keys, or for another job
├── StoreError                          Redis did not carry out the request
│   ├── StoreUnavailableError           no answer: down, unreachable, timed out, failing over
│   ├── StoreFullError                  out of memory (maxmemory with noeviction)
│   ├── StoreReadOnlyError              a replica, or a primary that refuses writes
│   ├── StoreAccessError                wrong password, or an ACL that forbids the command
│   ├── DurabilityError                 not as durable as requested; `stored` says whether it is stored at all
│   └── StoreReplyError                 a reply that is longer than anything redsched stores
├── CircuitOpenError                    a circuit breaker is open
├── RunLostError                        this worker no longer holds the run: its fencing token was refused
├── TaskTimeoutError (TimeoutError)     the task ran longer than its `timeout`
├── TaskFailedError                     raised for a run that failed in another process
├── RunCancelledError                   the awaited run was cancelled
├── ResultTimeoutError (TimeoutError)   no result within the timeout of the wait
└── SchedulerStateError                 used before start(), started twice, …
"""

from __future__ import annotations

from redsched.logs.redaction import without_credentials

__all__ = [
    "CircuitOpenError",
    "ConflictingIdError",
    "DurabilityError",
    "EncodingError",
    "InvalidConfigError",
    "InvalidInputError",
    "InvalidScheduleError",
    "JobLookupError",
    "PayloadTooLargeError",
    "RecordVersionError",
    "RedschedError",
    "ResultTimeoutError",
    "RunCancelledError",
    "RunLostError",
    "SchedulerStateError",
    "StoreAccessError",
    "StoreError",
    "StoreFullError",
    "StoreReadOnlyError",
    "StoreReplyError",
    "StoreUnavailableError",
    "TaskFailedError",
    "TaskTimeoutError",
    "UnknownKeyError",
    "UnknownTaskError",
    "UntrustedRecordError",
]


class RedschedError(Exception):
    """The root: `except RedschedError` catches every exception of redsched.

    >>> try:
    ...     CronSchedule("61 * * * *")
    ... except RedschedError as error:
    ...     print(type(error).__name__)
    InvalidScheduleError
    """

    def __str__(self) -> str:
        # KeyError would quote its argument, which is a sentence here.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class InvalidInputError(RedschedError, ValueError):
    """An argument is wrong. Nothing was stored. `field` names the argument.

    >>> try:
    ...     RetryPolicy(max_attempts=0)
    ... except InvalidInputError as error:
    ...     print(error.field)
    max_attempts
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(without_credentials(message))  # any wrong argument may be a URL with a password
        self.field: str | None = None if field is None else without_credentials(field)


class InvalidScheduleError(InvalidInputError):
    """An invalid schedule: a malformed expression or zone, a non-positive interval, or one that never fires.

    >>> try:
    ...     CronSchedule("0 25 * * *")
    ... except InvalidScheduleError as error:
    ...     print(error.field)
    expression
    """


class InvalidConfigError(InvalidInputError):
    """A setting is wrong or unknown. The message names it, its value and the allowed values.

    >>> try:
    ...     BackgroundTaskScheduler("redis://localhost", queues=[])
    ... except InvalidConfigError as error:
    ...     print(error.field)
    queues
    """


class EncodingError(InvalidInputError):
    """Arguments, a result or an option that msgpack cannot encode. The message says where in the value.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         try:
    ...             await scheduler.schedule_immediate_task("greet", print, args=[object()])
    ...         except EncodingError as error:
    ...             print(error.field)
    >>> asyncio.run(main())
    args
    """


class PayloadTooLargeError(InvalidInputError):
    """The encoded arguments exceed the limit. The message states both sizes.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url, max_payload_bytes=1000) as scheduler:
    ...         try:
    ...             await scheduler.schedule_immediate_task("greet", print, args=["x" * 2000])
    ...         except PayloadTooLargeError:
    ...             print("too large")
    >>> asyncio.run(main())
    too large
    """


class UnknownTaskError(RedschedError, LookupError):
    """No function is registered under that name, and none is imported by name.

    >>> issubclass(UnknownTaskError, LookupError)
    True
    """


class ConflictingIdError(RedschedError, KeyError):
    """A job with that id already exists, and `replace_existing` is False (APScheduler's name).

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         await scheduler.schedule_delayed_task("greet", print, 60, job_id="one")
    ...         try:
    ...             await scheduler.schedule_delayed_task("greet", print, 60, job_id="one")
    ...         except ConflictingIdError:
    ...             print("taken")
    >>> asyncio.run(main())
    taken
    """


class JobLookupError(RedschedError, KeyError):
    """There is no job with that id (APScheduler's name).

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         try:
    ...             await scheduler.pause_job("order-7")
    ...         except JobLookupError as error:
    ...             print(error)
    >>> asyncio.run(main())
    no job with id 'order-7': it has ended, was removed, or never existed
    """


class RecordVersionError(RedschedError):
    """A record in Redis was written by a newer redsched: upgrade this process. `version` is the record's version, if it
    is known.

    >>> issubclass(RecordVersionError, RedschedError)
    True
    """

    def __init__(self, message: str, *, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version


class UnknownKeyError(RedschedError):
    """A record or result was sealed with a payload key that this process does not have: see `PayloadSecurity`. `key` is
    the id of that key, in hexadecimal digits, if it is known.

    >>> async def look(handle: JobHandle) -> None:
    ...     try:
    ...         print((await handle.result()).result)
    ...     except UnknownKeyError:
    ...         print("encrypted; ask a process that has the key")
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class UntrustedRecordError(RedschedError):
    """A record or result is not signed by one of our payload keys, was changed since, or is another job's.

    >>> async def look(handle: JobHandle) -> None:
    ...     try:
    ...         print((await handle.result()).result)
    ...     except UntrustedRecordError:
    ...         print("this result was not written by our workers")
    """


class StoreError(RedschedError):
    """Redis did not carry out the request. The subclasses say what to do about it.

    >>> async def remind(scheduler: BackgroundTaskScheduler) -> None:
    ...     try:
    ...         await scheduler.schedule_immediate_task("greet", print, args=["hello"], job_id="greeting-1")
    ...     except StoreError as error:  # unavailable, full, read-only, no access, …
    ...         print(f"not stored: {error}")
    """


class StoreUnavailableError(StoreError):
    """No answer from Redis: down, unreachable, timed out, loading, or failing over.

    The request was retried for `retry_for` seconds, and may have been carried out nevertheless. Repeating it is safe if
    you pass a `job_id`; without one it may add a second job.

    >>> async def main() -> None:
    ...     try:
    ...         await BackgroundTaskScheduler("redis://127.0.0.1:1", retry_for=0).start()
    ...     except StoreUnavailableError:
    ...         print("no answer")
    >>> asyncio.run(main())
    no answer
    """


class StoreFullError(StoreError):
    """Redis is out of memory and refuses writes. Nothing was stored.

    >>> issubclass(StoreFullError, StoreError)
    True
    """


class StoreReadOnlyError(StoreError):
    """This server refuses writes: it is a replica, or a primary that lost its replicas.

    >>> issubclass(StoreReadOnlyError, StoreError)
    True
    """


class StoreAccessError(StoreError):
    """Wrong credentials, or a user whose ACL does not allow the command.

    >>> issubclass(StoreAccessError, StoreError)
    True
    """


class CircuitOpenError(RedschedError):
    """A circuit breaker is open: the function was not called. `retry_after` is the remaining time in seconds.

    A run that raises this is postponed for that time, without using an attempt.

    >>> async def main() -> None:
    ...     circuit = CircuitBreakerPolicy(failure_threshold=1, recovery_timeout=60, name="example")
    ...     async with BackgroundTaskScheduler(url):
    ...         for _ in range(2):
    ...             try:
    ...                 await circuit.apply(asyncio.sleep)("soon")
    ...             except CircuitOpenError as error:
    ...                 print(f"again in {error.retry_after:.0f} s")
    ...             except TypeError:
    ...                 print("failed")
    >>> asyncio.run(main())
    failed
    again in 60 s
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DurabilityError(StoreError):
    """The job is not as durable as `durability=` requested. `stored` says whether it is stored nevertheless.

    >>> async def charge(scheduler: BackgroundTaskScheduler) -> None:
    ...     try:
    ...         await scheduler.schedule_immediate_task("charge", print, args=[42], job_id="42", durability="fsynced")
    ...     except DurabilityError as error:
    ...         print("it will run, if Redis survives" if error.stored else f"not stored: {error}")
    """

    def __init__(self, message: str, *, stored: bool = False) -> None:
        super().__init__(message)
        self.stored = stored


class StoreReplyError(StoreError):
    """Redis began a reply that is longer than anything redsched stores. The rest of it was not read.

    >>> async def look(scheduler: BackgroundTaskScheduler) -> None:
    ...     try:
    ...         print(await scheduler.get_history())
    ...     except StoreReplyError:
    ...         print("another program writes to this prefix")
    """


class RunLostError(RedschedError):
    """This worker's lease on the run expired, and Redis refused its fencing token.

    >>> async def bake() -> None:
    ...     try:
    ...         await redsched.current_run().report_progress("half done")
    ...     except RunLostError:
    ...         return  # another worker has this run now: leave it alone
    """


class TaskTimeoutError(RedschedError, TimeoutError):
    """The task ran longer than its `timeout` and was cancelled.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_immediate_task("nap", asyncio.sleep, args=[60], timeout=0.01)
    ...         print((await handle.result(timeout=10)).error_type)
    >>> asyncio.run(main())
    TaskTimeoutError
    """


class TaskFailedError(RedschedError):
    """A run failed in another process. `error_type` is the name of the exception's class in that process.

    >>> TaskFailedError("no basil", error_type="LookupError").error_type
    'LookupError'
    """

    def __init__(self, message: str, *, error_type: str = "Exception", traceback: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.traceback = traceback


class RunCancelledError(RedschedError):
    """The awaited run was cancelled, or its job was removed.

    >>> issubclass(RunCancelledError, RedschedError)
    True
    """


class ResultTimeoutError(RedschedError, TimeoutError):
    """The run did not finish within the timeout of the wait. It continues.

    >>> async def main() -> None:
    ...     async with BackgroundTaskScheduler(url) as scheduler:
    ...         handle = await scheduler.schedule_delayed_task("greet", print, delay_minutes=5)
    ...         try:
    ...             await handle.result(timeout=0.01)
    ...         except ResultTimeoutError:
    ...             print("not yet")
    >>> asyncio.run(main())
    not yet
    """


class SchedulerStateError(RedschedError):
    """The scheduler's state does not allow this call: it is not started, already started, or shut down.

    >>> try:
    ...     redsched.current_run()
    ... except SchedulerStateError as error:
    ...     print(error)
    current_run() must be called within a task that redsched runs
    """
