"""Fields and headers of every topic, from config/asyncapi.yaml, against which the tests hold real messages."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tests.reference.markdown import code, table
from tests.support import CHECKOUT

ASYNCAPI = CHECKOUT / "config" / "asyncapi.yaml"


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    loaded: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text())
    return loaded


def resolved(part: Any, whole: Mapping[str, Any]) -> Any:
    """`part` with what its `$ref` names, and so on inwards."""
    if isinstance(part, dict) and "$ref" in part:
        found: Any = whole
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return resolved(found, whole)
    if isinstance(part, dict):
        return {name: resolved(value, whole) for name, value in part.items()}
    return [resolved(value, whole) for value in part] if isinstance(part, list) else part


def topics() -> str:
    """For each topic its messages: key, fields, headers."""
    whole = document()
    return "\n\n".join(_channel(each) for each in resolved(whole["channels"], whole).values())


def _channel(channel: Mapping[str, Any]) -> str:
    head = f"### {channel['address']}\n\n{channel['description']}"
    return "\n\n".join([head, *map(_message, channel["messages"].values())])


def _message(message: Mapping[str, Any]) -> str:
    key = message["bindings"]["kafka"]["key"]
    rows = [("key", "", _type(key), key["description"])]
    rows += [("field", code(name), kind, what) for name, kind, what in _fields(message["payload"])]
    if "properties" not in message["payload"]:
        rows.append(("value", "", _type(message["payload"]), message["payload"]["description"]))
    rows += [("header", code(name), kind, what) for name, kind, what in _fields(message["headers"])]
    return f"**{message['title']}.** {message['summary']}\n\n{table(('part', 'name', 'type', 'what'), rows)}"


def _fields(schema: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", ()) else ", optional"
        yield f"{before}{name}", _type(field) + optional, field["description"]
        yield from _fields(field, f"{before}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    choices = field.get("oneOf") or field.get("allOf")
    if choices:
        return " or ".join(_type(choice) for choice in choices)
    if "const" in field:
        return code(field["const"])
    if field.get("contentEncoding"):
        return "bytes"
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    if kinds == ["object"] and "additionalProperties" in field and field["additionalProperties"]:
        return f"map of {_type(field['additionalProperties'])}"
    if kinds == ["array"]:
        return f"list of {_type(field['items'])}"
    return " or ".join("time" if field.get("format") == "date-time" else kind for kind in kinds)
