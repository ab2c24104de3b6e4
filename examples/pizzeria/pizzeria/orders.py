"""The orders, in a database that all processes share: the jobs carry an order's number, and read the rest here."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OrderNotFoundError(LookupError):
    """There is no such order."""


class Orders:
    """The orders and what happened to each. Every step may be done twice: what is there already, stays."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "orders.sqlite"
        with self._open() as database:
            database.executescript(
                "PRAGMA journal_mode = WAL;"
                "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, pizza TEXT, price REAL, status TEXT);"
                "CREATE TABLE IF NOT EXISTS steps (n INTEGER PRIMARY KEY, order_id TEXT, step TEXT, done_by TEXT,"
                " UNIQUE (order_id, step))"
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=10)
        try:
            with database:
                yield database
        finally:
            database.close()

    def place(self, order_id: str, pizza: str, price: float) -> None:
        with self._open() as database:
            database.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, 'placed')", (order_id, pizza, price))

    def get(self, order_id: str) -> dict[str, object]:
        with self._open() as database:
            row = database.execute("SELECT pizza, price, status FROM orders WHERE id = ?", (order_id,)).fetchone()
            if row is None:
                raise OrderNotFoundError(order_id)
            steps = database.execute("SELECT step FROM steps WHERE order_id = ? ORDER BY n", (order_id,)).fetchall()
        return {
            "id": order_id,
            "pizza": row[0],
            "price": row[1],
            "status": row[2],
            "steps": [step for (step,) in steps],
        }

    def set_status(self, order_id: str, status: str) -> None:
        with self._open() as database:
            database.execute("UPDATE orders SET status = ? WHERE id = ?", (status, order_id))

    def note(self, order_id: str, step: str, done_by: str) -> None:
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO steps (order_id, step, done_by) VALUES (?, ?, ?)", (order_id, step, done_by)
            )

    def count(self, status: str) -> int:
        with self._open() as database:
            return database.execute("SELECT count(*) FROM orders WHERE status = ?", (status,)).fetchone()[0]

    def steps_since(self, n: int) -> list[tuple[int, str, str, str]]:
        """Number, order, step and who did it, of each step after the n-th."""
        with self._open() as database:
            return database.execute(
                "SELECT n, order_id, step, done_by FROM steps WHERE n > ? ORDER BY n", (n,)
            ).fetchall()
