"""Settings that differ between installations, from environment variables."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("PIZZERIA_FOLDER", "~/.local/share/pizzeria")).expanduser().resolve()
"""Where the orders are kept, and the jobs, if there is no Redis."""

REDIS_URL = os.environ.get("PIZZERIA_REDIS", f"embedded://{FOLDER / 'redis'}")
"""`redis://…` where you have one. `embedded://` starts one in that folder, which all processes share."""

MINUTE = float(os.environ.get("PIZZERIA_MINUTE", "60"))
"""Seconds. Shorter, to watch an order of 45 minutes in a few seconds."""
