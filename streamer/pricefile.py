"""Price files: CSV with a column of times, then a column of prices per symbol; a blank cell is no price.

Read as a stream, one row in memory at a time.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.codec import is_symbol, parse_time, shown
from streamer.core.tick import Tick
from streamer.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from _csv import Reader  # what csv.reader gives; the module csv itself does not name it

_TIME_ENDINGS = ("", "Z", "T00:00Z")
"""What is tried after a time as it stands: files without zones are in UTC, files of days have no hour."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look through the whole file found: rows, and the times of the first and the last (ms)."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PriceFile:
    """A CSV of prices. Errors are `UsageError`, with the file's name and the line."""

    path: Path

    def survey(self, limit: int | None = None) -> Survey:
        """Read and check all rows, or the first `limit`: who sends them then does not fail half-way."""
        rows = first = last = 0
        is_priced = False
        for tick in self.ticks(limit):
            first = tick.time if rows == 0 else first
            last = tick.time
            rows += 1
            is_priced = is_priced or not all(map(math.isnan, tick.prices.values()))
        if not rows:
            raise UsageError(f"{self.path}: no row below the header")
        if not is_priced:
            raise UsageError(f"{self.path}: no price in any column")
        return Survey(rows, first, last)

    def ticks(self, limit: int | None = None) -> Iterator[Tick]:
        """The rows in order, at most `limit`; equal times are let through, falling ones are an error."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._ticks(csv.reader(file), limit)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{self.path}: not a CSV in UTF-8") from None

    def _ticks(self, reader: "Reader", limit: int | None) -> Iterator[Tick]:
        before, count, symbols = 0, 0, None
        try:
            for cells in reader:
                if not any(map(str.strip, cells)):
                    continue
                if symbols is None:
                    symbols = _symbols(cells)
                    continue
                if count == limit:
                    return
                tick = _tick(cells, symbols)
                if tick.time < before:
                    raise _RowError(f"{cells[0]} is earlier than the row before: sort the rows by time")
                before = tick.time
                count += 1
                yield tick
        except (_RowError, csv.Error) as error:
            raise UsageError(f"{self.path}:{reader.line_num}: {error}") from None


class _RowError(Exception):
    """A row that cannot be used; its text lacks the place."""


def _symbols(header: Sequence[str]) -> tuple[str, ...]:
    symbols = tuple(name.strip() for name in header[1:])
    if not symbols:
        raise _RowError("no price column: expected a header such as timestamp,AAPL,MSFT")
    for symbol in symbols:
        if not is_symbol(symbol):
            raise _RowError(f"header: {shown(symbol)} is no symbol")
        if symbols.count(symbol) > 1:
            raise _RowError(f"header: the column {shown(symbol)} stands twice")
    return symbols


def _tick(cells: Sequence[str], symbols: tuple[str, ...]) -> Tick:
    if len(cells) != len(symbols) + 1:
        raise _RowError(f"{len(cells)} cells, {len(symbols) + 1} in the header")
    prices = {symbol: _price(symbol, cell) for symbol, cell in zip(symbols, cells[1:], strict=True)}
    return Tick(_time(cells[0].strip()), prices)


def _time(text: str) -> int:
    for ending in _TIME_ENDINGS:
        try:
            return parse_time(int(text) if text.isdecimal() and text.isascii() else text + ending)
        except DecodeError:
            continue
    raise _RowError(f"first column: found {shown(text)}, expected an ISO-8601 time or epoch milliseconds")


def _price(symbol: str, cell: str) -> float:
    if not cell or cell.isspace():
        return math.nan
    try:
        price = float(cell)
    except ValueError:
        raise _RowError(f"column {shown(symbol)}: found {shown(cell)}, expected a price or nothing") from None
    return price if math.isfinite(price) else math.nan
