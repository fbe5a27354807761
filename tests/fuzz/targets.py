"""What is fuzzed: each target takes any bytes, and raises if what it tests does anything but what it promises.

They know nothing of the fuzzer: `tests/fuzz/test_corpus.py` runs them on the corpus in every test run.
"""

import math
import os
import tempfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from zoneinfo import ZoneInfo

from streamer.codec import END_OF_TIME, DecodeLimits, DecodeReason, format_time, parse_time
from streamer.codecs.json_text import JsonCodec
from streamer.config import load
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Forecast
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.encoding import forecast_message
from streamer.errors import ConfigError, DecodeError
from streamer.mapping import RecordMapping
from streamer.settings import Settings, keys
from tests.messages import Record, decoded

LIMITS = DecodeLimits(message_bytes=4096, symbols=5, symbol_length=10)
TOKENS = (
    *(
        b'{"ts":1700000040000,"prices":{',
        b'{"ts":"2026-01-05T14:31:00Z","prices":[',
        b"}}",
        b"]}",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(b",", b":", b'"ts":', b'"prices":', b'"A":', b'"B":', b'"', b"\\", b"\\ud83d", b"\\u0000", "é".encode(), b"\xff"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"0", b"1", b"9", b"-", b".", b"e", b"1e308", b"-0.0", b"9" * 400),
    *(b"2026-", b"01-", b"05", b"T", b" ", b"14:", b"31", b":60", b".999", b"Z", b"+00:00", b"+24", b"-00"),
)
"""What JSON of a tick is made of: bytes put together by chance seldom parse, and nobody sees into the C scanner."""

MAPPINGS = (
    RecordMapping(),
    RecordMapping(symbol=("A",), price=("B",), time_unit="s"),
    RecordMapping(prices=(), key=("A",), time_unit="ns", text_numbers=True),
    RecordMapping(prices=None, symbol=("A",), price=("prices", "B"), zone=ZoneInfo("Europe/Berlin")),
    RecordMapping(time=("$timestamp",), prices=("prices", "0", "A"), price=("B",), text_numbers=True),
    RecordMapping(time=("$header", "at"), prices=(), symbol=("A",), price=("B",)),
)
"""Each form of prices, each kind of time."""

_HEADERS = (("at", b"2026-01-05T14:31:00Z"),)
_DETAIL = 250  # characters that a dead letter's detail takes at most
_ERROR = 2000  # characters of one line that an operator still reads


def codec(data: bytes) -> None:
    """A tick within the limits, of which the engine makes an outcome, or DecodeError.

    Of the first byte, 1: `feed.symbols` is set; 2: the bytes behind it are numbers of `TOKENS`; the rest, the mapping.
    """
    flags, value = data[0] if data else 0, data[1:]
    if flags & 2:
        value = b"".join(TOKENS[each % len(TOKENS)] for each in value)
    try:
        mapping = MAPPINGS[(flags >> 2) % len(MAPPINGS)]
        stream, tick = decoded(Record(value, headers=_HEADERS), mapping, ("A", "B") if flags & 1 else (), limits=LIMITS)
    except DecodeError as error:
        _is_a_reason(error)
        return
    assert stream is None or (stream.isprintable() and 0 < len(stream.encode()) <= 256), stream
    _is_within_limits(tick)
    _has_an_outcome(tick)


def _is_a_reason(error: DecodeError) -> None:
    assert error.reason in set(DecodeReason), error.reason
    assert len(error.detail) <= _DETAIL, error.detail
    assert error.detail.isprintable(), error.detail


def _is_within_limits(tick: Tick) -> None:
    assert 0 <= tick.time < END_OF_TIME, tick.time
    assert parse_time(format_time(tick.time)) == tick.time
    assert len(tick.prices) <= LIMITS.symbols
    for symbol, price in tick.prices.items():
        assert 0 < len(symbol) <= LIMITS.symbol_length, symbol
        symbol.encode()  # no lone surrogate
        assert type(price) is float, price
        assert not math.isinf(price), price


def _has_an_outcome(tick: Tick) -> None:
    """Twice, so that there is a change to work out; what is published of it is JSON without NaN."""
    engine = ForecastEngine(EngineSettings(window=4, history=4, first=1, every=0))
    for at in (tick.time, tick.time + 60_000):
        outcome = engine.process(Tick(at, tick.prices)).outcome
        if isinstance(outcome, Forecast) and outcome.target < END_OF_TIME:
            JsonCodec().encode(forecast_message(outcome, "stream", ("prices", 0, 1)))


def config(data: bytes) -> None:
    """Settings that load again from what `effective` prints, or ConfigError on one line.

    Up to the first zero byte it is the file; behind it are variables, NAME=VALUE, a zero byte between two.
    """
    text, *variables = data.split(b"\0")
    pairs = (variable.decode(errors="surrogateescape").partition("=") for variable in variables)
    environ = {f"STREAMER_{name}": value for name, _, value in pairs}
    try:
        settings = _loaded(text, environ)
    except ConfigError as error:
        said = str(error)
        assert said, "an error without a text"
        assert "\n" not in said, said
        assert len(said) <= _ERROR, said
        return
    shown = settings.effective()
    assert _loaded(shown.encode(), _secrets(settings)) == settings, shown


def _secrets(settings: Settings) -> dict[str, str]:
    """The variables that give the secrets, which are not shown; one that a file holds is read again."""
    variables = {}
    for path in keys.secret_paths():
        section = reduce(getattr, path[:-1], settings)
        secret = getattr(section, path[-1])
        if secret is not None and getattr(section, f"{path[-1]}_file") is None:
            variables[f"STREAMER_{'__'.join(path)}"] = secret.get_secret_value()
    return variables


def _loaded(text: bytes, environ: dict[str, str]) -> Settings:
    path = _file()
    path.write_bytes(text)
    return load(path, environ)


def _file() -> Path:
    """One file for all runs of this process, in memory where there is such a place."""
    shm = Path("/dev/shm")
    folder = shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())
    return folder / f"streamer-fuzz-{os.getpid()}.yaml"


TARGETS: dict[str, Callable[[bytes], None]] = {"codec": codec, "config": config}
