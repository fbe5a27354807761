"""JSON, the codec of the default."""

import json
from collections.abc import Mapping
from typing import Any

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
        """Compact JSON."""
        return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    return unique if len(unique) == len(pairs) else Ambiguous(unique)


_JSON = json.JSONDecoder(object_pairs_hook=_object)
