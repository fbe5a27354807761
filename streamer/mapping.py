"""Where in a record what stands: paths to its time, its prices and the name of its stream."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from streamer.codec import Ambiguous, DecodeReason, refuse, shown, shown_names

Path = tuple[str, ...]
"""Names from the outermost object on; `()` the whole message; `("$key",)`, `("$header", name)`, `("$timestamp",)`."""

Reader = Callable[[Any, Any], Any]
"""Gives what stands at a path, of a decoded message and the record that carried it."""


@dataclass(frozen=True, slots=True)
class RecordMapping:
    """Where the parts of a tick stand, and how they are written.

    prices: the path to an object of prices by symbol or a list; None: a message has one symbol. symbol, price: the
    members of a list's objects, or the paths of the one symbol. key: the stream's name, None: the record's key.
    time_unit: of numbers. zone: of ISO times without one. text_numbers: numbers may stand as text.
    """

    time: Path = ("ts",)
    prices: Path | None = ("prices",)
    symbol: Path | None = None
    price: Path | None = None
    key: Path | None = None
    time_unit: str = "ms"
    zone: ZoneInfo | None = None
    text_numbers: bool = False


def path_text(path: Path) -> str:
    """A path as messages name it: `data.close`."""
    return ".".join(path)


def reader(path: Path) -> Reader:
    """What gives the value at `path`. DecodeError (`missing_field`, `wrong_type`, `malformed`) names what is there."""
    match path:
        case ("$key",):
            return lambda message, record: _text(record.key, "$key")
        case ("$timestamp",):
            return lambda message, record: record.timestamp
        case ("$header", name):
            return lambda message, record: _header(record, name)
    if len(path) == 1:
        return _field(path)
    return lambda message, record: member(message, path)


def _field(path: Path) -> Reader:
    """Of the message itself, which is what most feeds have: no more than a look-up, once per tick."""
    [name] = path

    def read(message: Any, record: Any) -> Any:
        if type(message) is dict and name in message:
            return message[name]
        return _other_member(message, name, path, 0)

    return read


def member(found: Any, path: Path) -> Any:
    """What stands in a decoded value at a path of names. DecodeError."""
    for depth, name in enumerate(path):
        found = _member(found, name, path, depth)
    return found


def refuse_ambiguous(found: object, where: str) -> None:
    """Refuse an object in which a key stands twice."""
    if isinstance(found, Ambiguous):
        refuse(DecodeReason.MALFORMED, f"{where}: a key stands twice")


def _member(found: Any, name: str, path: Path, depth: int) -> Any:
    if type(found) is dict and name in found:
        return found[name]
    return _other_member(found, name, path, depth)


def _other_member(found: Any, name: str, path: Path, depth: int) -> Any:
    """A member of a list, or why there is none."""
    where = path_text(path[:depth])
    if isinstance(found, dict):
        refuse_ambiguous(found, where or "message")
        refuse(DecodeReason.MISSING_FIELD, f"{path_text(path)}: not there; found {_inside(where)}{shown_names(found)}")
    if isinstance(found, list) and name.isdecimal() and name.isascii():
        if int(name) < len(found):
            return found[int(name)]
        refuse(DecodeReason.MISSING_FIELD, f"{path_text(path)}: not there; found {_inside(where)}{shown(found)}")
    refuse(DecodeReason.WRONG_TYPE, f"{where or 'message'}: found {shown(found)}, expected an object")


def _inside(where: str) -> str:
    return f"in {where} " if where else ""


def _header(record: Any, name: str) -> str:
    """The last header of a name: what is on the way adds its own behind those that are there."""
    found = [value for key, value in record.headers if key == name]
    if not found:
        others = shown_names(dict.fromkeys(key for key, _ in record.headers))
        refuse(DecodeReason.MISSING_FIELD, f"$header.{name}: not there; found {others}")
    return _text(found[-1], f"$header.{name}")


def _text(data: bytes | None, where: str) -> str:
    if data is None:
        refuse(DecodeReason.MISSING_FIELD, f"{where}: not there")
    try:
        return data.decode()
    except UnicodeDecodeError:
        refuse(DecodeReason.WRONG_TYPE, f"{where}: found {shown(data)}, expected text in UTF-8")
