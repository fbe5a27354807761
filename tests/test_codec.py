"""What a message has to be, and the reason given for each way in which it is not."""

import json
import math

import pytest

from streamer.codec import END_OF_TIME, DecodeLimits, DecodeReason, parse_time
from streamer.errors import DecodeError
from tests.messages import decode

LIMITS = DecodeLimits(message_bytes=2000, symbols=3, symbol_length=8)
NEW_YEAR = 1704067200000  # 2024-01-01T00:00:00Z


def message(prices: object, ts: object = NEW_YEAR, **others: object) -> bytes:
    return json.dumps({"ts": ts, "prices": prices, **others}).encode()


def refusal(value: bytes | None, symbols: tuple[str, ...] = ()) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode(value, LIMITS, symbols)
    assert caught.value.reason in set(DecodeReason)
    assert len(caught.value.detail) <= 200
    assert caught.value.detail.isprintable()
    return caught.value


def test_prices_by_symbol_are_read_as_floats_with_the_time_and_the_records_timestamp() -> None:
    tick = decode(message({"AAPL": 190.1, "MSFT": 400}), LIMITS, record_time=NEW_YEAR + 5)
    assert tick.time == NEW_YEAR
    assert tick.record_time == NEW_YEAR + 5
    assert tick.prices == {"AAPL": 190.1, "MSFT": 400.0}
    assert all(type(price) is float for price in tick.prices.values())


def test_a_list_is_read_in_the_order_of_the_configured_symbols() -> None:
    tick = decode(message([1, None, 2.5]), LIMITS, ("C", "A", "B"))
    assert (tick.price("C"), tick.price("B")) == (1.0, 2.5)
    assert math.isnan(tick.price("A"))


def test_prices_by_symbol_are_read_too_where_symbols_are_configured() -> None:
    assert decode(message({"X": 1.5}), LIMITS, ("A", "B")).prices == {"X": 1.5}


def test_further_fields_are_ignored_even_with_a_key_twice_inside() -> None:
    assert decode(b'{"ts": 0, "prices": {}, "venue": {"a": 1, "a": 2}}', LIMITS).prices == {}


@pytest.mark.parametrize("blank", ["null", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
@pytest.mark.parametrize("form", ['{"A": %s, "B": 2.0}', "[%s, 2.0]"])
def test_a_blank_price_is_nan_so_that_its_symbol_is_still_known(blank: str, form: str) -> None:
    tick = decode(f'{{"ts": 0, "prices": {form % blank}}}'.encode(), LIMITS, ("A", "B"))
    assert list(tick.prices) == ["A", "B"]
    assert math.isnan(tick.prices["A"])
    assert tick.prices["B"] == 2.0


@pytest.mark.parametrize(
    ("sent", "time"),
    [
        (0, 0),
        (NEW_YEAR, NEW_YEAR),
        (float(NEW_YEAR), NEW_YEAR),
        (END_OF_TIME - 1, END_OF_TIME - 1),
        ("2024-01-01T00:00:00Z", NEW_YEAR),
        ("2024-01-01 00:00Z", NEW_YEAR),
        ("2024-01-01T00:00:00+00", NEW_YEAR),
        ("2024-01-01T05:30:00+05:30", NEW_YEAR),
        ("2023-12-31T19:00:00-0500", NEW_YEAR),
        ("2024-01-01T00:00:00.123Z", NEW_YEAR + 123),
        ("2024-01-01T00:00:00,5Z", NEW_YEAR + 500),
        ("2024-01-01T00:00:00.1239999999Z", NEW_YEAR + 123),
        ("2023-12-31T23:59:59.999999Z", NEW_YEAR - 1),
        ("2199-12-31T23:59:59.999Z", END_OF_TIME - 1),
    ],
)
def test_times_are_whole_milliseconds_or_iso_text_with_a_zone(sent: object, time: int) -> None:
    assert parse_time(sent) == time


@pytest.mark.parametrize(
    "sent",
    [
        -1,
        END_OF_TIME,
        NEW_YEAR * 1000,  # microseconds
        pytest.param(10**5000, id="huge"),
        0.5,
        math.nan,
        math.inf,
        "",
        "now",
        "1704067200000",
        "2024-01-01",
        "2024-01-01T00:00:00",  # no zone
        "2024-01-01T24:00:00Z",
        "2016-12-31T23:59:60Z",  # a leap second, though a real one
        "2024-02-30T00:00:00Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00Z ",
        "2024-01-01T00:00:00Z\n",
        "٢٠٢٤-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59.9999Z",
        "2200-01-01T00:00:00Z",
    ],
)
def test_other_times_are_invalid(sent: object) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_time(sent)
    assert caught.value.reason == "invalid_time"


@pytest.mark.parametrize("sent", [None, True, False, [], {}])
def test_a_time_of_another_type_is_wrong_typed(sent: object) -> None:
    assert refusal(message({}, ts=sent)).reason == "wrong_type"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" " * 2001, "too_large"),
        (b" ", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b"{'ts': 0}", "malformed"),
        (b'{"ts": 0, "prices": {}} x', "malformed"),
        (b"[" * 2000, "malformed"),
        (b'{"ts": 0, "prices": {"A": 1, "A": 1}}', "malformed"),
        (b'{"ts": 0, "ts": 1, "prices": {}}', "malformed"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b"{}", "missing_field"),
        (b'{"ts": 0}', "missing_field"),
        (b'{"prices": {}}', "missing_field"),
        (b'{"ts": 0, "prices": null}', "wrong_type"),
        (b'{"ts": 0, "prices": 3}', "wrong_type"),
        (b'{"ts": 0, "prices": [1]}', "wrong_type"),  # no symbols are configured
        (message({"A": "1"}), "wrong_type"),
        (message({"A": True}), "wrong_type"),
        (message({"A": [1]}), "wrong_type"),
        (message({"A": {}}), "wrong_type"),
        (message({"A": 1, "B": 1, "C": 1, "D": 1}), "too_many_symbols"),
        (message({"A" * 9: 1}), "symbol_too_long"),
        (message({"": 1}), "invalid_symbol"),
        (message({"A\n": 1}), "invalid_symbol"),
        (message({"A\x00": 1}), "invalid_symbol"),
        (message({"\ud800": 1}), "invalid_symbol"),
    ],
)
def test_a_message_that_is_no_tick_is_refused_with_its_reason(value: bytes | None, reason: str) -> None:
    assert refusal(value).reason == reason


def test_an_integer_of_thousands_of_digits_is_malformed() -> None:
    limits = DecodeLimits(message_bytes=10_000, symbols=1, symbol_length=8)
    with pytest.raises(DecodeError) as caught:
        decode(b'{"ts": 0, "prices": {"A": ' + b"9" * 5000 + b"}}", limits)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("prices", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_list_of_another_length_than_the_symbols_is_refused(prices: list[float]) -> None:
    assert refusal(message(prices), ("A", "B")).reason == "length_mismatch"


def test_the_bounds_themselves_are_allowed() -> None:
    value = message({"A" * 8: 1.0, "B": 1.0, "C": 1.0})
    value += b" " * (2000 - len(value))
    assert len(decode(value, LIMITS).prices) == 3


def test_the_detail_names_the_field_and_what_was_found() -> None:
    assert refusal(message({"AAPL": "high"})).detail == "prices['AAPL']: found 'high', expected a number"


def test_the_detail_is_short_however_long_the_value() -> None:
    error = refusal(message({}, ts="9\n" * 300))
    assert "\\n" in error.detail
    assert "..." in error.detail
