"""Forecasts as they come, each held against the price that the next one names: what `streamer tail` shows live."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from streamer.rendering import escaped

_MOST_ROWS = 20_000  # of as many symbols as the default limits allow a few streams; the longest silent go first
_FRAME_LINES = 4  # that are no rows: what was said before, title, heading, and the line of the cursor
_GAP = 2  # columns of the terminal between two of the table


@dataclass(slots=True)
class Watched:
    """One symbol of a stream: its newest forecast, and how those before it did since watching began.

    error: forecast minus price of the last one whose price is known. scored: how many of them are.
    """

    stream: str
    symbol: str
    as_of: str = ""
    target: str = ""
    model: str = ""
    last: float | None = None
    yhat: float | None = None
    lower: float | None = None
    upper: float | None = None
    error: float | None = None
    scored: int = 0
    _squared: float = 0.0
    _persistence: float = 0.0

    @property
    def skill(self) -> float | None:
        """1 - RMSE / RMSE of "same as the last price"; None while nothing is known of it."""
        return 1.0 - (self._squared / self._persistence) ** 0.5 if self._persistence > 0.0 else None

    def take(self, message: Mapping[str, Any]) -> None:
        """Score what was forecast by the price that `message` starts from, and show `message` from now on."""
        names = ("last", "yhat", "yhat_lower", "yhat_upper")
        last, yhat, lower, upper = (_number(message[name][self.symbol]) for name in names)
        as_of, target, model = (str(message[name]) for name in ("as_of", "target", "model"))
        if as_of == self.as_of:
            return  # a repeat, which at-least-once delivery allows
        if as_of == self.target and last is not None and self.yhat is not None and self.last is not None:
            self.error = self.yhat - last
            self.scored += 1
            self._squared += self.error**2
            self._persistence += (self.last - last) ** 2
        self.as_of, self.target, self.model = as_of, target, model
        self.last, self.yhat, self.lower, self.upper = last, yhat, lower, upper


@dataclass
class Watch:
    """All symbols of all streams that were seen.

    A forecast does not say whether its `last` is a price of that very time: a blank counts as a price that stayed.
    """

    rows: dict[tuple[str, str], Watched] = field(default_factory=dict)
    forecasts: int = 0
    foreign: int = 0

    def take(self, message: Any) -> None:
        """Take in the value of a record; what is no forecast is counted in `foreign`."""
        try:
            stream, forecasts = str(message["stream"]), message["yhat"]
            if not isinstance(forecasts, Mapping):
                raise TypeError("no price by symbol")
            for symbol in forecasts:
                row = self.rows.get((stream, symbol)) or Watched(stream, symbol)
                row.take(message)
                self.rows.pop((stream, symbol), None)
                self.rows[stream, symbol] = row  # at the end: the first is the one that has been silent for longest
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
            self.foreign += 1
            return
        self.forecasts += 1
        while len(self.rows) > _MOST_ROWS:
            del self.rows[next(iter(self.rows))]

    def table(self, width: int, height: int) -> Table:
        """As much of it as a terminal of that size shows: all by name, or else the symbols with the worst skill."""
        room = max(1, height - _FRAME_LINES)
        rows = sorted(self.rows.values(), key=lambda row: (row.stream, row.symbol))
        shown = rows if len(rows) <= room else sorted(rows, key=_worst_first)[:room]
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, title=self._title(len(shown)))
        table.title_justify = "left"
        columns = _fitting(_columns(shown), width)
        for column in columns:
            table.add_column(column.name, justify=column.justify, no_wrap=True, overflow="ellipsis")
        for row in shown:
            table.add_row(*(column.cell(row) for column in columns))
        return table

    def _title(self, shown: int) -> Text:
        more = len(self.rows) - shown
        parts = [f"{self.forecasts} forecasts of {len(self.rows)} symbols"]
        parts += [f"the worst {shown} by skill, {more} more not shown"] if more else []
        parts += [f"{self.foreign} records not understood (--lines shows them)"] if self.foreign else []
        return Text("; ".join(parts), no_wrap=True, overflow="ellipsis")


def _worst_first(row: Watched) -> tuple[float, str, str]:
    """Where nothing is known of the skill, behind those of which something is."""
    return (float("inf") if row.skill is None else row.skill, row.stream, row.symbol)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table. rank: the highest is the first to go where the terminal is narrow."""

    name: str
    rank: int
    cells: Mapping[int, Text]
    justify: Literal["left", "right"] = "right"

    def cell(self, row: Watched) -> Text:
        return self.cells[id(row)]

    @property
    def width(self) -> int:
        return _GAP + max([len(self.name), *(cell.cell_len for cell in self.cells.values())])


def _columns(rows: Sequence[Watched]) -> list[_Column]:
    """All columns, from left to right; that of the stream where there are several."""

    def column(name: str, rank: int, cell: Callable[[Watched], Text | str], justify: Any = "right") -> _Column:
        cells = {id(row): found if isinstance(found := cell(row), Text) else Text(escaped(found)) for row in rows}
        return _Column(name, rank, cells, justify)

    streams = [column("stream", 1, lambda row: row.stream, "left")] if len({row.stream for row in rows}) > 1 else []
    return [
        *streams,
        column("symbol", 0, lambda row: row.symbol, "left"),
        column("time", 3, lambda row: row.as_of[5:19].replace("T", " "), "left"),
        column("price", 2, lambda row: _price(row.last)),
        column("forecast", 0, lambda row: _price(row.yhat)),
        column("interval", 5, lambda row: f"{_price(row.lower)} to {_price(row.upper)}"),
        column("error", 4, lambda row: _price(row.error, "+")),
        column("skill", 1, lambda row: _skill(row.skill)),
        column("scored", 7, lambda row: str(row.scored)),
        column("model", 6, lambda row: row.model, "left"),
    ]


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Those that fit; two at least, which rich then shortens."""
    while len(columns) > 2 and sum(column.width for column in columns) - _GAP > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    return columns


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _price(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.6g}"


def _skill(value: float | None) -> Text:
    """The sign says it too, for whoever sees no colours."""
    return Text("-") if value is None else Text(f"{value:+.1%}", "green" if value > 0 else "red" if value < 0 else "")
