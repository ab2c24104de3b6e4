"""Signing and encryption of jobs, so that write access to Redis is not enough to make a worker run anything.

Pure. A seal covers the prefix, the job's id, its task, name, options and arguments: a record cannot be changed, nor
moved to another job. What Redis itself keeps beside the record (when the job is due, its queue) is not covered.

Signatures use HMAC-SHA256. Encryption (and thereby authentication) uses AES-256-GCM with a separate key for each
record, derived with a random salt: however many records there are, no nonce is used twice.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from redsched.errors import InvalidConfigError, UnknownKeyError, UntrustedRecordError

__all__ = ["PayloadSecurity", "Sealer", "is_encrypted", "open_result"]

MIN_KEY_BYTES: Final = 32
_KEY_ID, _MAC, _SALT, _NONCE = 4, 32, 16, 12
LABEL_BYTES: Final = 1 + _KEY_ID
"""How long `PayloadSecurity.label` is, with which each seal begins."""
_SIGNED, _ENCRYPTED = b"s", b"e"
_RESULT: Final = b"\xc1"
"""A sealed result begins with the one byte that msgpack never uses."""


class PayloadSecurity:
    """The keys with which jobs and results are signed, and encrypted if asked for.

    The first key signs (or encrypts); all of them verify (or decrypt). To rotate: give every process the new key as
    the second, then as the first, then call `BackgroundTaskScheduler.reseal_jobs()`, and take the old one away when
    no job of it is left.

    >>> security = PayloadSecurity(["correct horse battery staple, and 8 more"])
    >>> scheduler = BackgroundTaskScheduler(url, "shop", payload_security=security)

    Args:
        keys: at least 32 bytes each, of `secrets.token_urlsafe(32)` for example; the first is the newest.
        encrypt: hide the arguments and results too. Task, name and options stay readable. Needs `redsched[crypto]`.
        accept_unsigned: also take what has no seal at all, while a fleet begins to use keys.

    Raises:
        InvalidConfigError: no key, one that is too short, or one that is given twice.
    """

    def __init__(self, keys: Sequence[str | bytes], *, encrypt: bool = False, accept_unsigned: bool = False) -> None:
        if isinstance(keys, str | bytes) or not isinstance(keys, Sequence) or not keys:
            raise InvalidConfigError("keys must be a list of at least one key", field="keys")
        self._keys: dict[bytes, _Key] = {}
        for number, key in enumerate(keys, 1):
            if not isinstance(key, str | bytes):
                raise InvalidConfigError(
                    f"key {number} is of type {type(key).__qualname__}, not str or bytes", field="keys"
                )
            raw = key.encode() if isinstance(key, str) else key
            if len(raw) < MIN_KEY_BYTES:
                # The key itself never appears in a message.
                raise InvalidConfigError(
                    f"key {number} has {len(raw)} bytes; at least {MIN_KEY_BYTES} are needed: "
                    "make one with python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                    field="keys",
                )
            made = _Key(raw)
            if made.id in self._keys:
                raise InvalidConfigError(f"key {number} is given twice", field="keys")
            self._keys[made.id] = made
        self._first = next(iter(self._keys.values()))
        self.encrypt = encrypt
        self.accept_unsigned = accept_unsigned
        if encrypt:
            _cipher()  # says now if the extra is missing

    def __repr__(self) -> str:
        kind = "encrypts" if self.encrypt else "signs"
        return f"<PayloadSecurity {kind} with {self._first.id.hex()}, {len(self._keys)} keys>"

    @property
    def label(self) -> bytes:
        """How this seals: the same for all that was sealed alike."""
        return (_ENCRYPTED if self.encrypt else _SIGNED) + self._first.id

    def has(self, key: str) -> bool:
        """Whether a key of that id (in hexadecimal digits) is among these."""
        return any(key_id.hex() == key for key_id in self._keys)

    def fingerprints(self, context: Sequence[bytes], secret: bytes) -> list[bytes]:
        """Fingerprints of a secret, by each key. Without the key, the secret cannot be guessed from them."""
        message = _joined([*context, secret])
        return [hmac.digest(key.fingerprinting, message, "sha256") for key in self._keys.values()]

    def seal(self, context: Sequence[bytes], secret: bytes) -> tuple[bytes, bytes]:
        """The seal of a context and a secret, and what is to be stored of the secret."""
        key = self._first
        if not self.encrypt:
            return self.label + hmac.digest(key.signing, _joined([*context, secret]), "sha256"), secret
        salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
        hidden = _cipher()(key.of_salt(salt)).encrypt(nonce, secret, _joined(context))
        return self.label + salt + nonce, hidden

    def open(self, context: Sequence[bytes], seal: bytes, stored: bytes) -> bytes:
        """The secret, if the seal is true of it and the context.

        Raises:
            UnknownKeyError: it was sealed with a key that is not here.
            UntrustedRecordError: it was not sealed like this.
        """
        mode, key_id, rest = seal[:1], seal[1 : 1 + _KEY_ID], seal[1 + _KEY_ID :]
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKeyError(
                f"it was sealed with the key {key_id.hex()}, which this process does not have", key=key_id.hex()
            )
        if mode == _SIGNED:
            if hmac.compare_digest(rest, hmac.digest(key.signing, _joined([*context, stored]), "sha256")):
                return stored
        elif mode == _ENCRYPTED and len(rest) == _SALT + _NONCE:
            try:
                return _cipher()(key.of_salt(rest[:_SALT])).decrypt(rest[_SALT:], stored, _joined(context))
            except _invalid_tag():
                pass
        raise UntrustedRecordError("its signature does not match: it was changed, or belongs to another job")


class _Key:
    """The values derived from one key: the key itself is never used in two places."""

    __slots__ = ("fingerprinting", "hiding", "id", "signing")

    def __init__(self, raw: bytes) -> None:
        self.id = hmac.digest(raw, b"redsched key id", "sha256")[:_KEY_ID]
        self.signing = hmac.digest(raw, b"redsched sign", "sha256")
        self.fingerprinting = hmac.digest(raw, b"redsched fingerprint", "sha256")
        self.hiding = hmac.digest(raw, b"redsched encrypt", "sha256")

    def of_salt(self, salt: bytes) -> bytes:
        return hmac.digest(self.hiding, salt, hashlib.sha256)


def _joined(parts: Sequence[bytes]) -> bytes:
    """The parts, so that no other parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


@cache
def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise InvalidConfigError("encryption needs the cryptography package: install redsched[crypto]") from None
    return AESGCM


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


def is_encrypted(seal: bytes) -> bool:
    """Whether what belongs to this seal is hidden, and not only signed."""
    return seal[:1] == _ENCRYPTED


def split_result(data: bytes) -> tuple[bytes, bytes] | None:
    """The seal of a stored result, and what it seals; None if it has none."""
    if data[:1] != _RESULT:
        return None
    end = 2 + _KEY_ID + (_SALT + _NONCE if is_encrypted(data[1:2]) else _MAC)
    return data[1:end], data[end:]


class Sealer:
    """The seals of one prefix."""

    __slots__ = ("_prefix", "security")

    def __init__(self, security: PayloadSecurity, prefix: str) -> None:
        self.security: PayloadSecurity = security
        self._prefix = prefix.encode()

    @property
    def accept_unsigned(self) -> bool:
        return self.security.accept_unsigned

    @property
    def label(self) -> bytes:
        return self.security.label

    def _of_record(self, job_id: str, body: bytes) -> list[bytes]:
        return [b"record", self._prefix, job_id.encode(errors="surrogateescape"), body]

    def seal_record(self, job_id: str, body: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """The seal of a job's record, and the payload as it is to be stored."""
        return self.security.seal(self._of_record(job_id, body), payload)

    def open_record(self, job_id: str, body: bytes, seal: bytes, stored: bytes) -> bytes:
        """The payload of a record. Raises as `PayloadSecurity.open`."""
        return self.security.open(self._of_record(job_id, body), seal, stored)

    def fingerprints(self, job_id: str, payload: bytes) -> list[bytes]:
        """Of a job's arguments, by each key, the present one first: see `PayloadSecurity.fingerprints`."""
        return self.security.fingerprints([b"arguments", self._prefix, job_id.encode()], payload)

    def seal_result(self, run_id: str, data: bytes) -> bytes:
        """A result as it is to be stored."""
        seal, stored = self.security.seal([b"result", self._prefix, run_id.encode()], data)
        return _RESULT + seal + stored

    def open_result(self, run_id: str, seal: bytes, stored: bytes) -> bytes:
        """Open a result that `seal_result` sealed. Raises as `PayloadSecurity.open`."""
        return self.security.open([b"result", self._prefix, run_id.encode()], seal, stored)


def open_result(sealer: Sealer | None, run_id: str, data: bytes) -> bytes:
    """A result as the task's worker encoded it.

    Raises:
        UnknownKeyError: it is encrypted, and this process does not have the key.
        UntrustedRecordError: it was not sealed by one of our keys for this run.
    """
    parts = split_result(data)
    if parts is None:
        if sealer is not None and not sealer.accept_unsigned:
            raise UntrustedRecordError(f"the result of run {run_id} is not signed")
        return data
    seal, stored = parts
    if sealer is None:
        if is_encrypted(seal):
            raise UnknownKeyError(f"the result of run {run_id} is encrypted, and this process has no payload_security")
        return stored
    return sealer.open_result(run_id, seal, stored)
