"""Starts the web application and a worker, places two orders, cancels one, and shows what happens.

python examples/pizzeria/run.py [--once] [--minute SECONDS] [--port PORT]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARGHERITA = ["inventory checked", "paid, in attempt 2", "in the kitchen's queue", "preparation started",
              "quality checked", "ready for delivery", "delivery reminded"]  # fmt: skip


def say(line: str) -> None:
    print(line, flush=True)


class Pizzeria:
    """Both processes, and the web application as a client sees it."""

    def __init__(self, folder: str, minute: float, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.minute = minute
        path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        settings = {"PIZZERIA_FOLDER": folder, "PIZZERIA_MINUTE": str(minute), "PYTHONPATH": path}
        self._environment = {**os.environ, **settings}
        self.web = self._start("uvicorn", "pizzeria.app:app", "--port", str(port), "--log-level", "warning")
        self.worker = self._start("redsched.cli", "worker", "pizzeria.app:scheduler", "--log-level", "warning")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        # A separate session: Ctrl-C reaches only this process, which then ends both in order.
        return subprocess.Popen([sys.executable, "-m", *command], env=self._environment, start_new_session=True)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"content-type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def wait_until_open(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            for name, process in (("web application", self.web), ("worker", self.worker)):
                if process.poll() is not None:
                    raise SystemExit(f"the {name} ended with exit code {process.returncode}")
            try:
                self.call("GET", "/openapi.json")
                return
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise SystemExit(f"no answer from {self.url}") from None
                time.sleep(0.1)

    def close(self) -> list[int]:
        """SIGTERM for both: running tasks are finished. Returns the exit codes."""
        for process in (self.web, self.worker):
            process.terminate()
        return [process.wait(30) for process in (self.web, self.worker)]


def follow(pizzeria: Pizzeria, orders: dict[str, int], seconds: float) -> None:
    """Print each new step of the orders, for some time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for order_id, shown in orders.items():
            order = pizzeria.call("GET", f"/orders/{order_id}")
            for step in order["steps"][shown:]:
                say(f"{order_id:>10}  {step}")
            orders[order_id] = len(order["steps"])
        time.sleep(0.1)


def story(pizzeria: Pizzeria) -> bool:
    """Two orders; returns whether all went as it should."""
    minute = pizzeria.minute
    say(f"open: {pizzeria.url}/docs; one minute takes {minute:g} s; worker is process {pizzeria.worker.pid}")
    shown = {"order-1": 0, "order-2": 0}
    for order_id, pizza in (("order-1", "Margherita"), ("order-2", "Quattro stagioni")):
        say(f"{order_id:>10}  PUT /orders/{order_id}: {pizza}")
        pizzeria.call("PUT", f"/orders/{order_id}", {"pizza": pizza, "price": 9.5})
    follow(pizzeria, shown, 20 * minute)
    say("   order-2  DELETE /orders/order-2, at minute 20")
    stopped = pizzeria.call("DELETE", "/orders/order-2")["stopped"]
    deadline = time.monotonic() + 60
    while pizzeria.call("GET", "/orders/order-1")["status"] != "out for delivery" and time.monotonic() < deadline:
        follow(pizzeria, shown, minute)
    follow(pizzeria, shown, 2 * minute)
    first, second = (pizzeria.call("GET", f"/orders/{order_id}") for order_id in shown)
    left = [job for order_id in shown for job in pizzeria.call("GET", f"/orders/{order_id}/jobs")]
    say(f"   order-1  is {first['status']}")
    say(f"   order-2  is {second['status']}: {stopped} jobs were stopped; jobs left of both: {len(left)}")
    missing = sorted(set(MARGHERITA) ^ set(first["steps"]))
    late = {"quality checked", "ready for delivery", "delivery reminded"} & set(second["steps"])
    return not missing and not late and stopped == 3 and not left


def main() -> int:
    parser = argparse.ArgumentParser(description="Mario's pizzeria: a web application, a worker, two orders.")
    parser.add_argument(
        "--once", action="store_true", help="end when the orders are done; exit code 0 if all went well"
    )
    parser.add_argument("--minute", type=float, default=0.2, help="seconds that a minute takes (default 0.2)")
    parser.add_argument("--port", type=int, default=0, help="of the web application (default: a free one)")
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", given.port))
        port = free.getsockname()[1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="pizzeria-", ignore_cleanup_errors=True) as folder:
        pizzeria = Pizzeria(folder, given.minute, port)
        try:
            pizzeria.wait_until_open()
            good = story(pizzeria)
            if not given.once:
                say(f"""It stays open; Ctrl-C closes it. Try:
  curl -X PUT {pizzeria.url}/orders/mine -H 'content-type: application/json' -d '{{"pizza": "Diavola", "price": 11}}'
  curl {pizzeria.url}/orders/mine
  curl {pizzeria.url}/orders/mine/jobs
  curl -X DELETE {pizzeria.url}/orders/mine""")
                pizzeria.web.wait()
        except KeyboardInterrupt:
            good = True
        finally:
            codes = pizzeria.close()
    say("closed" if good else "that is not what should have happened")
    return 0 if good and codes[1] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
