"""A module that the application does not name: whoever imports it ends."""

from __future__ import annotations

from tests.security.named import crimes

crimes.append("import of unnamed")
raise SystemExit
