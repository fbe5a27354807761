"""From the records of a feed to ticks: a codec makes plain values of bytes, a mapping finds the tick in them.

Messages are checked by hand and not by a schema library: this runs once per tick, in microseconds. Whatever a record
holds, `Decoder.decode` gives a tick or raises `DecodeError`, nothing else.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamer import codecs
from streamer.codec import DecodeLimits, DecodeReason, parse_time, parse_time_text, refuse, shown
from streamer.codecs import Codec
from streamer.codecs.registry import Registry, RegistryError
from streamer.control import is_control
from streamer.core.tick import Tick
from streamer.errors import BrokerError, ConfigError, DecodeError, StreamerError
from streamer.mapping import RecordMapping, path_text, reader
from streamer.prices import price_reader

if TYPE_CHECKING:
    from streamer.settings import Settings

_DETAIL = 200  # characters of what a foreign codec says
_OWN_STREAM = ("$partition",)


class Decoder:
    """Reads records of one feed; made once, for all its partitions.

    symbols: `feed.symbols`, the order of prices in a list. key_bytes: of a stream's name at most.
    """

    def __init__(
        self,
        codec: Codec,
        mapping: RecordMapping,
        limits: DecodeLimits,
        symbols: tuple[str, ...] = (),
        key_bytes: int = 256,
    ) -> None:
        self.codec = codec
        self._limits = limits
        self._key_bytes = key_bytes
        has_text = mapping.text_numbers or getattr(codec, "has_text_numbers", False)
        self._unit, self._zone = ("ms" if mapping.time == ("$timestamp",) else mapping.time_unit), mapping.zone
        self._parse_time = parse_time_text if has_text else parse_time
        self._time_at = path_text(mapping.time)
        self._time = reader(mapping.time)
        self._may_be_listed = mapping.symbol is None
        self._found, self._prices = price_reader(replace(mapping, text_numbers=has_text), symbols, limits)
        self._key = None if mapping.key in (None, ("$key",), _OWN_STREAM) else reader(mapping.key or ())
        self._key_at = path_text(mapping.key or ())
        # A key that is the symbol is no name of a stream: one message of each symbol makes up its ticks.
        is_symbol = mapping.key is None and mapping.symbol == ("$key",)
        self._has_own_stream = mapping.key == _OWN_STREAM or is_symbol

    async def prepare(self, records: Iterable[Any]) -> None:
        """Let the codec fetch what it needs to decode `records`, of which control messages are none of its.

        Comes before each `decode`. RegistryError.
        """
        await prepare(self.codec, (record for record in records if not is_control(record)))

    def decode(self, record: Any) -> tuple[str | None, Tick]:
        """Name of the stream, None for that of the partition, and the tick of a record (as aiokafka has them).

        Raises `DecodeError` with a `DecodeReason`; BrokerError where `prepare` did not come first.
        """
        stream = None
        if self._key is None and not self._has_own_stream:
            stream = self._record_key(record.key)
        message = self._message(record.value)
        time = self._time(message, record)
        prices = message if self._found is None else self._found(message, record)
        at = self._parse_time(time, self._time_at, self._unit, self._zone)
        is_listed = self._may_be_listed and isinstance(prices, list)
        tick = Tick(at, self._prices(prices, record), record.timestamp, is_listed)
        if self._key is not None:
            stream = self._named(self._key(message, record))
        return stream, tick

    def stream_by_key(self, record: Any) -> str | None:
        """Name of the stream that a record is for which is no message of the feed; None: that of the partition."""
        return None if self._has_own_stream else self._record_key(record.key)

    def message(self, record: Any) -> object:
        """The plain values of a record, before the mapping. DecodeError."""
        return self._message(record.value)

    def _message(self, value: bytes | None) -> Any:
        if not value:
            refuse(DecodeReason.EMPTY, "no value")
        if len(value) > self._limits.message_bytes:
            refuse(DecodeReason.TOO_LARGE, f"{len(value)} bytes, at most {self._limits.message_bytes}")
        try:
            message = self.codec.decode(value)
        except DecodeError as error:
            if error.reason in _REASONS:
                raise
            refuse(DecodeReason.MALFORMED, _one_line(error))
        except (BrokerError, ConfigError):
            raise
        except Exception as error:  # a codec of the user's: what it cannot read is still no reason to stop
            refuse(DecodeReason.MALFORMED, _one_line(error))
        return message

    def _record_key(self, key: bytes | None) -> str | None:
        if key is None:
            return None
        most = self._key_bytes
        if not key or len(key) > most:
            refuse(DecodeReason.INVALID_KEY, f"a key has 1 to {most} bytes, this one {len(key)}")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            refuse(DecodeReason.INVALID_KEY, "the key is not UTF-8")
        if not name.isprintable():
            refuse(DecodeReason.INVALID_KEY, "the key has characters that cannot be printed")
        return name

    def _named(self, found: Any) -> str:
        """A stream's name that stands in the message: text, or a number as text."""
        if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**63:
            found = str(found)
        if not isinstance(found, str):
            refuse(DecodeReason.WRONG_TYPE, f"{self._key_at}: found {shown(found)}, expected a stream's name")
        if not found.isprintable() or not 0 < len(found.encode()) <= self._key_bytes:
            expected = f"printable text of 1 to {self._key_bytes} bytes"
            refuse(DecodeReason.INVALID_KEY, f"{self._key_at}: found {shown(found)}, expected {expected}")
        return found


_REASONS = frozenset(DecodeReason)


async def prepare(codec: Codec, records: Iterable[Any]) -> None:
    """Let `codec` fetch what it needs to decode `records`. RegistryError."""
    fetch = getattr(codec, "prepare", None)
    if fetch is None:
        return
    try:
        await asyncio.to_thread(fetch, [record.value for record in records if record.value is not None])
    except StreamerError:
        raise
    except Exception as error:  # a codec of the user's
        raise RegistryError(f"codec {type(codec).__name__} cannot prepare: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text[:_DETAIL])
    return f"{type(error).__name__}: {text}"[:_DETAIL]


def registry(settings: "Settings") -> Registry | None:
    """The schema registry that the settings name. ConfigError."""
    found = settings.registry
    if found.url is None:
        return None
    if found.username is not None and found.password is None:
        raise ConfigError(
            "registry.password: missing, registry.username needs it: set STREAMER_REGISTRY__PASSWORD or"
            " registry.password_file"
        )
    return Registry(found.url, found.username, found.password, found.ca_file, found.timeout)


def decoder(settings: "Settings") -> Decoder:
    """The decoder that the settings describe. ConfigError where its codec is unknown, or refuses its options."""
    read = settings.input
    with settings.origins.located():
        codec = codecs.load("input", read.codec, read.options, registry(settings))
    limits = settings.limits
    return Decoder(codec, read.mapping, limits.for_decoding(), settings.feed.symbols, limits.key_bytes)


def encoder(settings: "Settings") -> Codec:
    """The codec of the forecasts. ConfigError as `decoder`."""
    with settings.origins.located():
        return codecs.load("output", settings.output.codec, settings.output.options, registry(settings))
