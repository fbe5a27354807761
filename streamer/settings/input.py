"""The sections `input`, `output` and `registry`: what the messages of a feed look like, and those of ours."""

import json
from itertools import combinations
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from streamer.mapping import Path, RecordMapping, path_text
from streamer.settings.types import DAY, DURATION, File, Password, Reload, Seconds, Section, Text, conflict, expected

_PATH = "a path such as ts or data.close, a list of names, or $key, $header.NAME, $timestamp"
_ADDRESS = "an address such as https://registry:8081"
_MOST_NAMES, _LONGEST_NAME = 32, 100
_PARTS = ("$key", "$timestamp", "$partition")


def _path(value: object) -> object:
    """The names of a path: of text those between its dots."""
    if value is None:
        return None
    if isinstance(value, str):
        value = _names(value)
    if not isinstance(value, list | tuple) or len(value) > _MOST_NAMES:
        raise expected(_PATH)
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise expected(_PATH)
    return tuple(value)


def _names(text: str) -> list[str]:
    if text == ".":
        return []
    if text.startswith("$"):
        name, _, rest = text.partition(".")
        if text not in _PARTS and not (name == "$header" and rest):
            raise expected(_PATH)
        return [text] if text in _PARTS else [name, rest]
    return text.split(".")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise expected(_ADDRESS) from None
    if not is_whole or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise expected(_ADDRESS)
    if parts.username is not None or parts.password is not None:
        raise expected("an address without user and password, which are keys of their own")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise expected("a zone of the IANA such as America/New_York or UTC") from None
    return text


OptionalPath = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_path),
    PlainSerializer(lambda path: None if path is None else _written(path)),
]
Url = Annotated[str, AfterValidator(_url)]
Zone = Annotated[str, AfterValidator(_zone)]


def _written(path: Path) -> str | list[str]:
    """As text where that reads back to the same path."""
    text = path_text(path) if path else "."
    try:
        is_same = tuple(_names(text)) == path
    except PydanticCustomError:  # a name such as $date, which only a list can say
        is_same = False
    return text if is_same else list(path)


def _shown(path: Path | None) -> str:
    return "null" if path is None else repr(path_text(path) or ".")


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what YAML can say and JSON cannot."""
    try:
        json.dumps(options, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise expected("names with texts, finite numbers, true, false, null, or lists and objects of them") from None
    return options


Options = Annotated[dict[str, Any], AfterValidator(_options)]


def _begins(path: Path, beginning: Path) -> bool:
    return path[: len(beginning)] == beginning


class Fields(Section):
    """Where in a record its time, prices and stream stand: paths of names, from the outermost object on."""

    EXAMPLE = "{time: ts, prices: prices}"

    time: OptionalPath = Field(default=("ts",), description="Time of the tick.")
    prices: OptionalPath = Field(
        default=("prices",),
        description="Prices: by symbol, a list as feed.symbols has them, or a list of objects; '.': the record itself;"
        " null: one symbol a message.",
    )
    symbol: OptionalPath = Field(
        default=None, description="Symbol: in each object of the list, or in a message of one symbol."
    )
    price: OptionalPath = Field(
        default=None, description="Price: in the object of each symbol, or in a message of one symbol."
    )
    key: OptionalPath = Field(
        default=None,
        description="Name of the stream; null: the record's key; $partition: a stream for each partition.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.time or self.time == ("$partition",):
            conflict("time", _shown(self.time), "the path of the time, or $timestamp")
        if self.key == () or self.key == ("$timestamp",):
            conflict("key", _shown(self.key), "a path, $key, $partition, or null for the record's key")
        if self.prices is None:
            self._one_symbol_a_message()
        else:
            self._members()
        self._apart()
        return self

    def _apart(self) -> None:
        """A time, a symbol, a price and a stream's name each stand for themselves, and inside of none of the others.

        The stream may be named by the symbol, and a time may stand among the prices.
        """
        names = ("time", "symbol", "price", "key") if self.prices is None else ("time", "key")
        places = {name: path for name in names if (path := getattr(self, name))}
        pairs = [pair for pair in combinations(places.items(), 2) if {pair[0][0], pair[1][0]} != {"symbol", "key"}]
        for (first, one), (name, path) in pairs:
            if _begins(one, path) or _begins(path, one):
                conflict(name, _shown(path), f"another path than that of fields.{first}, {_shown(one)}")
        for name, path in places.items():
            if self.prices and _begins(self.prices, path):
                conflict("prices", _shown(self.prices), f"another path than that of fields.{name}, {_shown(path)}")

    def _one_symbol_a_message(self) -> None:
        for name in ("symbol", "price"):
            path = getattr(self, name)
            if not path or path in (("$partition",), ("$timestamp",)):
                conflict(name, _shown(path), "a path, as fields.prices is null: one symbol a message")

    def _members(self) -> None:
        if self.prices and self.prices[0].startswith("$"):
            conflict("prices", _shown(self.prices), "a path in the value, '.', or null")
        if self.symbol is not None and self.price is None:
            conflict("price", "null", "the member with the price, as fields.symbol is set")
        if self.prices == () and self.symbol is not None:
            self._message_is_a_list(self.symbol)
        if self.symbol and self.price and (_begins(self.symbol, self.price) or _begins(self.price, self.symbol)):
            conflict("price", _shown(self.price), f"another member than that of fields.symbol, {_shown(self.symbol)}")
        for name in ("symbol", "price"):
            path = getattr(self, name)
            if path is not None and (not path or path[0].startswith("$")):
                conflict(name, _shown(path), "a member of the objects at fields.prices")

    def _message_is_a_list(self, symbol: Path) -> None:
        """Of objects with symbol and price: what stands beside them has a position in it, and no name."""
        for name in ("time", "key"):
            path = getattr(self, name)
            if path and not path[0].startswith("$") and not path[0].isdecimal():
                conflict(
                    "prices",
                    "'.'",
                    f"null (one symbol a message), or the path of a list of objects: fields.symbol {_shown(symbol)}"
                    f" makes the message itself a list, in which there is no fields.{name} {_shown(path)}",
                )


class Input(Section):
    """What the messages of the feed look like."""

    codec: Text = Field(default="json", description="Format of the values: json, avro, csv, or a codec of your own.")
    options: Options = Field(default_factory=dict, description="Of the codec: of csv columns and delimiter.")
    fields: Fields = Field(default_factory=Fields, description="Where in a record what stands.")
    time: Literal["close", "open"] = Field(
        default="close",
        description="What the time of a bar is: its close, or its open, a step before it is known.",
    )
    time_unit: Literal["s", "ms", "us", "ns"] = Field(default="ms", description="Unit of times that are numbers.")
    timezone: Zone | None = Field(
        default=None, description="Zone of ISO times without one, such as America/New_York; null: they are refused."
    )
    numbers: Literal["number", "text"] = Field(
        default="number", description="text: numbers may also stand as text, '190.10'."
    )
    assemble: Annotated[Literal["vector", "last"], Reload.ANEW] = Field(
        default="vector",
        description="vector: each message is one vector; last: messages of one step are merged, later prices win.",
    )
    close: Literal["later", "complete"] = Field(
        default="later",
        description="A step closes with the first message of a later one; or as soon as it has all of feed.symbols.",
    )
    close_after: Seconds | None = Field(
        default=None,
        ge=0.001,
        le=365 * DAY,
        description="It closes with a message whose record's timestamp is so long after the step's time, too.",
    )

    @model_validator(mode="after")
    def _closes_what_it_assembles(self) -> Self:
        if self.assemble == "vector" and self.close != "later":
            conflict("close", self.close, "input.assemble: last beside it, as no step stays open without")
        if self.assemble == "vector" and self.close_after is not None:
            found = DURATION.render(self.close_after)
            conflict("close_after", found, "input.assemble: last beside it, as no step stays open without")
        return self

    @model_validator(mode="after")
    def _lines_are_flat(self) -> Self:
        if self.codec != "csv":
            return self
        columns = self.options.get("columns")
        if not columns and self.options.keys() <= {"columns", "delimiter"}:  # of another one the codec has to say more
            conflict("options.columns", "nothing", "the names of the columns, in order, with codec csv")
        if self.fields.prices:
            found = _shown(self.fields.prices)
            conflict(
                "fields.prices", found, "'.' (a column for each symbol) or null with codec csv, whose lines are flat"
            )
        self._stand_in_columns(columns if isinstance(columns, list) else [])
        return self

    def _stand_in_columns(self, columns: list[Any]) -> None:
        for name in ("time", "symbol", "price", "key"):
            path = getattr(self.fields, name)
            if columns and path and not path[0].startswith("$") and path[0] not in columns:
                conflict(f"fields.{name}", _shown(path), f"one of options.columns: {', '.join(map(str, columns))}")

    @model_validator(mode="after")
    def _one_symbol_is_no_vector(self) -> Self:
        """Without a word of which stream is meant, all symbols but the first of a step would be lost as duplicates."""
        fields = self.fields
        if fields.prices is not None:
            return self
        if self.assemble == "vector" and (fields.key is None or fields.key != fields.symbol):
            conflict(
                "assemble",
                self.assemble,
                "last, as messages have one symbol each (or fields.key as fields.symbol: a stream for each symbol)",
            )
        if self.assemble == "last" and fields.key is None and fields.symbol != ("$key",):
            conflict(
                "fields.key",
                "null",
                "$partition (the symbols of a partition are one stream), $key (the records' keys name streams), or a"
                " path, as messages have one symbol each",
            )
        return self

    @property
    def close_after_ms(self) -> int | None:
        """`close_after` in milliseconds."""
        return None if self.close_after is None else round(self.close_after * 1000)

    @property
    def mapping(self) -> RecordMapping:
        """What a decoder is made of."""
        fields = self.fields
        return RecordMapping(
            time=fields.time or (),
            prices=fields.prices,
            symbol=fields.symbol,
            price=fields.price,
            key=fields.key,
            time_unit=self.time_unit,
            zone=None if self.timezone is None else ZoneInfo(self.timezone),
            text_numbers=self.numbers == "text",
        )


class Output(Section):
    """What the forecasts look like."""

    codec: Text = Field(default="json", description="Format of the forecasts' values: json, avro, csv, or your own.")
    options: Options = Field(default_factory=dict, description="Of the codec.")


class Registry(Section):
    """The schema registry, for codecs that need one."""

    url: Url | None = Field(default=None, description="Address of the registry, for codec avro.")
    username: Text | None = Field(default=None, description="User, where it asks for one.")
    password: Password | None = Field(default=None, description="Its password. Never in the file.")
    password_file: File | None = Field(default=None, strict=False, description="File that holds password.")
    ca_file: File | None = Field(
        default=None,
        strict=False,
        description="PEM file of the authorities that may have signed its certificate; null: the system's.",
    )
    timeout: Seconds = Field(default=5.0, ge=0.1, le=60, description="In which it has to answer.")

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        """A password that is silently not used, or sent in the clear beside TLS, is the worst kind of mistake."""
        for key in ("username", "password", "password_file", "ca_file"):
            if getattr(self, key) is not None and self.url is None:
                conflict(key, "a value", "none without registry.url")
        if self.username is None and (self.password is not None or self.password_file is not None):
            conflict("username", "null", "the user that registry.password belongs to")
        if self.ca_file is not None and self.url is not None and not self.url.startswith("https:"):
            conflict("ca_file", repr(str(self.ca_file)), "none with an address of http://")
        return self
