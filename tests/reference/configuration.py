"""Every key of the settings, from their declarations."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import SecretStr

from streamer.config import ENVIRONMENT_PREFIX
from streamer.settings import Settings, keys
from streamer.settings.keys import find, types_at, unit_at
from streamer.settings.types import DURATION, Section
from tests.reference.markdown import code, table

_NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "file", SecretStr: "secret"}
_NAMES |= {tuple: "list", dict: "map", datetime: "time with a zone"}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))
_WITHOUT_DEFAULT = {"kafka": {"bootstrap_servers": "127.0.0.1:9092"}}

Key = tuple[str, ...]


def configuration() -> str:
    """A table for each section."""
    sections = [(name,) for name in Settings.model_fields]
    return "\n\n".join(f"### {name}\n\n{_meaning((name,))}\n\n{_section((name,))}" for (name,) in sections)


def leaves() -> Iterator[Key]:
    """Every key that has a value of its own, not keys below it."""
    known = list(keys.paths())
    return (key for key in known if not any(other[: len(key)] == key and other != key for other in known))


def variable(key: Key) -> str:
    """The environment's name of a key; in the items of a list that of the list, which is set as a whole."""
    lists = [end for end in range(1, len(key)) if _holds_sections(key[:end])]
    return ENVIRONMENT_PREFIX + "__".join(key[: min(lists, default=len(key))]).upper()


def dotted(key: Key) -> str:
    """`network.layers[].units`."""
    parts = [f"{name}[]" if _holds_sections(key[: end + 1]) else name for end, name in enumerate(key)]
    return ".".join(parts)


def default(key: Key) -> str:
    """Its default as YAML has it; nothing for a key without one."""
    info = find(key)
    assert info is not None
    if info.is_required():
        return ""
    value: Any = Settings.model_validate(_WITHOUT_DEFAULT).model_dump(mode="json")
    for name in key:
        value = value[name][0] if isinstance(value[name], list) and _holds_sections((*key[:1], name)) else value[name]
    return value if isinstance(value, str) else json.dumps(value)


def type_name(key: Key) -> str:
    """What the key takes, in words."""
    unit = unit_at(key)
    if unit is not None:
        names = ["duration" if unit is DURATION else "size"]
    else:
        kinds = sorted(types_at(key) - {NoneType}, key=lambda kind: (not _is_literal(kind), str(kind)))
        names = list(dict.fromkeys(name for each in kinds for name in _names(each)))
    if key[:2] == ("input", "fields"):
        names = ["path"]
    return " or ".join(names + (["null"] if NoneType in types_at(key) else []))


def allowed(key: Key) -> str:
    """Its bounds, in its unit."""
    info, unit = find(key), unit_at(key)
    assert info is not None
    bounds = []
    for kind, name, word in _BOUNDS:
        for each in info.metadata:
            if isinstance(each, kind):
                value = getattr(each, name)
                bounds.append(f"{word} {unit.render(value) if unit else _number(value)}")
    bounds += [f"at most {each.max_length} characters" for each in info.metadata if isinstance(each, MaxLen)]
    return ", ".join(bounds)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _names(kind: Any) -> list[str]:
    if _is_literal(kind):
        return [code(value) for value in get_args(kind)]
    return [_NAMES[get_origin(kind) or kind]]


def _is_literal(kind: Any) -> bool:
    return bool(get_origin(kind) == Literal)


def _section(section: Key) -> str:
    rows = [
        (
            code(dotted(key)),
            type_name(key),
            code(default(key)),
            allowed(key),
            keys.reload_at(key),
            code(variable(key)),
            _meaning(key),
        )
        for key in leaves()
        if key[: len(section)] == section
    ]
    return table(("key", "type", "default", "allowed", "at reload", "environment", "meaning"), rows)


def _meaning(key: Key) -> str:
    info = find(key)
    assert info is not None
    assert info.description, f"{dotted(key)} has no description"
    return info.description


def _holds_sections(key: Key) -> bool:
    """Whether the key is a list of sections."""
    info = find(key)
    items = get_args(info.annotation) if info else ()
    return any(isinstance(item, type) and issubclass(item, Section) for item in items)
