"""Records as lines."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from streamer import rendering
from streamer.codec import DecodeLimits
from streamer.codecs.csv_line import CsvCodec
from streamer.codecs.json_text import JsonCodec
from streamer.decoding import Decoder
from streamer.mapping import RecordMapping

FORMATS = rendering.Formats(Decoder(JsonCodec(), RecordMapping(), DecodeLimits(2**20, 100, 64)), JsonCodec())


@dataclass
class Record:
    """What lines are made of; aiokafka's own class differs in nothing that matters here."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    topic: str = "t"
    partition: int = 1
    offset: int = 7
    timestamp: int = 0


def as_text(topic: str, record: Any, width: int | None) -> str:
    return rendering.as_text(topic, record, width, FORMATS)


def as_json(topic: str, record: Any) -> str:
    return rendering.as_json(topic, record, FORMATS)


def forecast(*symbols: str) -> Record:
    message: dict[str, Any] = {
        "id": "prices-0-7",
        "stream": "prices-0",
        "as_of": "2018-01-01T00:00:00Z",
        "target": "2018-01-01T00:01:00Z",
        "model": "persistence",
    }
    for name, level in {"yhat": 100.5, "yhat_lower": 99.0, "yhat_upper": 102.0, "last": 100.0}.items():
        message[name] = dict.fromkeys(symbols, level)
    return Record(json.dumps(message).encode())


def test_a_forecast_shows_when_who_and_what() -> None:
    assert as_text("forecasts", forecast("A", "B"), None) == (
        "2018-01-01T00:00:00Z -> 2018-01-01T00:01:00Z  prices-0  persistence "
        "  A        100 ->      100.5 [        99,        102]"
        "  B        100 ->      100.5 [        99,        102]"
    )


def test_as_many_symbols_are_shown_as_the_terminal_is_wide() -> None:
    """And never more: a line that wraps is no line. Widths from one symbol's on to that of all twelve."""
    symbols = [f"S{number}" for number in range(12)]
    whole = as_text("forecasts", forecast(*symbols), None)
    ends = [whole.index(f"  {symbol} ") for symbol in symbols[1:]]
    for width in range(ends[0] + 5, len(whole)):
        line = as_text("forecasts", forecast(*symbols), width)
        shown = max(number for number, end in enumerate(ends, 1) if end + len(f"  +{12 - number}") <= width)
        assert line == f"{whole[: ends[shown - 1]]}  +{12 - shown}"
    assert as_text("forecasts", forecast(*symbols), len(whole)) == whole


def test_a_narrow_terminal_still_shows_one_symbol() -> None:
    assert "  A " in as_text("forecasts", forecast("A", "B"), 20)


def test_a_tick_shows_its_place_and_a_blank_as_a_dash() -> None:
    record = Record(b'{"ts": "2018-01-01T00:00:00Z", "prices": {"A": 1.25, "B": null}}')
    assert as_text("prices", record, None) == "t-1-7  2018-01-01T00:00:00Z  t-1  A       1.25  B          -"


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[]", b"{}", b'"x"', b"[" * 100_000, b'{"yhat": 3}'])
def test_a_value_that_is_no_forecast_is_said_to_be_something_else(value: bytes | None) -> None:
    assert as_text("forecasts", Record(value), None).startswith("t-1-7  not understood: ")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "t-1-7  empty: no value  no value"),
        (b"[]", "t-1-7  wrong_type: message: found a list of 0, expected an object  []"),
        (b'{"ts": 0}', 't-1-7  missing_field: prices: not there; found ts  {"ts": 0}'),
    ],
)
def test_a_value_that_is_no_tick_is_shown_with_the_reason(value: bytes | None, line: str) -> None:
    assert as_text("prices", Record(value), None) == line


def test_ticks_are_shown_as_their_feed_is_read() -> None:
    codec = CsvCodec({"columns": ["at", "desk", "A"], "delimiter": ";"})
    mapping = RecordMapping(time=("at",), prices=(), key=("desk",), time_unit="s")
    formats = rendering.Formats(Decoder(codec, mapping, DecodeLimits(100, 9, 9)), JsonCodec())
    record: Any = Record(b"60;eu;1.25")
    assert rendering.as_text("prices", record, None, formats) == "t-1-7  1970-01-01T00:01:00Z  eu  A       1.25"
    assert json.loads(rendering.as_json("prices", record, formats)) == {"at": "60", "desk": "eu", "A": "1.25"}


def test_forecasts_in_another_codec_are_shown_as_those_in_json() -> None:
    csv = CsvCodec({})
    message = json.loads(forecast("A", "B").value or b"")
    record: Any = Record(csv.encode(message))
    formats = rendering.Formats(FORMATS.feed, csv)
    assert rendering.as_text("forecasts", record, None, formats) == as_text("forecasts", forecast("A", "B"), None)
    shown = json.loads(rendering.as_json("forecasts", record, formats))
    assert shown == {name: value for name, value in message.items() if name != "id"}


@pytest.mark.parametrize("topic", ["forecasts", "prices", "dead-letters"])
def test_nothing_in_a_record_can_steer_the_terminal(topic: str) -> None:
    hostile = "\x1b[2J\n"
    values = [
        forecast(hostile).value,
        json.dumps({"ts": hostile, "prices": {hostile: 1}}).encode(),
        hostile.encode(),
    ]
    for value in values:
        assert as_text(
            topic, Record(value, headers=(("__streams.errors.exception", hostile.encode()),)), None
        ).isprintable()


def test_json_is_the_value_as_it_was_sent() -> None:
    value = b'{"yhat":{"A":1.10},  "x":1}'
    assert as_json("forecasts", Record(value)) == value.decode()


@pytest.mark.parametrize("value", [b'{"a":\n1}', b"\xff\n", b"no json", None])
@pytest.mark.parametrize("topic", ["prices", "dead-letters"])
def test_json_is_one_line_whatever_was_sent(topic: str, value: bytes | None) -> None:
    line = as_json(topic, Record(value))
    json.loads(line)
    assert len(line.splitlines()) == 1


def test_a_dead_letter_shows_its_reason_and_where_it_came_from() -> None:
    headers = {"exception": b"malformed", "message": b"line 1", "topic": b"prices", "partition": b"0", "offset": b"4"}
    record = Record(
        b"{oops", b"eu", (("other", b"1"), *((f"__streams.errors.{name}", value) for name, value in headers.items()))
    )
    assert as_text("dead-letters", record, None) == "prices-0-4  malformed: line 1  {oops"
    assert json.loads(as_json("dead-letters", record)) == {
        "reason": "malformed",
        "detail": "line 1",
        "dead_letter": "t-1-7",
        "topic": "prices",
        "partition": 0,
        "offset": 4,
        "key": "eu",
        "bytes": 5,
        "value": "{oops",
    }


def test_a_control_message_among_the_prices_shows_what_it_asks_for() -> None:
    record = Record(b'{"symbol": "A", "ratio": 0.25}', headers=(("streamer-control", b"adjust"),))
    assert as_text("prices", record, None) == 't-1-7  control: adjust {"symbol": "A", "ratio": 0.25}'
