"""What is said of forecasts that are not as they should be, and of those that nobody can judge."""

import json

from aiokafka import ConsumerRecord

from streamer.codecs.json_text import JsonCodec
from streamer.verification.comparison import Comparison


def value(offset: int) -> bytes:
    return json.dumps({"yhat": {"A": 1.0 + offset}}).encode()


def forecast(offset: int, ce_id: bytes | None) -> ConsumerRecord:
    data = value(offset)
    return ConsumerRecord("forecasts", 0, offset, 0, 0, b"s", data, None, 1, len(data), (("ce_id", ce_id),))


def compared(published: list[ConsumerRecord], expired: int = 0) -> Comparison:
    """Of five offsets, of which the one at 1 has no forecast."""
    comparison = Comparison(JsonCodec(), "prices-0", 0, 5)
    comparison.expired = expired
    for offset in range(5):
        comparison.expect(offset, "s", None if offset == 1 else value(offset), exact=True)
    for record in published:
        comparison.publish(record)
    comparison.finish()
    return comparison


def test_a_forecast_that_was_not_published_is_missing() -> None:
    tally = compared([forecast(offset, b"prices-0-%d" % offset) for offset in (0, 2, 4)]).tally("s")
    assert (tally.judged, tally.forecasts, tally.equal, tally.missing) == (5, 4, 3, 1)


def test_what_may_have_expired_where_it_was_published_is_not_judged() -> None:
    """The oldest that is left is that of 3."""
    tally = compared([forecast(offset, b"prices-0-%d" % offset) for offset in (3, 2)], expired=3).tally("s")
    assert (tally.judged, tally.forecasts, tally.equal, tally.missing) == (3, 3, 2, 1)
    assert tally.unjudged == {"what was published of it has expired": 2}


def test_a_record_whose_header_is_null_is_foreign() -> None:
    assert compared([forecast(0, None)]).foreign == 1
