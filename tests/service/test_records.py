"""What a dead letter carries."""

from collections.abc import Mapping
from typing import Any, NoReturn

from aiokafka import ConsumerRecord

from streamer.codec import DecodeLimits
from streamer.codecs.json_text import JsonCodec
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Forecast, Rejected
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.dead_letters import DETAIL, OFFSET, REASON, STACKTRACE, TIMESTAMP, DeadLetter
from streamer.service.partition import Batch, Partition, PartitionSettings
from streamer.service.records import SMALLEST_DEAD_LETTER, OutputRecord, dead_letter_record, forecast_record


class Emptying(JsonCodec):
    """A codec of the user's that takes the message apart."""

    def encode(self, message: Mapping[str, Any]) -> bytes:
        assert isinstance(message, dict)
        message.clear()
        return b""


NASTY = Rejected("reason", "é" * 5000, "x" * 20_000)


def source(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = (), topic: str = "prices"
) -> ConsumerRecord:
    return ConsumerRecord(topic, 3, 17, 1234, 0, key, value, None, 0, 0, headers)


def read_back(letter: OutputRecord) -> DeadLetter:
    """As `streamer dlq` reads it."""
    return DeadLetter.of(source(letter.key, letter.value, letter.headers, topic=letter.topic))


def total(letter: OutputRecord) -> int:
    return len(letter.key or b"") + len(letter.value or b"") + sum(len(n) + len(v) for n, v in letter.headers)


def test_the_headers_of_a_message_that_was_a_dead_letter_before_do_not_hide_ours() -> None:
    first = dead_letter_record("letters", source(b"k", b"v", (("own", b"1"),)), Rejected("first", "one"))
    again = dead_letter_record("letters", source(first.key, first.value, first.headers), Rejected("second", "two"))
    letter = read_back(again)
    assert (letter.reason, letter.detail, letter.source) == ("second", "two", "prices-3-17")
    assert again.headers[: len(first.headers)] == first.headers
    assert dict(again.headers)[TIMESTAMP] == b"1234"


def test_a_whole_message_with_the_headers_of_a_dead_letter_that_was_cut_is_whole() -> None:
    cut = dead_letter_record("letters", source(b"k", b"v" * 9000), Rejected("first", "one"), SMALLEST_DEAD_LETTER)
    assert (read_back(cut).is_cut, read_back(cut).length) == (True, 9000)
    again = dead_letter_record("letters", source(b"k", b"short", cut.headers), Rejected("second", "two"))
    letter = read_back(again)
    assert (letter.is_cut, letter.length) == (False, 5)


def test_the_largest_dead_letter_is_one_byte_over_which_it_is_cut() -> None:
    message = source(b"k", b"v" * 5000, (("own", b"1"),))
    whole = dead_letter_record("letters", message, Rejected("r", "d"))
    assert whole.value == message.value
    sizes = [
        dead_letter_record("letters", message, Rejected("r", "d"), largest).value == message.value
        for largest in range(total(whole), total(whole) + 400)
    ]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (False, True)


def test_the_smallest_topic_that_is_allowed_has_room_for_any_dead_letter() -> None:
    headers = tuple((f"{n}" * 100, b"x" * 1000) for n in range(9))
    message = source(b"k" * 100_000, b"v" * 100_000, headers, topic="t" * 249)
    letter = dead_letter_record("letters", message, NASTY, SMALLEST_DEAD_LETTER)
    assert total(letter) < SMALLEST_DEAD_LETTER
    assert letter.key
    assert letter.value
    assert read_back(letter).is_cut
    assert read_back(letter).length == 100_000
    assert STACKTRACE not in dict(letter.headers)


def test_a_message_without_a_value_stays_one() -> None:
    letter = dead_letter_record("letters", source(b"k", None), Rejected("empty", "no value"))
    assert (letter.key, letter.value) == (b"k", None)
    assert read_back(letter).length is None


def test_headers_of_somebody_else_are_read_without_an_error() -> None:
    hostile = ((OFFSET, b"9" * 5000), ("streamer.original.value.length", "٣".encode()), (REASON, b"\xff"))
    letter = DeadLetter.of(source(b"\xff", b"value", hostile))
    assert letter.as_json()["offset"] is None
    assert letter.length == 5
    assert letter.reason == "\\xff"


def test_an_exception_that_nobody_expected_is_told_with_its_stack_trace(monkeypatch: Any) -> None:
    def fails(self: ForecastEngine, tick: Tick) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(ForecastEngine, "process", fails)
    settings = PartitionSettings(
        EngineSettings(), DecodeLimits(100, 5, 5), 5, 50, 5, "forecasts", "letters", "state", "me"
    )
    batch = Batch(0)

    def load(stream: str, model_id: str) -> NoReturn:
        raise AssertionError(f"{stream} has no model {model_id}")

    Partition("prices", 3, settings, load).process(source(b"k", b'{"ts":1,"prices":{"A":1}}'), batch)
    (letter,) = batch.records
    headers = dict(letter.headers)
    assert (headers[REASON], headers[DETAIL]) == (b"error", b"RuntimeError: two lines")
    assert b"in fails" in headers[STACKTRACE]


def test_a_forecast_carries_the_attributes_of_its_event_whatever_its_codec_does_to_the_message() -> None:
    """CloudEvents, Kafka protocol binding, section 3.2; of the tick's own headers the trace alone."""
    made = ForecastEngine(EngineSettings(symbols=("A",))).process(Tick(60_000, {"A": 1.0})).outcome
    assert isinstance(made, Forecast)
    trace = ("traceparent", b"00-1")
    tick = source(None, b"", (("own", b"1"), trace), topic="my.prices")
    for codec in (JsonCodec(), Emptying()):
        assert forecast_record("forecasts", made, "EUR/USD é", tick, codec).headers == (
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_id", b"my.prices-3-17"),
            ("ce_source", b"/my.prices/EUR%2FUSD%20%C3%A9"),
            ("ce_type", b"streamer.forecast.v1"),
            ("ce_time", b"1970-01-01T00:01:00Z"),
            trace,
        )
