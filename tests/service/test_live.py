"""What the live page is told."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from streamer.core.adjustment import Adjustment
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Rejected, Step
from streamer.core.tick import Tick
from streamer.service import live as live_module
from streamer.service import live_table
from streamer.service.health import Health
from streamer.service.live import Live, Watched
from streamer.service.live_table import Row
from streamer.service.live_view import LiveView
from streamer.service.metrics import RetrainOutcome
from streamer.service.partition import Batch, Partition, Stream
from streamer.service.trainer import Account
from tests.core.fakes import fake
from tests.core.helpers import SMALL, START, STEP, forecast_of, put_into_service, walk

HOSTILE = "<script>alert('x')</script>"


class Owner:
    """As much of a partition as the page is told of."""

    def __init__(self, name: str = "prices-0") -> None:
        self.name = name
        self.streams: dict[str, Stream] = {}


class Around:
    """A page, its streams and its clock."""

    def __init__(self) -> None:
        self.now = START / 1000
        self.live = Live(clock=lambda: self.now)
        self.health = Health(60)
        self.busy: set[str] = set()
        self.worked_out = 0.0
        self.view = LiveView(self.live, self.health, lambda stream: stream in self.busy, lambda: self.worked_out)
        self.owner = Owner()

    @property
    def partition(self) -> Partition:
        """The one partition that we have."""
        return cast(Partition, self.owner)

    def stream(self, name: str = "s", limit: int = 100) -> Stream:
        """A stream of ours."""
        return self.owner.streams.setdefault(name, Stream(name, ForecastEngine(replace(SMALL, max_symbols=limit))))

    def feed(self, ticks: list[Tick], name: str = "s", lag: int | None = 0) -> list[Step]:
        """Ticks, all of which become visible at once, when the last of them is known."""
        stream = self.stream(name)
        steps = [stream.process(tick) for tick in ticks]
        self.now = max(self.now, ticks[-1].time / 1000)
        self.live.committed(self.partition, Batch(0, steps=[(stream, step) for step in steps]), lag)
        return steps

    def overview(self, search: str | None = None, sort: str | None = None, page: str | None = None) -> dict[str, Any]:
        """As a browser sees it that asks a little later."""
        self.worked_out += 60.0
        told = self.view.overview(search, sort, page)
        return cast(dict[str, Any], json.loads(json.dumps(told, allow_nan=False)))

    def shown(self, stream: str = "s", symbol: str | None = "A") -> dict[str, Any]:
        """A symbol in full."""
        return cast(dict[str, Any], json.loads(json.dumps(self.view.stream(stream, symbol), allow_nan=False)))

    def names(self, sort: str | None = None, search: str | None = None) -> list[str]:
        """Symbols as the overview orders them."""
        return [row["symbol"] for row in self.overview(search, sort)["rows"]]


@pytest.fixture
def around() -> Around:
    return Around()


# One symbol


def test_the_next_forecast_is_the_one_that_was_published_to_the_last_digit(around: Around) -> None:
    published = forecast_of(around.feed(walk(12))[-1])
    told = around.shown()["forecast"]
    assert told == {
        "as_of": published.as_of,
        "target": published.target,
        "model": "persistence",
        **{name: getattr(published, name)[0] for name in ("yhat", "lower", "upper", "last")},
    }


def test_each_past_forecast_stands_at_the_time_it_was_made_for(around: Around) -> None:
    steps = around.feed(walk(12))
    told = around.shown()["forecasts"]
    assert told["time"] == [forecast_of(step).target for step in steps]
    assert told["yhat"] == pytest.approx([forecast_of(step).yhat[0] for step in steps], rel=1e-6)
    assert around.shown()["prices"]["time"] == [tick.time for tick in walk(12)][-SMALL.window :]


def test_what_is_not_committed_is_not_shown(around: Around) -> None:
    around.feed(walk(12))
    before = around.shown()["forecast"]
    around.stream().process(walk(13)[-1])
    assert around.shown()["forecast"] == before


def test_a_restored_stream_shows_the_forecast_that_is_pending(around: Around) -> None:
    published = forecast_of(around.feed(walk(12))[-1])
    again = Live(clock=lambda: around.now)
    again.restored(around.partition)
    told = LiveView(again, around.health, lambda _: False).stream("s", "A")["forecast"]
    assert (told["as_of"], told["target"], told["yhat"]) == (published.as_of, published.target, published.yhat[0])


def test_the_warm_up_tells_ring_history_and_when_the_first_training_is_due(around: Around) -> None:
    around.feed(walk(3))
    told = around.shown()
    assert (told["phase"], told["model"]) == ("warming", "persistence")
    assert told["warm_up"] == {
        **{"ring": 3, "window": SMALL.window, "history": 3, "first": SMALL.first},
        **{"held": 3, "capacity": SMALL.history, "next_in": SMALL.first - 3, "wanted": None},
    }


def test_a_model_in_service_is_named_with_what_it_was_trained_on(around: Around) -> None:
    around.feed(walk(12))
    engine = around.stream().engine
    put_into_service(engine, fake(engine))
    around.live.swapped(around.stream())
    told = around.shown()
    assert (told["phase"], told["model"]) == ("serving", "m1")
    assert told["trained"] == engine.serving.model.as_of if engine.serving else False
    assert around.overview()["rows"][0]["phase"] == "serving"
    assert set(told["rmse"]) == {"served", "lstm", "linear", "persistence"}


def test_the_error_over_time_ends_with_the_error_of_now_and_reaches_back_to_the_start(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "_ERROR_POINTS", 8)
    ticks = walk(200)
    for tick in ticks:
        around.feed([tick])
    watched = around.live.streams["s"]
    times, values = watched.errors.of("A")
    assert len(times) <= live_module._ERROR_POINTS
    assert times[0] < ticks[60].time
    assert np.diff(times).max() <= 2 * np.diff(times).min()
    assert values[-1, 0] == pytest.approx(around.shown()["rmse"]["served"], rel=0.2)


def test_trainings_are_told_newest_first_with_outcome_and_reason_and_only_the_last_of_them(around: Around) -> None:
    around.feed(walk(8))
    for number in range(30):
        account = Account("schedule", f"rejected: no. {number}" + "!" * 5000, "m", 0.1, 1.2)
        around.live.trained("s", RetrainOutcome.REJECTED, float(number), account)
    around.live.trained("s", RetrainOutcome.FAILED, 1.0, Account("drift", "out of memory"))
    around.live.trained("nobody's", RetrainOutcome.FAILED, 1.0, Account())
    told = around.shown()["trainings"]
    assert len(told) == 20
    assert told[0] == {
        **{"at": round(around.now * 1000), "outcome": "failed", "seconds": 1.0, "due": "drift"},
        **{"detail": "out of memory", "model": None, "skill": None, "ratio": None},
    }
    assert told[1]["detail"].startswith("rejected: no. 29!")
    assert len(told[1]["detail"]) == 300


def test_what_became_of_the_ticks_is_counted(around: Around) -> None:
    ticks = walk(6)
    around.feed([*ticks[:4], ticks[3], ticks[1], Tick(ticks[5].time, {"A": 1.0, "B": math.nan})])
    counts = around.shown()["counts"]
    assert {name: counts[name] for name in ("forecast", "duplicate", "late", "missing", "blanks")} == {
        **{"forecast": 5, "duplicate": 1, "late": 1},
        **{"missing": 1, "blanks": 1},
    }


def test_dead_letters_count_whether_or_not_they_belong_to_a_stream(around: Around) -> None:
    around.feed(walk(2))
    rejected = Step(Rejected("undecodable", "?"))
    around.live.committed(around.partition, Batch(0, steps=[(None, rejected), (around.stream(), rejected)]), None)
    assert around.overview()["process"]["dead_letters"] == 2
    assert around.shown()["counts"]["dead_letter"] == 1


# The feed


@pytest.mark.parametrize(("silent", "feed"), [(2.0, "live"), (9.0, "live"), (11.0, "stale")])
def test_a_feed_is_broken_once_it_is_silent_for_three_steps_and_ten_seconds(
    around: Around, silent: float, feed: str
) -> None:
    around.feed(walk(5))
    around.now += silent
    assert around.shown()["feed"] == feed
    assert around.overview()["process"]["stale"] == (feed == "stale")


def test_no_feed_is_broken_at_a_time_at_which_no_tick_is_expected(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    around.feed(walk(5))
    monkeypatch.setattr(ForecastEngine, "is_expected", lambda *_: False)
    around.now += 100.0
    assert around.shown()["feed"] == "closed"


def test_ticks_that_come_with_old_times_are_behind_and_not_broken(around: Around) -> None:
    around.now += 10_000.0
    around.feed(walk(5))
    assert around.shown()["feed"] == "behind"
    around.now += 11.0
    assert around.shown()["feed"] == "stale"


def test_after_a_restart_the_age_of_the_newest_tick_counts_until_one_comes(around: Around) -> None:
    around.feed(walk(5))
    around.now += 100.0
    again = Live(clock=lambda: around.now)
    again.restored(around.partition)
    assert LiveView(again, around.health, lambda _: False).stream("s", "A")["feed"] == "stale"


# The overview


def test_the_worst_skill_comes_first_and_what_is_not_scored_last(around: Around) -> None:
    around.feed(walk(4, ("A", "B", "C")))
    board = around.stream().engine.scoreboard
    board._sums[:] = board._counts[:] = 0
    for column, (served, flat) in enumerate([(1.0, 4.0), (4.0, 1.0)]):
        board._counts[column, 0] = 1
        board._sums[column, 0, [0, 3]] = served, flat
    assert around.names() == ["B", "A", "C"]
    assert around.names("best") == ["A", "B", "C"]
    assert around.names("name") == ["A", "B", "C"]
    assert [row["skill"] for row in around.overview()["rows"]] == [-1.0, 0.5, None]


def test_search_finds_part_of_a_symbol_or_of_a_stream_in_either_case(around: Around) -> None:
    around.feed(walk(2, ("Apple", "pear")), "fruit")
    around.feed(walk(2, ("beet",)), "roots")
    assert around.names("name", "PEA") == ["pear"]
    assert around.names("name", "fruit") == ["Apple", "pear"]
    assert around.names("name", " ") == ["Apple", "beet", "pear"]
    assert around.overview("kiwi")["found"] == 0


def test_however_many_searches_come_few_are_kept(around: Around) -> None:
    around.feed(walk(3))
    for number in range(500):
        around.view.overview(f"no. {number}", None, None)
    assert len(around.view.table._found) <= 64


def test_searches_put_off_the_next_look_by_seconds_at_most(around: Around) -> None:
    """However many there are, and whatever they cost: totals that stand still hide a feed that is broken."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.01
        return now

    view = LiveView(around.live, around.health, lambda _: False, clock)
    around.feed(walk(3))
    view.overview(None, None, None)
    for number in range(500):
        view.overview(f"no. {number}", None, None)
    around.feed(walk(2, ("Z",)), "t")
    now += 5.1
    assert view.overview(None, None, None)["process"]["streams"] == 2


def test_of_many_symbols_a_page_is_told_at_a_time_and_the_last_for_one_beyond(around: Around) -> None:
    names = [f"S{number:03}" for number in range(60)]
    around.feed(walk(3, names))
    pages = [around.overview(sort="name", page=str(page)) for page in range(3)]
    assert [row["symbol"] for page in pages for row in page["rows"]] == names
    assert around.overview(sort="name", page="99")["page"] == 2
    assert max(len(json.dumps(page)) for page in pages) < 10_000


@pytest.mark.parametrize("page", ["-1", "x", "1e3", "²", "1234567"])
def test_a_page_that_is_no_number_is_refused(around: Around, page: str) -> None:
    with pytest.raises(KeyError):
        around.view.overview(None, None, page)


def test_an_order_or_symbol_or_stream_that_there_is_not_is_refused(around: Around) -> None:
    around.feed(walk(2))
    asked_for: list[Callable[[], object]] = [
        lambda: around.view.overview(None, "price", None),
        lambda: around.view.stream("t", None),
        lambda: around.view.stream(None, None),
        lambda: around.view.stream("s", "Z"),
    ]
    for asked in asked_for:
        with pytest.raises(KeyError):
            asked()


def test_only_streams_that_have_changed_are_worked_out_anew(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = walk(3)
    for name in ("s", "t"):
        around.feed(ticks[:2], name)
    around.overview()
    worked_out, real = [], live_table._rows

    def rows(watched: Watched, *state: Any) -> Iterable[Row]:
        worked_out.append(watched.stream.name)
        return real(watched, *state)

    monkeypatch.setattr(live_table, "_rows", rows)
    around.feed(ticks[2:], "t")
    around.overview()
    assert worked_out == ["t"]


def test_where_there_is_time_for_one_stream_at_once_each_has_its_turn(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t{number}" for number in range(5)]
    for name in names:
        around.feed(walk(2), name)
    monkeypatch.setattr(live_table, "_AT_ONCE", -1.0)
    found = []
    for _ in range(2 * len(names)):
        for name in names:
            around.live.streams[name].changes += 1
        around.view.table._good_until = 0.0
        found.append(around.view.overview(None, "name", None)["found"])
    assert found == [2, 4, 6, 8, 10, 10, 10, 10, 10, 10]


def test_the_process_tells_what_fails_and_how_many_streams_are_in_which_state(around: Around) -> None:
    around.health.set("state", False, "restoring prices-0")
    around.feed(walk(9), "s", lag=7)
    told = around.overview()["process"]
    assert (told["ready"], told["failing"]) == (False, ["state"])
    assert told["checks"] == {"state": "restoring prices-0"}
    assert (told["streams"], told["symbols"], told["warming"], told["serving"]) == (1, 2, 1, 0)
    assert told["consumer_lag"] == 7


# What comes and goes


def test_a_partition_that_moves_takes_its_streams_and_its_lag_along(around: Around) -> None:
    around.feed(walk(2), lag=5)
    other = Owner("prices-1")
    around.live.gone(cast(Partition, other))
    assert around.names() == ["A", "B"]
    around.live.gone(around.partition)
    assert around.names() == []
    assert around.overview()["process"]["consumer_lag"] == 0
    assert around.view.events(None, None, None, "s", "A")["stream"] == {"stream": "s", "symbol": "A", "gone": True}


def test_a_stream_that_has_expired_is_gone_and_one_that_is_back_begins_anew(around: Around) -> None:
    around.feed(walk(9))
    around.live.trained("s", RetrainOutcome.FAILED, 1.0, Account())
    del around.owner.streams["s"]
    around.live.committed(around.partition, Batch(0, expired=["s"]), None)
    assert "s" not in around.live.streams
    around.feed(walk(9))
    del around.owner.streams["s"]
    around.feed(walk(2))
    assert around.shown()["counts"] == {"forecast": 2}


def test_a_session_that_begins_anew_keeps_what_is_known_and_drops_what_is_not_there_any_more(around: Around) -> None:
    for name in ("s", "t"):
        around.feed(walk(9), name)
    around.live.trained("s", RetrainOutcome.FAILED, 1.0, Account())
    del around.owner.streams["t"]
    around.owner.streams["s"] = replace(around.stream())
    around.live.restored(around.partition)
    assert set(around.live.streams) == {"s"}
    assert len(around.shown()["trainings"]) == 1
    assert around.live.streams["s"].stream is around.owner.streams["s"]


def test_a_split_that_became_visible_unheard_is_in_the_charts_of_a_session_that_begins_anew(around: Around) -> None:
    around.feed(walk(9))
    before = around.shown()["forecasts"]["yhat"][-1]
    around.stream().adjust(Adjustment(7, "A", 0.5))
    for _ in range(2):  # and once only
        around.owner.streams["s"] = replace(around.stream())
        around.live.restored(around.partition)
        assert around.shown()["forecasts"]["yhat"][-1] == pytest.approx(before / 2, rel=1e-6)


def test_a_stream_that_is_scored_over_another_window_begins_its_charts_anew(around: Around) -> None:
    around.feed(walk(30))
    around.live.trained("s", RetrainOutcome.FAILED, 1.0, Account())
    assert around.shown()["errors"]["time"]
    anew = ForecastEngine(replace(SMALL, scoring_window=SMALL.scoring_window * 2))
    around.owner.streams["s"] = replace(around.stream(), engine=anew)
    for tick in walk(3):
        anew.process(tick)
    around.live.restored(around.partition)
    assert not around.shown()["errors"]["time"]
    assert not around.shown()["forecasts"]["time"]
    assert len(around.shown()["trainings"]) == 1


def test_names_from_outside_go_through_as_they_are(around: Around) -> None:
    """It is the page that sets them as text; JSON has its own quotes."""
    around.feed(walk(3, (HOSTILE,)), HOSTILE)
    assert around.overview()["rows"][0]["symbol"] == HOSTILE
    assert around.shown(HOSTILE, HOSTILE)["stream"] == HOSTILE


def test_a_symbol_that_has_no_price_yet_is_shown_without_one(around: Around) -> None:
    around.feed([Tick(START, {"A": 1.0, "B": math.nan}), Tick(START + STEP, {"A": 1.0, "B": math.nan})])
    [_, row] = around.overview(sort="name")["rows"]
    assert (row["symbol"], row["price"], row["yhat"], row["skill"]) == ("B", None, None, None)
    assert around.shown("s", "B")["forecast"] is None


def test_a_split_brings_the_forecast_that_is_shown_to_the_new_price(around: Around) -> None:
    around.feed(walk(9))
    before = around.shown()["forecast"]["yhat"]
    step = around.stream().adjust(Adjustment(0, "A", 0.5))
    assert step.adjustment is not None
    around.live.committed(around.partition, Batch(0, steps=[(around.stream(), step)]), None)
    told = around.shown()
    assert told["forecast"]["yhat"] == pytest.approx(before / 2)
    assert told["forecasts"]["yhat"][-1] == pytest.approx(before / 2, rel=1e-6)
    assert told["counts"]["adjusted"] == 1
