"""The live table of `streamer tail`."""

import io
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from rich.console import Console

from streamer.testing import broker
from streamer.watching import Watch
from tests.terminals import terminal


def forecast(row: int, *, stream: str = "prices-0", **symbols: tuple[float | None, float]) -> Any:
    """Of the minute `row`; symbols: last price and forecast of each."""
    return forecast_of(row, stream, symbols)


def forecast_of(row: int, stream: str, symbols: Mapping[str, tuple[float | None, float]], model: str = "m1") -> Any:
    return {
        "stream": stream,
        "as_of": f"2026-01-05T14:{row:02}:00Z",
        "target": f"2026-01-05T14:{row + 1:02}:00Z",
        "model": model,
        "last": {symbol: last for symbol, (last, _) in symbols.items()},
        "yhat": {symbol: yhat for symbol, (_, yhat) in symbols.items()},
        "yhat_lower": {symbol: yhat - 1 for symbol, (_, yhat) in symbols.items()},
        "yhat_upper": {symbol: yhat + 1 for symbol, (_, yhat) in symbols.items()},
    }


def drawn(watch: Watch, width: int = 120, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(watch.table(width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_forecast_is_scored_once_the_next_one_names_its_price() -> None:
    watch = Watch()
    watch.take(forecast(0, A=(100.0, 101.0)))
    assert watch.rows["prices-0", "A"].error is None
    watch.take(forecast(1, A=(102.0, 103.0)))
    row = watch.rows["prices-0", "A"]
    assert (row.error, row.scored, row.skill) == (-1.0, 1, 0.5)


def test_a_gap_and_a_repeat_score_nothing() -> None:
    watch = Watch()
    for number in (0, 0, 2, 2):
        watch.take(forecast(number, A=(100.0 + number, 101.0)))
    assert watch.rows["prices-0", "A"].scored == 0


def test_a_price_that_is_not_known_is_a_dash() -> None:
    watch = Watch()
    watch.take(forecast(0, A=(None, 101.0)))
    watch.take(forecast(1, A=(100.0, 101.0)))
    assert watch.rows["prices-0", "A"].scored == 0
    watch.take(forecast(2, A=(None, 101.0)))
    assert drawn(watch)[-1].split()[3] == "-"


LISTED = {"stream": "s", "as_of": 1, "target": 2, "model": "m"} | {
    name: [0] for name in ("last", "yhat", "yhat_lower", "yhat_upper")
}


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, [], {}, {"stream": 1, "yhat": {"A": 1}}, {"stream": "s", "yhat": {"A": {}}}),
        {**LISTED, "yhat": [1.0, 2.0]},
        LISTED,
    ],
)
def test_what_is_no_forecast_is_counted_and_said(value: Any) -> None:
    watch = Watch()
    watch.take(value)
    assert (watch.forecasts, watch.foreign) == (0, 1)
    assert "1 records not understood" in drawn(watch)[0]


def test_all_symbols_stand_by_name_where_there_is_room() -> None:
    watch = Watch()
    watch.take(forecast(0, B=(1.0, 2.0), A=(3.0, 4.0)))
    watch.take(forecast(0, stream="eu", C=(5.0, 6.0)))
    title, heading, *rows = drawn(watch)
    assert title == "2 forecasts of 3 symbols"
    assert heading.split()[:6] == ["stream", "symbol", "time", "price", "forecast", "interval"]
    assert heading.split()[6:] == ["error", "skill", "scored", "model"]
    assert [row.split()[:2] for row in rows] == [["eu", "C"], ["prices-0", "A"], ["prices-0", "B"]]
    assert rows[0].split()[2:] == ["01-05", "14:00:00", "5", "6", "5", "to", "7", "-", "-", "0", "m1"]


def test_where_there_is_no_room_the_worst_are_shown_and_the_rest_counted() -> None:
    """Forecast and price of symbol i are i apart, the price moves by 10."""
    watch = Watch()
    names = [f"S{number:02}" for number in range(50)]
    watch.take(forecast_of(0, "s", {name: (100.0, 110.0 + number) for number, name in enumerate(names)}))
    watch.take(forecast_of(1, "s", dict.fromkeys(names, (110.0, 110.0))))
    lines = drawn(watch, height=14)
    assert len(lines) < 14
    assert lines[0] == "2 forecasts of 50 symbols; the worst 10 by skill, 40 more not shown"
    assert [line.split()[0] for line in lines[2:]] == names[:-11:-1]


@pytest.mark.parametrize("width", [1, 12, 20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    watch = Watch()
    watch.take(forecast_of(0, "s", {"ANYTHING": (123456.789, 123456.789)}, "20260105T1430Z-1f6c0a3b"))
    assert max(map(len, drawn(watch, width))) <= width
    if width >= 20:
        assert drawn(watch, width)[-1].startswith("ANYTHING")


def test_names_that_could_steer_a_terminal_are_shown_as_what_they_are() -> None:
    watch = Watch()
    watch.take(forecast_of(0, "s", {"\x1b[2Jx": (1.0, 2.0), "[red]": (1.0, 2.0)}))
    text = "\n".join(drawn(watch))
    assert "\x1b" not in text
    assert r"\x1b[2Jx" in text
    assert "[red]" in text


def test_forecasts_are_a_table_on_a_terminal(tmp_path: Path) -> None:
    with broker("forecasts") as address:
        config = tmp_path / "streamer.json"
        config.write_text(json.dumps({"kafka": {"bootstrap_servers": address}}))
        with terminal("tail", "-c", str(config), "--from", "earliest") as tail:
            tail.until(lambda text: "watching forecasts" in text)
            producer = Producer({"bootstrap.servers": address, "log_level": 0})
            for row in range(3):
                producer.produce("forecasts", json.dumps(forecast(row, A=(1.0 + row, 1.5 + row))), partition=0)
            producer.flush()
            text = tail.until(lambda text: "3 forecasts of 1 symbols" in text and "+50.0%" in text)
            assert "\x1b[32m" in tail.text, "green"
            tail.process.send_signal(signal.SIGINT)
            assert tail.ended() == 0
    assert "->" not in text, "no lines"


@pytest.mark.parametrize(("option", "environment"), [("--lines", {}), (None, {"TERM": "dumb"}), ("--json", {})])
def test_lines_are_lines_on_a_terminal_too(option: str | None, environment: dict[str, str], tmp_path: Path) -> None:
    with broker("forecasts") as address:
        config = tmp_path / "streamer.json"
        config.write_text(json.dumps({"kafka": {"bootstrap_servers": address}}))
        producer = Producer({"bootstrap.servers": address, "log_level": 0})
        producer.produce("forecasts", json.dumps(forecast(0, A=(1.0, 1.5))), partition=0)
        producer.flush()
        options = [option] if option else []
        arguments = ("tail", "-c", str(config), "--from", "earliest", "--limit", "1", *options)
        with terminal(*arguments, environment=environment) as tail:
            assert tail.ended() == 0, tail.text
    assert "\x1b" not in tail.text
    line = tail.text.strip().splitlines()[-1]
    assert (
        json.loads(line)["yhat"] == {"A": 1.5} if option == "--json" else " -> 2026-01-05T14:01:00Z  prices-0" in line
    )
