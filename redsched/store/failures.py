"""Translates errors of redis-py into exceptions of redsched, with a hint about what to check."""

from __future__ import annotations

import redis.exceptions as redis_errors

from redsched.errors import (
    RedschedError,
    StoreAccessError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from redsched.store.wire import WrongTypeError

__all__ = ["translate"]


def _tls_hint(text: str, secure: bool, connected: bool) -> str:
    """A hint for the case that only one end uses TLS; `connected`: whether a connection has worked before."""
    if not secure:
        signs = ("Protocol error", "Protocol Error", *(() if connected else ("reset by peer", "closed by server")))
        if any(sign in text for sign in signs):
            return " (perhaps this port speaks TLS: then use rediss:// instead of redis://; or it is not a Redis)"
        return ""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return " (name the CA with ssl_ca_certs, or use the host that the certificate names)"
    if "No such file" in text or "[X509" in text or "PEM lib" in text:
        return " (look at the files of the ssl_ options)"
    signs = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF")
    # A Redis without TLS waits for the end of the line that a handshake seems to be.
    if any(sign in text for sign in signs) or (not connected and "Timeout connecting" in text):
        return " (perhaps this port does not speak TLS: then use redis:// instead of rediss://)"
    return ""


def translate(error: BaseException, where: str, *, secure: bool = False, connected: bool = True) -> RedschedError:
    """The exception of redsched for an error of redis-py."""
    text = str(error) or type(error).__name__
    text += _tls_hint(text, secure, connected)
    match error:
        case RedschedError():
            return error
        case redis_errors.OutOfMemoryError():
            return StoreFullError(f"Redis at {where} is out of memory and stored nothing: {text}")
        case redis_errors.ReadOnlyError():
            return StoreReadOnlyError(f"Redis at {where} takes no writes: {text}")
        case redis_errors.AuthenticationError() | redis_errors.NoPermissionError():
            return StoreAccessError(f"Redis at {where} refused the user: {text}")
        case (
            redis_errors.ConnectionError()
            | redis_errors.TimeoutError()
            | redis_errors.ClusterDownError()
            | redis_errors.TryAgainError()
            | redis_errors.MasterDownError()
            | OSError()
            | TimeoutError()
        ):
            return StoreUnavailableError(f"no answer from Redis at {where}: {text}")
        case _:
            # An error inside a script is wrapped; its code identifies the kind.
            code = text.split(" ", 1)[0]
            if code == "OOM" or "-OOM" in text or "OOM command not allowed" in text:
                return StoreFullError(f"Redis at {where} is out of memory and stored nothing: {text}")
            if code in {"READONLY", "NOREPLICAS"} or "-READONLY" in text:
                return StoreReadOnlyError(f"Redis at {where} takes no writes: {text}")
            if code == "MISCONF" or "-MISCONF" in text:
                return StoreReadOnlyError(f"Redis at {where} takes no writes, since it cannot save them: {text}")
            # `unauthenticated`: a longer command without a password is refused before it is read.
            # `The user executing the script`: so says Redis 7.0 of what it does not allow inside of one.
            told = ("-NOPERM", "unauthenticated", "The user executing the script", "ACL failure in script")
            if code in {"NOPERM", "NOAUTH", "WRONGPASS"} or any(part in text for part in told):
                return StoreAccessError(f"Redis at {where} refused the user: {text}")
            if code in {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED"}:
                return StoreUnavailableError(f"Redis at {where} is not ready: {text}")
            kind = WrongTypeError if "WRONGTYPE" in text else StoreError
            return kind(f"Redis at {where} answered: {text}")
