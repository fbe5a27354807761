"""A line of comma-separated values, of which the configuration names the columns."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from streamer import codecs
from streamer.codec import DecodeReason, refuse
from streamer.codecs.registry import Registry
from streamer.errors import ConfigError

_OUTPUT = ("stream", "as_of", "target", "model", "symbol", "yhat", "lower", "upper", "last")
_LEVELS = ("yhat", "yhat_lower", "yhat_upper", "last")  # its last four columns


class CsvCodec:
    """In: one message is one line (RFC 4180), an object of text by column. Out: a line for each symbol of a forecast.

    options: `columns`, the names of all columns, in order; `delimiter`, one character, a comma by default.
    """

    content_type = "text/csv"
    has_text_numbers = True

    def __init__(self, options: Mapping[str, Any], registry: Registry | None = None) -> None:
        codecs.only(options, "columns", "delimiter")
        self._columns = _columns(options.get("columns", []))
        self._delimiter = options.get("delimiter", ",")
        if not isinstance(self._delimiter, str) or len(self._delimiter) != 1 or self._delimiter in '"\r\n':
            raise ConfigError(f"options.delimiter: found {self._delimiter!r}, expected one character, no quote")

    def decode(self, value: bytes) -> object:
        """The cells by column; without columns, what `encode` gives as a message, of what is in it."""
        try:
            rows = list(csv.reader(io.StringIO(value.decode(), newline=""), delimiter=self._delimiter, strict=True))
        except (ValueError, csv.Error) as error:  # not UTF-8, a quote that does not end
            refuse(DecodeReason.MALFORMED, str(error))
        if not self._columns:
            return _forecast(rows)
        if len(rows) != 1:
            refuse(DecodeReason.MALFORMED, f"{len(rows)} lines, expected one")
        [cells] = rows
        if len(cells) != len(self._columns):
            refuse(DecodeReason.LENGTH_MISMATCH, f"{len(cells)} cells for {len(self._columns)} columns")
        return dict(zip(self._columns, cells, strict=True))

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """Lines of stream, as_of, target, model, symbol, yhat, lower, upper, last."""
        text = io.StringIO()
        lines = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
        head = [message[name] for name in _OUTPUT[:4]]
        levels = [message[name] for name in _LEVELS]
        lines.writerows([*head, symbol, *(level[symbol] for level in levels)] for symbol in message["yhat"])
        return text.getvalue().encode()


def _forecast(rows: list[list[str]]) -> dict[str, Any]:
    if not rows or any(len(cells) != len(_OUTPUT) for cells in rows):
        refuse(DecodeReason.LENGTH_MISMATCH, f"expected lines of {len(_OUTPUT)} cells")
    message: dict[str, Any] = dict(zip(_OUTPUT[:4], rows[0], strict=False))
    try:
        for number, name in enumerate(_LEVELS, 5):
            message[name] = {cells[4]: float(cells[number]) for cells in rows}
    except ValueError as error:
        refuse(DecodeReason.MALFORMED, str(error))
    return message


def _columns(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) and name.isprintable() for name in found):
        raise ConfigError(f"options.columns: found {found!r}, expected a list of names")
    if len(set(found)) < len(found):
        raise ConfigError("options.columns: a name stands twice, expected each once")
    return tuple(found)
