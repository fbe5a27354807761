"""The prices of a decoded message, in each of the forms that feeds send them."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from streamer.codec import DecodeLimits, DecodeReason, is_symbol, refuse, shown
from streamer.mapping import Path, Reader, RecordMapping, member, path_text, reader, refuse_ambiguous

Prices = dict[str, float]
"""Price by symbol; a blank is NaN: its symbol is still known."""

Place = Callable[[], str]
"""Gives where a value stands, for an error."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BLANKS = {"", "nan", "null", "none", "na", "n/a", "-"}
_LONGEST_NUMBER = 100


def price_reader(
    mapping: RecordMapping, symbols: tuple[str, ...], limits: DecodeLimits
) -> tuple[Reader | None, Callable[[Any, Any], Prices]]:
    """How prices are found, None for the message itself, and how what is found there, with its record, becomes prices.

    symbols: `feed.symbols`. What is found is ours to change. DecodeError names the path, and what is there.
    """
    form = _Form(mapping, symbols, limits)
    if mapping.prices is None:
        return None, form.one_symbol
    if mapping.prices:
        return reader(mapping.prices), form.read
    if mapping.symbol is not None:
        return None, form.read
    return None, form.flat


class _Form:
    """The forms, as one mapping has them; `where` is the path to the prices."""

    def __init__(self, mapping: RecordMapping, symbols: tuple[str, ...], limits: DecodeLimits) -> None:
        self._where = path_text(mapping.prices or ()) or "message"
        self._symbols = symbols
        self._limits = limits
        self._is_flat = mapping.prices == () and mapping.symbol is None
        self._text = mapping.text_numbers
        self._symbol = mapping.symbol
        self._member = mapping.price
        self._is_plain = mapping.price is None and not mapping.text_numbers
        self._read_symbol = reader(mapping.symbol or ())
        self._read_price = reader(mapping.price or ())
        # Of a flat message, the fields that are none of its symbols.
        self._others = {path[0] for path in (mapping.time, mapping.key) if path and not path[0].startswith("$")}

    def read(self, found: Any, record: Any) -> Prices:
        """An object of prices by symbol, or a list."""
        if self._symbol is not None:
            return self._objects(found, self._symbol, self._member or ())
        if isinstance(found, dict):
            return self._by_symbol(found)
        if isinstance(found, list):
            return self._listed(found)
        refuse(DecodeReason.WRONG_TYPE, f"{self._where}: found {shown(found)}, expected an object")

    def flat(self, message: Any, record: Any) -> Prices:
        """The fields of the message itself: those of `feed.symbols`, or all but the time and the key."""
        if not isinstance(message, dict):
            refuse(DecodeReason.WRONG_TYPE, f"message: found {shown(message)}, expected an object")
        refuse_ambiguous(message, "message")
        if not self._symbols:
            return self._by_symbol({name: each for name, each in message.items() if name not in self._others})
        found = {symbol: message[symbol] for symbol in self._symbols if symbol in message}
        if not found:
            member(message, self._symbols[:1])  # says that it is not there, and what is
        return self._by_symbol(found)

    def one_symbol(self, message: Any, record: Any) -> Prices:
        """A message of one symbol."""
        symbol_at, price_at = path_text(self._symbol or ()), path_text(self._member or ())
        symbol = self._checked_symbol(self._read_symbol(message, record), lambda: symbol_at)
        return {symbol: self._number(self._read_price(message, record), lambda: price_at)}

    def _by_symbol(self, prices: dict[str, Any]) -> Prices:
        refuse_ambiguous(prices, self._where)
        self._check_number_of(prices)
        longest, is_plain, price_of = self._limits.symbol_length, self._is_plain, self._price
        for symbol, price in prices.items():
            if type(symbol) is not str or len(symbol) > longest or not is_symbol(symbol):
                self._checked_symbol(symbol, lambda: self._where)
            if not is_plain or type(price) is not float or not math.isfinite(price):
                prices[symbol] = price_of(symbol, price)  # a key that exists: safe while iterating
        return prices

    def _listed(self, prices: list[Any]) -> Prices:
        symbols, where = self._symbols, self._where
        if not symbols:
            refuse(DecodeReason.WRONG_TYPE, f"{where}: found a list, expected an object as feed.symbols is not set")
        if len(prices) != len(symbols):
            refuse(DecodeReason.LENGTH_MISMATCH, f"{where}: {len(prices)} values for {len(symbols)} symbols")
        return {symbol: self._price(symbol, price) for symbol, price in zip(symbols, prices, strict=True)}

    def _objects(self, found: Any, symbol_at: Path, price_at: Path) -> Prices:
        """A list of objects, each with its symbol and price."""
        if not isinstance(found, list):
            refuse(DecodeReason.WRONG_TYPE, f"{self._where}: found {shown(found)}, expected a list of objects")
        self._check_number_of(found)
        prices: Prices = {}
        for number, item in enumerate(found):
            place = partial(self._item, number)
            symbol = self._checked_symbol(_inner(item, symbol_at, place), partial(self._item, number, symbol_at))
            if symbol in prices:
                refuse(DecodeReason.MALFORMED, f"{place()}: the symbol {shown(symbol)} stands twice")
            prices[symbol] = self._number(_inner(item, price_at, place), self._item, number, price_at)
        return prices

    def _item(self, number: int, path: Path = ()) -> str:
        return path_text((f"{self._where}[{number}]", *path))

    def _check_number_of(self, prices: Any) -> None:
        most = self._limits.symbols
        if len(prices) > most:
            refuse(DecodeReason.TOO_MANY_SYMBOLS, f"{self._where}: {len(prices)} symbols, at most {most}")

    def _checked_symbol(self, symbol: Any, place: Place) -> str:
        longest = self._limits.symbol_length
        if not isinstance(symbol, str):
            refuse(DecodeReason.WRONG_TYPE, f"{place()}: found {shown(symbol)}, expected a symbol as text")
        if len(symbol) > longest:
            refuse(DecodeReason.SYMBOL_TOO_LONG, f"{place()}: {shown(symbol)}, at most {longest} characters")
        if not is_symbol(symbol):
            refuse(DecodeReason.INVALID_SYMBOL, f"{place()}: {shown(symbol)} is empty or not printable")
        return symbol

    def _price(self, symbol: str, found: Any) -> float:
        """The price of a symbol, of which a member of its object may be the price."""
        if self._member is None or found is None:
            return self._number(found, self._of_symbol, symbol)
        price = _inner(found, self._member, partial(self._of_symbol, symbol))
        return self._number(price, self._of_symbol, symbol, self._member)

    def _of_symbol(self, symbol: str, path: Path = ()) -> str:
        return path_text((f"{self._where}[{shown(symbol)}]", *path))

    def _number(self, found: Any, place: Callable[..., str], *where: Any) -> float:
        """A number; `place(*where)` is where it stands, which is looked up for an error alone."""
        kind = type(found)
        if kind is not int and kind is not float:
            if found is None:
                return math.nan
            if kind is str and self._text:
                return self._of_text(found, partial(place, *where))
            self._refuse_number(found, partial(place, *where))
        try:
            number = float(found)
        except OverflowError:
            return math.nan
        return number if math.isfinite(number) else math.nan

    def _of_text(self, text: str, place: Place) -> float:
        text = text.strip()
        if text.lower() in _BLANKS:
            return math.nan
        if len(text) > _LONGEST_NUMBER or _NUMBER.fullmatch(text) is None:
            self._refuse_number(text, place)
        number = float(text)
        return number if math.isfinite(number) else math.nan

    def _refuse_number(self, found: Any, place: Place) -> NoReturn:
        """Says what to set too, where a setting is likely to be what is wrong."""
        hint = ""
        if isinstance(found, str) and len(found) <= _LONGEST_NUMBER and _NUMBER.fullmatch(found):
            hint = " (input.numbers: text reads it)"
        elif self._is_flat and not self._symbols:
            hint = " (feed.symbols names the fields that are prices)"
        refuse(DecodeReason.WRONG_TYPE, f"{place()}: found {shown(found)}, expected a number{hint}")


def _inner(item: Any, path: Path, place: Place) -> Any:
    """A member of an object that stands at `place`; errors name both."""
    if type(item) is dict and len(path) == 1 and path[0] in item:
        return item[path[0]]
    return member({place(): item}, (place(), *path))
