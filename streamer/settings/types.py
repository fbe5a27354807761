"""Types of single settings (durations, sizes, names, addresses, secrets) and the base of their sections.

Every refusal says what is expected; `streamer.config` puts before it where and what was found.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from streamer.codec import is_symbol, parse_time, shown
from streamer.errors import DecodeError

MASK = "***"
"""Stands for a secret wherever settings are shown."""

DAY = 86400.0
"""Seconds."""

CHANGES = ("auto", "log_return", "difference")
"""What a change may be."""

DEFAULT = "default"
"""In a map of symbols: all those that it does not name."""

_LARGEST = 2**53  # of which seconds and bytes are still exact as floats
_LONGEST_QUANTITY = 40
_LEAST_SIGNING_KEY = 32
_HOST_PORT = "host:port; several with commas or as a list"


def expected(what: str) -> PydanticCustomError:
    """The error of a value that is not `what`."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def conflict(key: str, found: str, what: str) -> NoReturn:
    """Refuse a key that does not go with another; `key` is dotted, relative to the section that checks."""
    raise PydanticCustomError("conflict", "{what}", {"key": key, "found": found, "what": what})


class Reload(StrEnum):
    """What a changed key asks of a daemon that runs.

    Stands in the key's type, or in its section's for all keys of that which have none of their own.
    """

    RESTART = "restart"
    """It is taken over by a restart alone: a reload that would change it is refused."""
    AT_ONCE = "at once"
    """It is taken over at reload; the streams go on untouched."""
    STREAMS = "streams"
    """It is taken over at reload, between two ticks: the streams are saved, and put back under it."""
    ANEW = "anew"
    """As `STREAMS`; but what a stream knows holds no longer: as at a restart, it begins anew on its ring."""


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys refused, types not guessed (`true` is no number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    EXAMPLE: ClassVar[str] = ""
    """How a value of it may look, for who has given none."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {}
    """Keys of it by other names that people are likely to try, which are not like them as text."""

    @model_validator(mode="before")
    @classmethod
    def _fill_empty(cls, data: Any) -> Any:
        """A section whose keys are all commented out is null in YAML."""
        return {} if data is None else data


@dataclass(frozen=True, eq=False)  # hashable: `Seconds | None` is a type too
class Unit:
    """A quantity written as a number with a unit; `parse(render(x)) == x`.

    factors: base units in each unit, those to be shown with preference last.
    whole: whether only whole base units count.
    """

    example: str
    factors: Mapping[str, Decimal]
    base: str
    whole: bool

    def parse(self, value: object) -> float | int:
        """The quantity in base units, which are also those of a bare number."""
        if isinstance(value, str):
            number = self._parse_text(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            number = Decimal(value)
        else:
            raise expected(self.example)
        if not 0 <= number <= _LARGEST or (self.whole and number % 1):
            raise expected(self.example)
        return int(number) if self.whole else float(number)

    def render(self, number: float) -> str:
        """The quantity in the largest unit of which it is a whole multiple."""
        exact = Decimal(repr(number))
        for name, factor in reversed(tuple(self.factors.items())):
            if exact and exact % factor == 0:
                return f"{int(exact / factor)}{name}"
        return f"{exact.normalize():f}{self.base}"

    def _parse_text(self, text: str) -> Decimal:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", text.strip())
        if match is None or len(text) > _LONGEST_QUANTITY or match[2] not in {"", *self.factors}:
            raise expected(self.example)
        return Decimal(match[1]) * self.factors[match[2] or self.base]


DURATION = Unit(
    "a duration such as 500ms, 60s, 5m, 1h or 30d",
    {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)},
    base="s",
    whole=False,
)
SIZE = Unit(
    "a size such as 512MiB, 4GiB, 1MB or a number of bytes",
    {"B": Decimal(1)}
    | {"KB": Decimal(1000), "kB": Decimal(1000), "MB": Decimal(1000**2), "GB": Decimal(1000**3)}
    | {"KiB": Decimal(1024), "MiB": Decimal(1024**2), "GiB": Decimal(1024**3)},
    base="B",
    whole=True,
)


def _text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise expected("printable text that is not empty")
    return text


def _kafka_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in {".", ".."}:
        raise expected("a Kafka name: 1 to 249 of A-Z a-z 0-9 . _ -")
    return text


def _servers(value: object) -> str:
    servers = value.split(",") if isinstance(value, str) else value
    if not isinstance(servers, list | tuple) or not servers:
        raise expected(_HOST_PORT)
    return ",".join(_server(server) for server in servers)


def _server(server: object) -> str:
    match = re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", str(server).strip())
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise expected(_HOST_PORT)
    return match[0]


def _start(value: object) -> object:
    if value in ("warm", "earliest", "latest"):
        return value
    text = value.isoformat() if isinstance(value, datetime) else value
    try:
        milliseconds = parse_time(text if isinstance(text, str) else None)
    except DecodeError:
        raise expected("warm, earliest, latest, or an ISO-8601 time with a zone") from None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _symbol(text: str) -> str:
    if not is_symbol(text):
        raise expected("a symbol: printable text that is not empty")
    return text


def _distinct(symbols: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(symbols)) < len(symbols):
        raise expected("each symbol once")
    return symbols


def _changes(value: object) -> str | dict[str, str]:
    if isinstance(value, str) and value in CHANGES:
        return value
    kinds = f"{', '.join(CHANGES[:-1])} or {CHANGES[-1]}"
    if not isinstance(value, dict) or not value:
        raise expected(f"{kinds}, or a map of symbols to these")
    for symbol, change in value.items():
        if not is_symbol(symbol):
            raise expected("symbols as the keys")
        if change not in CHANGES:
            conflict(symbol, shown(change), kinds)
    return value


def parse_token(value: object) -> SecretStr:
    """A bearer token that a header can carry, without the newline that files end with."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    text = text.strip() if isinstance(text, str) else ""
    if not re.fullmatch(r"[!-~]+", text):
        raise expected("a token of visible ASCII characters without spaces")
    return SecretStr(text)


def _switch(value: object) -> object:
    return {"on": True, "off": False}.get(value, value) if isinstance(value, str) else value


Switch = Annotated[bool, BeforeValidator(_switch)]
"""True or false, also as on or off, which is text in YAML 1.2."""


def parse_password(value: object) -> SecretStr:
    """A password, which may begin or end with blanks, without the newline that files end with."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    text = text.removesuffix("\n").removesuffix("\r") if isinstance(text, str) else ""
    if not text or not text.isprintable():
        raise expected("a password: printable text on one line")
    return SecretStr(text)


def parse_signing_key(value: object) -> SecretStr:
    """A key of HMAC-SHA256: one that is shorter than the hash weakens it (RFC 2104, section 3)."""
    token = parse_token(value)
    if len(token.get_secret_value()) < _LEAST_SIGNING_KEY:
        raise expected(f"a key of at least {_LEAST_SIGNING_KEY} characters, as `openssl rand -hex 32` makes")
    return token


Seconds = Annotated[float, DURATION, BeforeValidator(DURATION.parse), PlainSerializer(DURATION.render)]
Bytes = Annotated[int, SIZE, BeforeValidator(SIZE.parse), PlainSerializer(SIZE.render)]
Text = Annotated[str, AfterValidator(_text)]
KafkaName = Annotated[str, AfterValidator(_kafka_name)]
Servers = Annotated[str, BeforeValidator(_servers)]
Symbol = Annotated[str, AfterValidator(_symbol)]
Symbols = Annotated[tuple[Symbol, ...], Field(strict=False), AfterValidator(_distinct)]
Changes = Annotated[Literal["auto", "log_return", "difference"] | dict[str, str], PlainValidator(_changes)]
Start = Annotated[
    Literal["warm", "earliest", "latest"] | datetime,
    PlainValidator(_start),
    PlainSerializer(lambda start: start if isinstance(start, str) else start.isoformat()),
]
File = Annotated[Path, PlainSerializer(str)]
Token = Annotated[SecretStr, BeforeValidator(parse_token), PlainSerializer(lambda _: MASK)]
Password = Annotated[SecretStr, BeforeValidator(parse_password), PlainSerializer(lambda _: MASK)]
SigningKey = Annotated[SecretStr, BeforeValidator(parse_signing_key), PlainSerializer(lambda _: MASK)]
