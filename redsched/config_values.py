"""The fields of a configuration, read from tables and from the texts of environment variables, by their types. Pure."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from redsched.errors import InvalidConfigError
from redsched.redaction import HIDDEN, shown_name, shown_value
from redsched.sealing import PayloadSecurity

__all__ = ["EnvText", "fields_of", "table_of"]


class EnvText(str):
    """The value of an environment variable: text that may mean a number."""

    __slots__ = ("variable",)
    variable: str

    def __new__(cls, text: str, variable: str) -> EnvText:
        made = super().__new__(cls, text)
        made.variable = variable
        return made

    def plain(self) -> bool | int | float | str | None:
        """What the text means where no type says it."""
        if self.lower() in ("true", "false"):
            return self.lower() == "true"
        for kind in (int, float):
            try:
                return kind(self)
            except ValueError:
                continue
        return None if self.lower() in ("", "none", "null") else str(self)


def table_of(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        shown = shown_name(name)
        raise InvalidConfigError(f"{where}: {shown} is {shown_value(value)}; it must be a table", field=shown)
    return value


def fields_of(kind: type[Any], data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a class from a table, by their types."""
    known = {f.name: str(f.type) for f in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in data.items():
        place = f"{where} ({value.variable})" if isinstance(value, EnvText) else where
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            shown = shown_name(name)
            raise InvalidConfigError(f"{place}: {shown!r} is not a setting; {hint}", field=shown)
        values[name] = _value(value, known[name], name, place)
    return values


def _security(value: Any, where: str) -> PayloadSecurity:
    """Payload keys from a table. No message shows one."""
    if not isinstance(value, Mapping):
        raise InvalidConfigError(f"{where}: payload_security must be a table with keys", field="payload_security")
    table = _plain({name: part for name, part in value.items() if name != "keys"})
    keys = value.get("keys", [])
    table["keys"] = [key.strip() for key in keys.split(",") if key.strip()] if isinstance(keys, EnvText) else keys
    if unknown := set(table) - {"keys", "encrypt", "accept_unsigned"}:
        raise InvalidConfigError(
            f"{where}: payload_security has no setting {shown_name(min(unknown))!r}; "
            "there are keys, encrypt, accept_unsigned",
            field="payload_security",
        )
    for name in ("encrypt", "accept_unsigned"):
        if not isinstance(table.get(name, False), bool):
            raise InvalidConfigError(
                f"{where}: payload_security.{name} must be true or false", field="payload_security"
            )
    try:
        return PayloadSecurity(**table)
    except InvalidConfigError as error:
        raise InvalidConfigError(f"{where}: payload_security: {error}", field="payload_security") from None


def _value(value: Any, wanted: str, name: str, where: str) -> Any:
    """A value as a field's type wants it. From the environment everything is text."""
    if name == "payload_security":
        return _security(value, where)
    kinds: dict[str, type | tuple[type, ...]] = {
        "str": str, "int": int, "float": (int, float), "bool": bool, "Mapping": Mapping, "Sequence": (list, tuple),
    }  # fmt: skip
    kind = wanted.partition("[")[0].partition(" |")[0]
    if isinstance(value, EnvText):
        if kind == "str":
            return str(value)
        value = [part.strip() for part in value.split(",") if part.strip()] if kind == "Sequence" else value.plain()
    if isinstance(value, Mapping) and kind == "Mapping":
        inside = {key: _plain(table) if isinstance(table, Mapping) else table for key, table in value.items()}
        if name == "redis_options":
            return {
                key: str(part) if isinstance(part, EnvText) else part for key, part in value.items()
            }  # "007" is text
        return value if name == "job_stores" else _plain(inside)
    if value is None and wanted.endswith("| None"):
        return None
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):
        words = {"Mapping": "a table", "Sequence": "a list", "str": "text", "bool": "true or false", "int": "an int"}
        word = words.get(kind, "a number")
        whole = name == "password" or (kind == "Mapping" and isinstance(value, str))
        shown = HIDDEN if whole else shown_value(value)
        raise InvalidConfigError(f"{where}: {name} is {shown}; it must be {word}", field=name)
    return value


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with values in the place of the environment's texts."""
    return {name: value.plain() if isinstance(value, EnvText) else value for name, value in table.items()}
