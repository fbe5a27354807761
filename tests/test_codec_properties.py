"""Whatever the bytes: a tick that keeps what was sent, or a `DecodeError`. Nothing else."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st

from streamer.codec import END_OF_TIME, DecodeLimits, DecodeReason, parse_time
from streamer.core.tick import Tick
from streamer.errors import DecodeError
from tests.messages import decode

LIMITS = DecodeLimits(message_bytes=4096, symbols=5, symbol_length=10)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)
near_messages = st.fixed_dictionaries(
    {},
    optional={
        "ts": json_values | st.integers(0, END_OF_TIME) | st.datetimes().map(lambda time: f"{time.isoformat()}Z"),
        "prices": json_values
        | st.dictionaries(st.text(max_size=12), json_values, max_size=6)
        | st.lists(st.floats() | st.none(), max_size=3),
        "venue": json_values,
    },
)
symbols = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=10)


def check_outcome(value: bytes | None, configured: tuple[str, ...]) -> None:
    """Any other exception than `DecodeError` escapes, and fails the test."""
    try:
        tick = decode(value, LIMITS, configured)
    except DecodeError as error:
        refusal = error
    else:
        check_tick(tick)
        return
    assert refusal.reason in set(DecodeReason)
    assert len(refusal.detail) <= 200
    assert refusal.detail.isprintable()


def check_tick(tick: Tick) -> None:
    assert 0 <= tick.time < END_OF_TIME
    for symbol, price in tick.prices.items():
        assert 0 < len(symbol) <= LIMITS.symbol_length
        assert type(price) is float
        assert not math.isinf(price)


@given(st.none() | st.binary(max_size=5000), st.sampled_from([(), ("A", "B")]))
@example(b"[" * 4000, ())
@example(b'{"a":' * 800, ())
@example(b"-", ())
def test_arbitrary_bytes_give_a_tick_or_a_decode_error(value: bytes | None, configured: tuple[str, ...]) -> None:
    check_outcome(value, configured)


@given(json_values | near_messages, st.sampled_from([(), ("A", "B")]))
def test_arbitrary_json_gives_a_tick_or_a_decode_error(value: object, configured: tuple[str, ...]) -> None:
    check_outcome(json.dumps(value).encode(), configured)


@given(
    st.integers(0, END_OF_TIME - 1),
    st.dictionaries(symbols, st.none() | st.floats() | st.integers(-(2**53), 2**53), max_size=5),
    st.booleans(),
)
def test_a_message_within_the_limits_keeps_every_price_and_blank(
    time: int, prices: dict[str, float | None], escaped: bool
) -> None:
    value = json.dumps({"prices": prices, "ts": time}, ensure_ascii=escaped).encode()
    tick = decode(value, LIMITS)
    assert tick.time == time
    assert list(tick.prices) == list(prices)
    for symbol, sent in prices.items():
        if sent is None or not math.isfinite(sent):
            assert math.isnan(tick.prices[symbol])
        else:
            assert tick.prices[symbol] == sent


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from(["T", " "]),
)
def test_a_time_is_the_same_instant_in_any_zone(time: datetime, offset: int, separator: str) -> None:
    utc = time.replace(tzinfo=UTC)
    since_epoch = utc - datetime(1970, 1, 1, tzinfo=UTC)
    expected = since_epoch.days * 86_400_000 + since_epoch.seconds * 1000 + since_epoch.microseconds // 1000
    elsewhere = utc.astimezone(timezone(timedelta(minutes=offset)))
    assert parse_time(elsewhere.isoformat(separator)) == expected
