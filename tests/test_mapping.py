"""Where in a record what stands: every form of a feed gives the same tick, and what does not fit is named."""

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streamer import decoding
from streamer.codec import END_OF_TIME, DecodeLimits, DecodeReason
from streamer.codecs.csv_line import CsvCodec
from streamer.config import SettingsError, load
from streamer.control import ADJUST, HEADER
from streamer.decoding import Decoder
from streamer.errors import DecodeError
from streamer.mapping import RecordMapping
from streamer.settings import yaml_text
from tests.messages import Record, decoded
from tests.support import CHECKOUT, shared_data

TIME = 1_767_623_460_000  # 2026-01-05T14:31:00Z
TEXT = "2026-01-05T14:31:00Z"


def record(message: Any, **parts: Any) -> Record:
    return Record(json.dumps(message).encode(), **parts)


def refusal(message: Any, mapping: RecordMapping, symbols: tuple[str, ...] = (), **parts: Any) -> DecodeError:
    found = message if isinstance(message, Record) else record(message, **parts)
    with pytest.raises(DecodeError) as caught:
        decoded(found, mapping, symbols)
    assert caught.value.reason in set(DecodeReason)
    assert len(caught.value.detail) <= 250
    assert caught.value.detail.isprintable()
    return caught.value


def said(*arguments: Any, **parts: Any) -> str:
    error = refusal(*arguments, **parts)
    return f"{error.reason}: {error.detail}"


LIST = RecordMapping(symbol=("s",), price=("p",))
FLAT = RecordMapping(prices=())
SINGLE = RecordMapping(prices=None, symbol=("s",), price=("p",))


class TestForms:
    @pytest.mark.parametrize(
        ("message", "mapping", "symbols"),
        [
            ({"ts": TIME, "prices": {"A": 1.5, "B": 2}}, RecordMapping(), ()),
            ({"ts": TIME, "prices": [1.5, 2]}, RecordMapping(), ("A", "B")),
            ({"ts": TIME, "prices": [{"s": "A", "p": 1.5}, {"s": "B", "p": 2, "x": 0}]}, LIST, ()),
            ({"ts": TIME, "prices": {"A": {"p": 1.5}, "B": {"p": 2}}}, RecordMapping(price=("p",)), ()),
            ({"ts": TIME, "prices": [{"p": 1.5}, {"p": 2}]}, RecordMapping(price=("p",)), ("A", "B")),
            (
                {"ts": TIME, "prices": {"A": {"bid": {"px": 1.5}}, "B": {"bid": {"px": 2}}}},
                RecordMapping(price=("bid", "px")),
                (),
            ),
            ({"ts": TIME, "A": 1.5, "B": 2}, FLAT, ()),
            ({"ts": TIME, "A": 1.5, "B": 2, "volume": "many"}, FLAT, ("A", "B", "C")),
            (
                {"meta": {"at": TIME}, "data": {"close": {"A": 1.5, "B": 2}}},
                RecordMapping(time=("meta", "at"), prices=("data", "close")),
                (),
            ),
            ([TIME, [{"A": 1.5, "B": 2}]], RecordMapping(time=("0",), prices=("1", "0")), ()),
            ({"t.s": TIME, "x.y": {"A": 1.5, "B": 2}}, RecordMapping(time=("t.s",), prices=("x.y",)), ()),
        ],
    )
    def test_each_form_gives_the_same_tick(
        self, message: Any, mapping: RecordMapping, symbols: tuple[str, ...]
    ) -> None:
        stream, tick = decoded(record(message, timestamp=TIME + 5), mapping, symbols)
        assert (stream, tick.time, tick.record_time) == (None, TIME, TIME + 5)
        assert tick.prices == {"A": 1.5, "B": 2.0}
        assert all(type(price) is float for price in tick.prices.values())

    def test_a_message_of_one_symbol_gives_its_price(self) -> None:
        assert decoded(record({"ts": TIME, "s": "A", "p": 1.5}), SINGLE)[1].prices == {"A": 1.5}

    def test_a_list_of_objects_may_be_the_whole_message(self) -> None:
        mapping = RecordMapping(time=("$timestamp",), prices=(), symbol=("s",), price=("p",))
        assert decoded(record([{"s": "A", "p": 1.5}], timestamp=TIME), mapping)[1].prices == {"A": 1.5}

    def test_a_csv_line_gives_the_same_tick(self) -> None:
        codec = CsvCodec({"columns": ["ts", "A", "B"]})
        stream, tick = decoded(Record(f"{TEXT},1.5,2\r\n".encode()), FLAT, codec=codec)
        assert (stream, tick.time, tick.prices) == (None, TIME, {"A": 1.5, "B": 2.0})

    @pytest.mark.parametrize(
        ("message", "mapping"),
        [
            ({"ts": 0, "prices": [{"s": "A", "p": None}]}, LIST),
            ({"ts": 0, "prices": {"A": None}}, RecordMapping(price=("p",))),
            ({"ts": 0, "prices": {"A": {"p": None}}}, RecordMapping(price=("p",))),
            ({"ts": 0, "A": None}, FLAT),
            ({"ts": 0, "s": "A", "p": None}, SINGLE),
            ({"ts": 0, "prices": {"A": " "}}, RecordMapping(text_numbers=True)),
            ({"ts": 0, "prices": {"A": "NaN"}}, RecordMapping(text_numbers=True)),
            ({"ts": 0, "prices": {"A": 1e400}}, RecordMapping(text_numbers=True)),
            ({"ts": 0, "prices": {"A": "1e400"}}, RecordMapping(text_numbers=True)),
        ],
    )
    def test_a_blank_is_nan_so_that_its_symbol_is_still_known(self, message: Any, mapping: RecordMapping) -> None:
        prices = decoded(record(message), mapping)[1].prices
        assert list(prices) == ["A"]
        assert math.isnan(prices["A"])

    def test_of_a_flat_record_time_and_key_are_no_symbols(self) -> None:
        mapping = RecordMapping(time=("at", "ms"), prices=(), key=("feed",))
        stream, tick = decoded(record({"at": {"ms": TIME}, "feed": "eu", "A": 1}), mapping)
        assert (stream, tick.prices) == ("eu", {"A": 1.0})

    @pytest.mark.parametrize(("text", "price"), [("190.10", 190.1), ("-3", -3.0), (" 1e3 ", 1000.0), (".5", 0.5)])
    def test_decimal_text_is_read_where_numbers_are_text(self, text: str, price: float) -> None:
        message = {"ts": TIME, "prices": {"A": text, "B": 2}}
        assert decoded(record(message), RecordMapping(text_numbers=True))[1].prices == {"A": price, "B": 2.0}


def test_the_readmes_bars_are_read_by_its_lines() -> None:
    text = (CHECKOUT / "README.md").read_text()
    bars, parts = re.findall(r"```yaml\n(input:.*?)```", text, re.DOTALL)
    for lines, message in ((bars, r'`(\{"T".*?\})`'), (parts, r'`(\{"sym".*?\})`')):
        [sent] = re.findall(message, text, re.DOTALL)
        settings = load(None, {}, {"kafka.bootstrap_servers": "a:1", **yaml_text.read(lines).data})
        stream, tick = decoded(Record(sent.encode()), settings.input.mapping)
        assert (stream, tick.time, tick.prices) == (None, TIME, {"AAPL": 190.1})


def test_messages_of_one_symbol_each_say_which_stream_they_make_up() -> None:
    parts = {"time": "t", "prices": None, "symbol": "s", "price": "p"}
    for given, problem in (
        ({"fields": parts}, "input.assemble: found vector, expected last, as messages have one symbol each"),
        ({"fields": parts, "assemble": "last"}, r"input.fields.key: found null, expected \$partition"),
    ):
        with pytest.raises(SettingsError, match=problem):
            load(None, {}, {"kafka.bootstrap_servers": "a:1", "input": given})
    for key, assemble in (("s", "vector"), ("$key", "last"), ("$partition", "last")):
        load(
            None,
            {},
            {"kafka.bootstrap_servers": "a:1", "input": {"fields": parts | {"key": key}, "assemble": assemble}},
        )


def test_columns_that_no_line_has_are_named() -> None:
    given = {"codec": "csv", "options": {"columns": ["time", "A"]}, "fields": {"prices": "."}}
    with pytest.raises(SettingsError, match=r"input.fields.time: found 'ts', expected one of options.columns: time, A"):
        load(None, {}, {"kafka.bootstrap_servers": "a:1", "input": given})


def test_the_raw_ticks_of_an_exchange_are_read_as_they_are_by_a_few_lines() -> None:
    header, *lines = shared_data("nasty/nse_mcx_futures_ticks_2025-11-17_raw.csv").read_text().splitlines()
    settings = load(
        None,
        {},
        {
            "kafka.bootstrap_servers": "a:1",
            "input.codec": "csv",
            "input.options": {"columns": header.split(",")},
            "input.fields": {
                "time": "exchange_timestamp",
                "prices": None,
                "symbol": "Symbol",
                "price": "last_price",
                "key": "$partition",
            },
            "input.assemble": "last",
            "input.timezone": "Asia/Kolkata",
        },
    )
    decoder = decoding.decoder(settings)
    cut = lines.pop(182)  # "5", what is left of one
    with pytest.raises(DecodeError, match="length_mismatch: 1 cells for 29 columns"):
        decoder.decode(Record(cut.encode()))
    for line in lines:
        stream, tick = decoder.decode(Record(line.encode()))
        symbol, local, price, *_ = line.split(",")
        moment = datetime.fromisoformat(f"{local}+05:30")
        assert (stream, tick.time) == (None, (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))
        assert tick.prices == {symbol: float(price)}


class TestParts:
    def test_time_key_and_symbol_may_stand_beside_the_value(self) -> None:
        mapping = RecordMapping(time=("$header", "at"), prices=None, symbol=("$key",), price=("p",), key=("desk",))
        sent = record({"p": 1.5, "desk": 7}, key=b"A", headers=(("at", b"then"), ("at", TEXT.encode())))
        stream, tick = decoded(sent, mapping)
        assert (stream, tick.time, tick.prices) == ("7", TIME, {"A": 1.5})

    def test_the_records_timestamp_is_in_ms_whatever_the_unit(self) -> None:
        mapping = RecordMapping(time=("$timestamp",), prices=(), time_unit="s")
        assert decoded(record({"A": 1}, timestamp=TIME), mapping)[1].time == TIME

    @pytest.mark.parametrize(
        ("mapping", "stream"),
        [
            (RecordMapping(), "A"),
            (RecordMapping(key=("$key",)), "A"),
            (RecordMapping(key=("$partition",)), None),
            (RecordMapping(key=("$header", "desk")), "north"),
            (RecordMapping(prices=None, symbol=("$key",), price=("prices", "A")), None),
        ],
    )
    def test_the_stream_is_named_by_the_key_unless_that_names_the_symbol(
        self, mapping: RecordMapping, stream: str | None
    ) -> None:
        sent = record({"ts": TIME, "prices": {"A": 1}}, key=b"A", headers=(("desk", b"north"),))
        assert decoded(sent, mapping)[0] == stream

    @pytest.mark.parametrize(
        ("found", "problem"),
        [
            (None, "wrong_type: desk: found null, expected a stream's name"),
            (True, "wrong_type: desk: found true, expected a stream's name"),
            (10**300, "wrong_type: desk: found a huge integer, expected a stream's name"),
            ("", "invalid_key: desk: found '', expected printable text of 1 to 256 bytes"),
            ("\ud800", r"invalid_key: desk: found '\ud800', expected printable text of 1 to 256 bytes"),
            (
                "é" * 129,
                f"invalid_key: desk: found {repr('é' * 129)[:57]}..., expected printable text of 1 to 256 bytes",
            ),
        ],
    )
    def test_a_name_of_no_use_is_refused(self, found: Any, problem: str) -> None:
        assert said({"ts": 0, "prices": {}, "desk": found}, RecordMapping(key=("desk",))) == problem

    @pytest.mark.parametrize(
        ("mapping", "parts", "problem"),
        [
            (RecordMapping(time=("$header", "at")), {}, "missing_field: $header.at: not there; found nothing"),
            (
                RecordMapping(time=("$header", "at")),
                {"headers": (("a\n", b""), ("b", b""))},
                r"missing_field: $header.at: not there; found a\n, b",
            ),
            (
                RecordMapping(time=("$header", "at")),
                {"headers": (("at", b"\xff"),)},
                r"wrong_type: $header.at: found b'\xff', expected text in UTF-8",
            ),
            (RecordMapping(time=("$key",), key=("$partition",)), {}, "missing_field: $key: not there"),
            (
                RecordMapping(time=("$key",), key=("$partition",)),
                {"key": b"noon"},
                "invalid_time: $key: found 'noon', expected ISO-8601 with a zone",
            ),
        ],
    )
    def test_what_is_not_beside_the_value_is_named(
        self, mapping: RecordMapping, parts: dict[str, Any], problem: str
    ) -> None:
        assert said({"prices": {}}, mapping, **parts) == problem


class TestTimes:
    @pytest.mark.parametrize(
        ("unit", "sent", "time"),
        [
            ("s", 1_767_623_460, TIME),
            ("s", 1_767_623_460.0, TIME),
            ("s", 1_767_623_460.29, TIME + 290),  # as a float it is a little less
            ("s", 1_767_623_460.0009, TIME),
            ("ms", TIME, TIME),
            ("us", TIME * 1000 + 999, TIME),
            ("ns", TIME * 1_000_000 + 999_999, TIME),
            ("ns", TEXT, TIME),
        ],
    )
    def test_a_number_counts_what_is_declared(self, unit: str, sent: object, time: int) -> None:
        mapping = RecordMapping(time_unit=unit)
        assert decoded(record({"ts": sent, "prices": {}}), mapping)[1].time == time
        texts = RecordMapping(time_unit=unit, text_numbers=True)
        assert decoded(record({"ts": str(sent), "prices": {}}), texts)[1].time == time

    @pytest.mark.parametrize(
        ("unit", "sent"),
        [
            ("s", -0.001),
            ("s", math.nan),
            ("s", math.inf),
            ("s", TIME),  # milliseconds, of which it would make the year 57983
            ("ms", 0.5),
            ("us", 0.5),
            ("us", END_OF_TIME * 1000),
            ("ns", END_OF_TIME * 1_000_000),
            ("ns", 1e300),
        ],
    )
    def test_what_is_not_counted_so_is_invalid(self, unit: str, sent: float) -> None:
        assert refusal({"ts": sent, "prices": {}}, RecordMapping(time_unit=unit)).reason == "invalid_time"

    @pytest.mark.parametrize(
        ("zone", "text", "utc"),
        [
            ("America/New_York", "2026-01-05 09:31:00", TEXT),
            ("America/New_York", "2026-07-06T09:31", "2026-07-06T13:31:00Z"),
            ("America/New_York", TEXT, TEXT),  # its own zone counts
            ("America/New_York", "2026-01-05T15:31:00+01:00", TEXT),
            ("Europe/Berlin", "2026-03-29T01:59:59.999", "2026-03-29T00:59:59.999Z"),
            ("Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:59:00", "2026-10-24T23:59:00Z"),
            ("Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T02:00:00Z"),
            ("Asia/Kolkata", "2026-01-05T20:01:00", TEXT),
        ],
    )
    def test_a_time_without_zone_is_that_of_the_zones_clocks(self, zone: str, text: str, utc: str) -> None:
        found = decoded(record({"ts": text, "prices": {}}), RecordMapping(zone=ZoneInfo(zone)))[1].time
        assert found == decoded(record({"ts": utc, "prices": {}}), RecordMapping())[1].time

    @pytest.mark.parametrize(
        ("text", "how"),
        [
            ("2026-03-29T02:00:00", "never"),
            ("2026-03-29T02:59:59.999", "never"),
            ("2026-10-25T02:00:00", "twice"),
            ("2026-10-25T02:59:59", "twice"),
        ],
    )
    def test_an_hour_that_comes_twice_or_never_is_invalid(self, text: str, how: str) -> None:
        error = refusal({"ts": text, "prices": {}}, RecordMapping(zone=ZoneInfo("Europe/Berlin")))
        assert error.reason == "invalid_time"
        assert f"comes {how} in Europe/Berlin, when its clocks change: expected an offset" in error.detail

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
    def test_the_ends_of_the_calendar_are_invalid_in_any_zone(self, text: str) -> None:
        for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
            assert refusal({"ts": text, "prices": {}}, RecordMapping(zone=ZoneInfo(zone))).reason == "invalid_time"


class TestProblems:
    @pytest.mark.parametrize(
        ("message", "mapping", "symbols", "problem"),
        [
            (
                {"ts": 0, "data": {"close": "x"}},
                RecordMapping(prices=("data",)),
                (),
                "wrong_type: data['close']: found 'x', expected a number",
            ),
            (
                {"ts": 0, "data": {"time": 1, "open": 2}},
                RecordMapping(prices=("data", "close")),
                (),
                "missing_field: data.close: not there; found in data time, open",
            ),
            ({}, RecordMapping(), (), "missing_field: ts: not there; found nothing"),
            (
                {"ts": 0, **dict.fromkeys("abcdefg", 1)},
                RecordMapping(),
                (),
                "missing_field: prices: not there; found ts, a, b, c, d and 3 more",
            ),
            (
                {"ts": 0, "data": 3},
                RecordMapping(prices=("data", "close")),
                (),
                "wrong_type: data: found 3, expected an object",
            ),
            (
                {"ts": 0, "data": [1]},
                RecordMapping(prices=("data", "1")),
                (),
                "missing_field: data.1: not there; found in data a list of 1",
            ),
            (
                {"ts": 0, "data": [1]},
                RecordMapping(prices=("data", "close")),
                (),
                "wrong_type: data: found a list of 1, expected an object",
            ),
            ("x", FLAT, (), "wrong_type: message: found 'x', expected an object"),
            (
                {"ts": 0, "A": 1, "venue": "XNYS"},
                FLAT,
                (),
                "wrong_type: message['venue']: found 'XNYS', expected a number (feed.symbols names the fields that are"
                " prices)",
            ),
            ({"ts": 0, "B": 1}, FLAT, ("A",), "missing_field: A: not there; found ts, B"),
            (
                {"ts": 0, "prices": {"A": "190.10"}},
                RecordMapping(),
                (),
                "wrong_type: prices['A']: found '190.10', expected a number (input.numbers: text reads it)",
            ),
            (
                {"ts": 0, "prices": {"A": "1,5"}},
                RecordMapping(text_numbers=True),
                (),
                "wrong_type: prices['A']: found '1,5', expected a number",
            ),
            (
                {"ts": 0, "prices": {"A": {"bid": True}}},
                RecordMapping(price=("bid",)),
                (),
                "wrong_type: prices['A'].bid: found true, expected a number",
            ),
            (
                {"ts": 0, "prices": {"A": {"ask": 1}}},
                RecordMapping(price=("bid",)),
                (),
                "missing_field: prices['A'].bid: not there; found in prices['A'] ask",
            ),
            (
                {"ts": 0, "prices": {"A": 1}},
                RecordMapping(price=("bid",)),
                (),
                "wrong_type: prices['A']: found 1, expected an object",
            ),
            ({"ts": 0, "prices": {}}, LIST, (), "wrong_type: prices: found an object, expected a list of objects"),
            (
                {"ts": 0, "prices": [{"s": "A", "p": 1}, {"s": "B"}]},
                LIST,
                (),
                "missing_field: prices[1].p: not there; found in prices[1] s",
            ),
            (
                {"ts": 0, "prices": [{"s": "A", "p": 1}, {"s": "A", "p": 2}]},
                LIST,
                (),
                "malformed: prices[1]: the symbol 'A' stands twice",
            ),
            (
                {"ts": 0, "prices": [{"s": 1, "p": 1}]},
                LIST,
                (),
                "wrong_type: prices[0].s: found 1, expected a symbol as text",
            ),
            (
                {"ts": 0, "prices": [{"s": "", "p": 1}]},
                LIST,
                (),
                "invalid_symbol: prices[0].s: '' is empty or not printable",
            ),
            (
                {"ts": 0, "prices": [{"s": "A", "p": 1}] * 6},
                LIST,
                (),
                "too_many_symbols: prices: 6 symbols, at most 5",
            ),
            (
                {"ts": 0, "s": "A" * 11, "p": 1},
                SINGLE,
                (),
                "symbol_too_long: s: 'AAAAAAAAAAA', at most 10 characters",
            ),
            ({"ts": 0, "s": "A", "p": []}, SINGLE, (), "wrong_type: p: found a list of 0, expected a number"),
            ({"ts": 0, "s": "A"}, SINGLE, (), "missing_field: p: not there; found ts, s"),
        ],
    )
    def test_the_path_and_what_was_found_there_are_named(
        self, message: Any, mapping: RecordMapping, symbols: tuple[str, ...], problem: str
    ) -> None:
        assert said(message, mapping, symbols) == problem

    @pytest.mark.parametrize(
        "mapping",
        [RecordMapping(time=("$timestamp",), prices=("d", "p")), RecordMapping(time=("$timestamp",), prices=())],
    )
    def test_an_object_in_which_a_key_stands_twice_is_refused_where_it_is_read(self, mapping: RecordMapping) -> None:
        sent = Record(b'{"d": {"p": {"A": 1}, "p": {"A": 2}}}') if mapping.prices else Record(b'{"A": 1, "A": 2}')
        assert refusal(sent, mapping).reason == "malformed"


class Foreign:
    """A codec of somebody else's."""

    content_type = "text/plain"

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    def decode(self, value: bytes) -> object:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def encode(self, message: Any) -> bytes:
        return b""


class TestForeignCodecs:
    @pytest.mark.parametrize(
        ("outcome", "problem"),
        [
            (ZeroDivisionError("two\nlines"), "malformed: ZeroDivisionError: two lines"),
            (DecodeError("my_reason", "mine"), "malformed: DecodeError: my_reason: mine"),
            (DecodeError("malformed", "mine"), "malformed: mine"),
            (DecodeError("unknown_schema", "mine"), "unknown_schema: mine"),
            (object, "wrong_type: message: found <class 'object'>, expected an object"),
            ({"ts": 0, "prices": {1: 2}}, "wrong_type: prices: found 1, expected a symbol as text"),
            ({1: 2}, "missing_field: ts: not there; found 1"),
        ],
    )
    def test_what_a_codec_does_wrong_is_a_dead_letter_and_not_the_end(self, outcome: object, problem: str) -> None:
        with pytest.raises(DecodeError) as caught:
            decoded(Record(b"x"), RecordMapping(), codec=Foreign(outcome))
        assert str(caught.value) == problem

    def test_its_message_is_bounded_before_it_sees_it(self) -> None:
        limits = DecodeLimits(message_bytes=2, symbols=1, symbol_length=1)
        for value, reason in ((b"xxx", "too_large"), (b"", "empty"), (None, "empty")):
            with pytest.raises(DecodeError) as caught:
                decoded(Record(value), RecordMapping(), codec=Foreign(AssertionError("it was called")), limits=limits)
            assert caught.value.reason == reason


async def test_control_messages_are_none_of_the_codecs() -> None:
    class Fetching(CsvCodec):
        def prepare(self, values: Iterable[bytes]) -> None:
            fetched.extend(values)

    fetched: list[bytes] = []
    decoder = Decoder(Fetching({"columns": ["ts", "A"]}), RecordMapping(prices=()), DecodeLimits(1000, 5, 10))
    await decoder.prepare([Record(b"1,2"), Record(b"{}", headers=((HEADER, ADJUST),))])
    assert fetched == [b"1,2"]
