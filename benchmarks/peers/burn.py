"""What a CPU job does."""

import hashlib

ROUNDS = 3000
"""Of SHA-256 over a kilobyte: about 3 ms."""


def burn() -> None:
    digest = b""
    for _ in range(ROUNDS):
        digest = hashlib.sha256(digest * 32).digest()
