import json
from types import SimpleNamespace
from typing import Any

from tests.e2e.feeding import Offset, Published, tick
from tests.e2e.script import Expected, iso
from tests.soak.verdict import Verdict, compare, judge

TICKS = {(0, n): Expected(tick(n, {"A": 1.0}, key=b"s"), "forecast", "s", n, {"A": 1.0}) for n in range(3)}
MESSAGE = tick(3, {"A": 1.0}, key=b"s")


def forecast(number: int, **changes: Any) -> Any:
    value = {
        "id": f"prices-0-{number}",
        "stream": "s",
        "as_of": iso(number),
        "target": iso(number + 1),
        "last": {"A": 1.0},
        "source": {"topic": "prices", "partition": 0, "offset": number},
    }
    data = json.dumps(value | changes).encode()
    return SimpleNamespace(topic="forecasts", partition=0, key=b"s", value=data, headers=())


def dead_letter(reason: bytes) -> Any:
    headers = {"exception": reason, "partition": b"0", "offset": b"3"}
    named = tuple((f"__streams.errors.{name}", value) for name, value in headers.items())
    return SimpleNamespace(topic="dead", partition=0, key=b"s", value=MESSAGE.value, headers=named)


def judged(forecasts: list[Any], dead: list[Any] | None = None, extra: dict[Offset, Expected] | None = None) -> Verdict:
    return judge(Published(forecasts, dead or []), TICKS | (extra or {}), "prices")


def test_one_forecast_each_in_order_is_clean() -> None:
    verdict = judged([forecast(0), forecast(1), forecast(2)])
    assert verdict.clean("exactly_once")
    assert not verdict.examples


def test_what_is_missing_is_lost_under_either_delivery() -> None:
    verdict = judged([forecast(0), forecast(2)])
    assert verdict.lost == 1
    assert not verdict.clean("at_least_once")


def test_a_repetition_is_allowed_at_least_once_and_only_there() -> None:
    verdict = judged([forecast(0), forecast(1), forecast(1), forecast(2)])
    assert (verdict.doubled, verdict.repeated, verdict.unequal) == (1, 1, 0)
    assert verdict.clean("at_least_once")
    assert not verdict.clean("exactly_once")


def test_a_repetition_with_another_value_is_not_allowed_at_all() -> None:
    verdict = judged([forecast(0), forecast(1), forecast(1, yhat={"A": 2.0}), forecast(2)])
    assert verdict.unequal == 1
    assert not verdict.clean("at_least_once")


def test_a_forecast_behind_a_later_one_is_disordered() -> None:
    verdict = judged([forecast(0), forecast(2), forecast(1)])
    assert verdict.disordered == 1
    assert not verdict.clean("exactly_once")


def test_another_last_price_than_the_oracles_is_wrong() -> None:
    assert judged([forecast(0), forecast(1, last={"A": 1.5}), forecast(2)]).wrong == 1


def test_a_drop_has_no_outcome() -> None:
    extra = {(0, 3): Expected(MESSAGE, "duplicate", "s")}
    assert judged([forecast(0), forecast(1), forecast(2)], extra=extra).clean("exactly_once")
    assert judged([forecast(0), forecast(1), forecast(2), forecast(3)], extra=extra).doubled == 1


def test_a_dead_letter_has_its_reason() -> None:
    extra = {(0, 3): Expected(MESSAGE, "ahead", "s")}
    whole = [forecast(0), forecast(1), forecast(2)]
    assert judged(whole, [dead_letter(b"ahead")], extra).clean("exactly_once")
    assert judged(whole, [dead_letter(b"error")], extra).wrong == 1


def test_a_forecast_unlike_that_of_the_undisturbed_run_is_different() -> None:
    verdict, undisturbed = Verdict(), [forecast(0), forecast(1)]
    compare(Published([forecast(0), forecast(1)], []), Published(undisturbed, []), verdict)
    assert verdict.different == 0
    compare(Published([forecast(0), forecast(1, yhat={"A": 2.0})], []), Published(undisturbed, []), verdict)
    assert verdict.different == 1
