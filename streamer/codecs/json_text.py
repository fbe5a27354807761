"""JSON, the codec of the default."""

import contextlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from streamer import codecs
from streamer.codec import Ambiguous, DecodeReason, refuse
from streamer.codecs.registry import Registry


class JsonCodec:
    """JSON (RFC 8259) in UTF-8; NaN and the infinities, which Python's reader takes, are numbers too."""

    content_type = "application/json"

    def __init__(self, options: Mapping[str, Any] = {}, registry: Registry | None = None) -> None:
        codecs.only(options)

    def decode(self, value: bytes) -> object:
        """Objects as dicts; one in which a key stands twice as `Ambiguous`."""
        try:
            return _JSON.decode(value.decode())
        except ValueError as error:  # not UTF-8, not JSON, an integer of thousands of digits
            refuse(DecodeReason.MALFORMED, str(error))
        except RecursionError:
            refuse(DecodeReason.MALFORMED, "nested too deeply")

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """Compact JSON in ASCII, as Python's own writer has it; by orjson, in a tenth of its time, where that does."""
        if all(_are_written_alike(message.get(part, {}).values()) for part in _PRICES):
            with contextlib.suppress(orjson.JSONEncodeError):
                value = orjson.dumps(message)
                if value.isascii() and b"\x7f" not in value:
                    return value
        return _TO_JSON.encode(message).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else Ambiguous(unique)


def _are_written_alike(prices: Collection[float]) -> bool:
    """Whether orjson writes numbers as Python does: none of them has an exponent, or is none (of which the sum is)."""
    return not prices or (min(prices) >= _SMALLEST and sum(prices) < _LARGEST)


_PRICES = ("yhat", "yhat_lower", "yhat_upper", "last")
_SMALLEST, _LARGEST = 1e-4, 1e16
_JSON = json.JSONDecoder(object_pairs_hook=_object)
_TO_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
