"""Avro as Confluent's clients write it: a zero byte, the schema's id in the registry (4 bytes), the datum."""

import io
import json
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import fastavro
from fastavro.read import LOGICAL_READERS
from fastavro.types import Schema

from streamer import codecs
from streamer.codec import DecodeReason, parse_time, refuse, shown
from streamer.codecs.registry import NotRegisteredError, Registry, RegistryError
from streamer.errors import ConfigError

_MAGIC = 0
_HEADER = 5  # bytes
_MOST_SCHEMAS = 2000  # held, and as many ids without one; a sender can name any
_ASK_AGAIN_SECONDS = 30.0  # for a schema that was not registered
_MOST_REFERENCES = 100
_MOST_DECIMAL = 64  # bytes, 154 digits: the time to convert one grows with the square of its length
_DECIMAL = "streamer-decimal"  # a name of our own: the reader of `decimal` is that of all who use fastavro here
_MOST_FREE, _MOST_FREE_OF_ITEM = 1000, 8  # values without bytes: in all, and in an item of an array or a map

_LEVELS = ("yhat", "yhat_lower", "yhat_upper", "last")
_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_SOURCE_FIELDS = [
    {"name": "topic", "type": "string"},
    {"name": "partition", "type": "int"},
    {"name": "offset", "type": "long"},
]
FORECAST_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Forecast",
    "namespace": "streamer",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "stream", "type": "string"},
        {"name": "as_of", "type": _TIME},
        {"name": "target", "type": _TIME},
        *({"name": name, "type": {"type": "map", "values": "double"}} for name in _LEVELS),
        {"name": "model", "type": "string"},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": _SOURCE_FIELDS}},
    ],
}
"""Of what `encode` gives, registered as `<topic>-value`."""


class _UnusableError(Exception):
    """A schema that no message is decoded with; the text says why."""


class _UnregisteredError(_UnusableError):
    """The registry does not have it, or one that it refers to: it may have it later."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.asked = time.monotonic()  # seconds


class AvroCodec:
    """Avro 1.12, decoded with the schema that it was written with.

    Logical types become what they stand for: a timestamp is ISO-8601 text, with a zone unless it is a local one; a
    decimal is a number. Of a union the value itself is given.
    """

    content_type = "application/avro"

    def __init__(self, options: Mapping[str, Any], registry: Registry | None) -> None:
        codecs.only(options)
        if registry is None:
            raise ConfigError("codec: avro needs a schema registry: set registry.url")
        self._registry = registry
        # Partitions prepare in threads of their own; never held while the registry is asked, which may take its time.
        self._lock = threading.Lock()
        self._schemas: dict[int, Schema | _UnusableError] = {}
        self._order: dict[int, None] = {}  # that wanted last comes last
        self._own: tuple[bytes, Schema]

    def start(self, topic: str | None) -> None:
        """Reach the registry; with a topic, register the schema of its forecasts. RegistryError, ConfigError."""
        if topic is None:
            return self._registry.check()
        number = self._registry.register(f"{topic}-value", json.dumps(FORECAST_SCHEMA))
        self._own = bytes([_MAGIC]) + number.to_bytes(4, "big"), fastavro.parse_schema(FORECAST_SCHEMA)

    def prepare(self, values: Sequence[bytes]) -> None:
        """Fetch the schemas of `values` that are not known yet. RegistryError, ConfigError."""
        found = (_schema_id(value) for value in values)
        wanted = dict.fromkeys(number for number in found if number is not None)
        for number in wanted:
            self._keep(number, self._known(number) or self._fetched(number))
        with self._lock:
            self._evict(wanted)

    def _keep(self, number: int, schema: "Schema | _UnusableError") -> None:
        """Hold a schema, but not in the place of one that another partition has got meanwhile."""
        with self._lock:
            held = self._schemas.get(number)
            if held is None or isinstance(held, _UnusableError):
                self._schemas[number] = schema
            self._order.pop(number, None)
            self._order[number] = None

    def _evict(self, wanted: Container[int]) -> None:
        """Drop what was wanted least lately, of the schemas and of the ids without one apart.

        Another partition may not have decoded yet what it has prepared: ids that are made up drive out no schema.
        """
        if len(self._schemas) <= _MOST_SCHEMAS:
            return
        for is_usable in (True, False):
            held = [each for each in self._order if isinstance(self._schemas[each], _UnusableError) != is_usable]
            dropped = [each for each in held if each not in wanted][: max(0, len(held) - _MOST_SCHEMAS)]
            for number in dropped:
                del self._schemas[number], self._order[number]

    def _known(self, number: int) -> "Schema | _UnusableError | None":
        """What is held of an id, None where the registry is to be asked (again)."""
        found = self._schemas.get(number)
        if isinstance(found, _UnregisteredError) and time.monotonic() - found.asked > _ASK_AGAIN_SECONDS:
            return None
        return found

    def _fetched(self, number: int) -> "Schema | _UnusableError":
        try:
            return _parsed(self._registry, self._registry.schema(number))
        except NotRegisteredError as error:
            return _UnregisteredError(str(error))
        except ConfigError as error:  # at the start it let us in, and it may again
            raise RegistryError(str(error)) from error
        except _UnusableError as error:
            return type(error)(f"schema {number} of the registry at {self._registry.url}: {error}")

    def decode(self, value: bytes) -> object:
        """The datum. DecodeError: `unknown_schema` where the registry has none of its id, or one of no use.

        RegistryError where `prepare` did not come first.
        """
        number = _schema_id(value)
        if number is None:
            refuse(
                DecodeReason.MALFORMED,
                f"it begins with {shown(value[:_HEADER])}, expected a zero byte and the 4 of a schema's id",
            )
        schema = self._schemas.get(number)
        if schema is None:  # another partition's messages have just driven it out
            raise RegistryError(f"schema {number} has to be fetched from {self._registry.url} before it is used")
        if isinstance(schema, _UnusableError):
            refuse(DecodeReason.UNKNOWN_SCHEMA, str(schema))
        datum = io.BytesIO(value)
        datum.seek(_HEADER)
        try:
            found: Any = fastavro.schemaless_reader(datum, schema, None)
        except Exception as error:  # it raises whatever comes: EOFError, IndexError, OverflowError, ValueError
            refuse(DecodeReason.MALFORMED, f"schema {number} does not fit: {' '.join(repr(error).split())[:100]}")
        if left := len(value) - datum.tell():
            refuse(DecodeReason.MALFORMED, f"schema {number} does not fit: {left} bytes are left")
        return _plain(found["value"])

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """The forecast under our own schema; `start` comes first."""
        head, schema = self._own
        times = {name: parse_time(message[name]) for name in ("as_of", "target")}
        datum = io.BytesIO()
        datum.write(head)
        fastavro.schemaless_writer(datum, schema, {**message, **times})
        return datum.getvalue()


def _schema_id(value: bytes) -> int | None:
    return int.from_bytes(value[1:_HEADER], "big") if len(value) >= _HEADER and value[0] == _MAGIC else None


def _plain(found: Any) -> Any:
    match found:
        case dict():
            return {name: _plain(each) for name, each in found.items()}
        case list():
            return [_plain(each) for each in found]
        case datetime():
            return found.isoformat().replace("+00:00", "Z")
        case Decimal():
            return float(found)
        case None | str() | int() | float():
            return found
        case date():
            return found.isoformat()
        case bytes():
            return found.decode("latin-1")
    return str(found)


def _read_decimal(data: bytes, writer_schema: Any, reader_schema: Any = None) -> Any:
    if len(data) > _MOST_DECIMAL:
        raise ValueError(f"a decimal of {len(data)} bytes, at most {_MOST_DECIMAL}")
    return LOGICAL_READERS["bytes-decimal"](data, writer_schema, reader_schema)


LOGICAL_READERS[f"bytes-{_DECIMAL}"] = LOGICAL_READERS[f"fixed-{_DECIMAL}"] = _read_decimal


# --- schemas ----------------------------------------------------------------------------------------------------------


def _parsed(registry: Registry, found: Mapping[str, Any]) -> Schema:
    """The schema of an answer, with all that it refers to. _UnusableError, RegistryError, ConfigError."""
    if found.get("schemaType", "AVRO") != "AVRO":
        raise _UnusableError(f"it is {shown(found['schemaType'])}, expected AVRO")
    named: dict[str, Any] = {}
    try:
        for text in _referenced(registry, found, set()):
            fastavro.parse_schema(_loaded(text), named)
        # A record is its fields, one after the other: this one changes no byte, and takes the named types along.
        fields = [{"name": "value", "type": _loaded(found["schema"])}]
        schema = fastavro.parse_schema({"type": "record", "name": "streamer_message", "fields": fields}, named)
        refuse_bombs(schema, named)
    except (_UnusableError, RegistryError, ConfigError):
        raise
    except NotRegisteredError as error:
        raise _UnregisteredError(f"it refers to one that is not there: {error}") from error
    except RecursionError:
        raise _UnusableError("it is nested too deeply") from None
    except Exception as error:  # what is no schema, fastavro tells by many exceptions
        raise _UnusableError(f"it is no Avro schema: {' '.join(repr(error).split())[:100]}") from error
    return schema


def _loaded(text: str) -> Any:
    return json.loads(text, object_hook=_with_own_decimal)


def _with_own_decimal(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"logicalType": _DECIMAL} if schema.get("logicalType") == "decimal" else schema


def _referenced(registry: Registry, found: Mapping[str, Any], seen: set[tuple[str, int]]) -> Iterator[str]:
    """Texts of the schemas that one refers to, each after those that it refers to itself."""
    for reference in found.get("references") or ():
        where = str(reference["subject"]), int(reference["version"])
        if where in seen:
            continue
        seen.add(where)
        if len(seen) > _MOST_REFERENCES:
            raise _UnusableError(f"it refers to more than {_MOST_REFERENCES} others")
        other = registry.version(*where)
        yield from _referenced(registry, other, seen)
        yield other["schema"]


def refuse_bombs(schema: Schema, named: Mapping[str, Any]) -> None:
    """Refuse a schema by which a few bytes become more values than there is memory, or crash the decoder.

    The sender of a message names its schema, which may be anybody's. A type that holds itself takes the decoder, which
    is C, beyond the end of its stack; an array whose items have no bytes can have any number of them. All else has at
    most one value a byte, but for those that take none, which are counted. _UnusableError.
    """
    if _Sizes(named).of(schema)[1] > _MOST_FREE:
        raise _UnusableError(f"it has more than {_MOST_FREE} values without bytes")


class _Sizes:
    """Of the types of a schema: the bytes that a value takes at least, and the values in it that take none."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int] | None] = {}

    def of(self, schema: Any) -> tuple[int, int]:
        match schema:
            case str():
                return self._of_name(schema)
            case list():
                branches = [self.of(each) for each in schema]
                return 1, max((free for _, free in branches), default=0)
            case {"type": "record" | "error", "name": name}:
                return self._of_record(name, schema)
            case {"type": "array", "items": each} | {"type": "map", "values": each}:
                return self._of_items(schema["type"], each)
            case {"type": "fixed", "size": size}:
                if size > _MOST_DECIMAL and schema.get("logicalType") == _DECIMAL:
                    raise _UnusableError(f"a decimal in it has {size} bytes, at most {_MOST_DECIMAL}")
                return size, int(size == 0)
            case {"type": "enum"}:
                return 1, 0
        return self.of(schema["type"])

    def _of_name(self, name: str) -> tuple[int, int]:
        if name in self._named:
            return self.of(self._named[name])
        return (0, 1) if name == "null" else (1, 0)

    def _of_record(self, name: str, schema: Mapping[str, Any]) -> tuple[int, int]:
        if name in self._known:
            known = self._known[name]
            if known is None:
                raise _UnusableError(f"its type {name} holds itself")
            return known
        self._known[name] = None
        fields = [self.of(each["type"]) for each in schema["fields"]]
        self._known[name] = found = (sum(size for size, _ in fields), 1 + sum(free for _, free in fields))
        return found

    def _of_items(self, kind: str, items: Any) -> tuple[int, int]:
        size, free = self.of(items)
        if (size == 0 and kind == "array") or free > _MOST_FREE_OF_ITEM:
            raise _UnusableError(f"the items of an {kind} in it have values without bytes")
        return 1, 0
