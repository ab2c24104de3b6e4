"""What Redis answers becomes the one error of ours that says what it means for a caller."""

from __future__ import annotations

import pytest
import redis.exceptions as redis_errors

from redsched.errors import (
    StoreAccessError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from redsched.store.failures import translate


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("NOREPLICAS Not enough good replicas to write.", StoreReadOnlyError),
        ("MISCONF Redis is configured to save RDB snapshots", StoreReadOnlyError),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", StoreUnavailableError),
        ("TRYAGAIN the slot of this shard is being moved", StoreUnavailableError),
        ("CLUSTERDOWN The cluster is down", StoreUnavailableError),
        ("BUSY Redis is busy running a script", StoreUnavailableError),
        ("OOM command not allowed when used memory > 'maxmemory'", StoreFullError),
        ("WRONGPASS invalid username-password pair", StoreAccessError),
        ("ERR something else", StoreError),
    ],
)
def test_an_answer_is_told_by_its_code(answer: str, kind: type[StoreError]) -> None:
    error = translate(redis_errors.ResponseError(answer), "here")
    assert type(error) is kind
    assert answer in str(error)
