"""The fields of a configuration, read from tables and from the texts of environment variables, by the kinds of their
settings. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from redsched.codec.payload_security import PayloadSecurity
from redsched.errors import InvalidConfigError
from redsched.logs.redaction import HIDDEN, shown_name, shown_value
from redsched.settings import Kind, Setting

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
        """The value of the text if no type is known."""
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


def fields_of(known: Mapping[str, Setting], data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a class from a table, by their kinds."""
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


_TYPES: dict[Kind, type | tuple[type, ...]] = {
    "text": str, "int": int, "number": (int, float), "bool": bool, "list": (list, tuple), "table": Mapping,
    "options": Mapping, "stores": Mapping,
}  # fmt: skip
_WORDS: dict[Kind, str] = {
    "text": "text", "int": "an int", "number": "a number", "bool": "true or false", "list": "a list",
    "table": "a table", "options": "a table", "stores": "a table",
}  # fmt: skip


def _value(value: Any, setting: Setting, name: str, where: str) -> Any:
    """A value as its setting wants it. From the environment everything is text."""
    kind = setting.kind
    if kind == "security":
        return _security(value, where)
    is_table = kind in ("table", "options", "stores")
    if isinstance(value, EnvText):
        if kind == "text":
            return str(value)
        value = [part.strip() for part in value.split(",") if part.strip()] if kind == "list" else value.plain()
    if isinstance(value, Mapping) and is_table:
        if kind == "stores":
            return value
        if kind == "options":  # "007" is text
            return {key: str(part) if isinstance(part, EnvText) else part for key, part in value.items()}
        return _plain({key: _plain(part) if isinstance(part, Mapping) else part for key, part in value.items()})
    if value is None and setting.default is None and not is_table:
        return None
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        is_hidden = setting.secret or (is_table and isinstance(value, str))
        shown = HIDDEN if is_hidden else shown_value(value)
        raise InvalidConfigError(f"{where}: {name} is {shown}; it must be {_WORDS[kind]}", field=name)
    return value


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with values in the place of the environment's texts."""
    return {name: value.plain() if isinstance(value, EnvText) else value for name, value in table.items()}
