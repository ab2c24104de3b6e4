"""Every exception that redsched raises, as one tree.

RedschedError
├── InvalidInputError (ValueError)      refused before anything was stored
│   ├── InvalidScheduleError            a broken expression, zone, interval, or a schedule that never fires
│   ├── InvalidConfigError              a wrong or unknown setting
│   ├── EncodingError                   arguments that msgpack cannot carry
│   └── PayloadTooLargeError            arguments above the limit
├── UnknownTaskError (LookupError)      no function is registered under that name
├── ConflictingIdError (KeyError)       a job of that id is there already
├── JobLookupError (KeyError)           no job of that id
├── RecordVersionError                  a record written by a newer redsched
├── StoreError                          Redis did not do what was asked
│   ├── StoreUnavailableError           no answer: down, unreachable, timed out, failing over
│   ├── StoreFullError                  out of memory (maxmemory with noeviction)
│   ├── StoreReadOnlyError              a replica, or a primary that refuses writes
│   └── StoreAccessError                wrong password, or an ACL that forbids the command
├── CircuitOpenError                    a circuit breaker holds calls back
├── RunLostError                        this worker no longer holds the run: its fencing token was refused
├── TaskTimeoutError (TimeoutError)     the task ran longer than its `timeout`
├── TaskFailedError                     raised for a run that failed in another process
├── RunCancelledError                   the awaited run was cancelled
├── ResultTimeoutError (TimeoutError)   no result within the time that was given to wait
└── SchedulerStateError                 used before start(), started twice, …
"""

__all__ = [
    "CircuitOpenError",
    "ConflictingIdError",
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
    "StoreUnavailableError",
    "TaskFailedError",
    "TaskTimeoutError",
    "UnknownTaskError",
]


class RedschedError(Exception):
    """The root: `except RedschedError` catches all that redsched raises on its own account."""

    def __str__(self) -> str:
        # KeyError quotes its argument; a sentence for people should not be quoted.
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class InvalidInputError(RedschedError, ValueError):
    """An argument is wrong. Nothing was stored. `field` names the argument."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidScheduleError(InvalidInputError):
    """A schedule that cannot be: a broken expression or zone, a non-positive interval, or one that never fires."""


class InvalidConfigError(InvalidInputError):
    """A setting is wrong or unknown; the message names it, its value and what is allowed."""


class EncodingError(InvalidInputError):
    """Arguments, a result or an option that msgpack cannot carry; the message says where in the value."""


class PayloadTooLargeError(InvalidInputError):
    """The encoded arguments exceed the limit; the message gives both sizes."""


class UnknownTaskError(RedschedError, LookupError):
    """No function is registered under that name, and none may be imported for it."""


class ConflictingIdError(RedschedError, KeyError):
    """A job of that id is there already, and `replace_existing` was not asked for (APScheduler's name)."""


class JobLookupError(RedschedError, KeyError):
    """There is no job of that id (APScheduler's name)."""


class RecordVersionError(RedschedError):
    """A record in Redis was written by a newer redsched than this one: upgrade this process."""


class StoreError(RedschedError):
    """Redis did not do what was asked. The four kinds below say what to do about it."""


class StoreUnavailableError(StoreError):
    """No answer from Redis: down, unreachable, timed out, loading, or failing over.

    It was tried for `retry_for` seconds. The request may have been carried out all the same: trying again is safe
    with a `job_id` of your own, while without one it may add a second job.
    """


class StoreFullError(StoreError):
    """Redis is out of memory and refuses writes. Nothing was stored."""


class StoreReadOnlyError(StoreError):
    """This server takes no writes: a replica, or a primary that lost its replicas."""


class StoreAccessError(StoreError):
    """Wrong credentials, or a user whose ACL does not allow what was asked."""


class CircuitOpenError(RedschedError):
    """A circuit breaker is open: nothing was called. `retry_after` says for how many seconds.

    A run in which it is raised is postponed for so long, without using an attempt.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunLostError(RedschedError):
    """This worker's lease on the run ended, and Redis refused its fencing token."""


class TaskTimeoutError(RedschedError, TimeoutError):
    """The task ran longer than its `timeout` and was cancelled."""


class TaskFailedError(RedschedError):
    """A run failed in another process. `error_type` is the name of the exception's class there."""

    def __init__(self, message: str, *, error_type: str = "Exception", traceback: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.traceback = traceback


class RunCancelledError(RedschedError):
    """The run that was waited for was cancelled, or its job was removed."""


class ResultTimeoutError(RedschedError, TimeoutError):
    """The run did not finish within the time that was given to wait; it goes on."""


class SchedulerStateError(RedschedError):
    """The scheduler is not in a state for this call: not started, already started, or shut down."""
