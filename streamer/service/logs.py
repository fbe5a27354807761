"""The log: structlog and the standard library's loggers through one renderer, as text for people or JSON."""

import json
import logging
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal, TextIO

import numpy as np
import structlog
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
)
from pydantic import Secret, SecretBytes, SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["text", "json"]

MASK: Final = "**********"
"""Stands for a secret, as pydantic writes it."""

REPEAT_SECONDS: Final = 10.0
"""Between two records of aiokafka that say the same: with the broker away it says it a hundred times a second."""

_ASKED_AGAIN = ("Failed fetch offsets", "Group Coordinator Request failed")
_NEW_TOPIC = (NotLeaderForPartitionError, LeaderNotAvailableError, GroupCoordinatorNotAvailableError)

_LEADING_KEYS: Final = ("time", "level", "logger", "event")
_TRACEBACK_KEYS: Final = ("exception", "stack")
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


def configure(
    level: str, format: LogFormat, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Send all records of `level` and above to `stream`; a second call replaces the first.

    Args:
        level: `debug`, `info`, `warning`, `error` or `critical`.
        format: `text`: one aligned line a record, tracebacks indented below it; `json`: one object a line,
            with `time` (ISO 8601, UTC), `level`, `logger`, `event` and what else the record has, tracebacks
            in `exception`.
        stream: Where to; standard error if None. Colours are used only if it is a terminal, and NO_COLOR is not set.
        clock: Seconds, for how long ago a record was.
    """
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *_common_processors(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # Modules make their loggers when imported, before this call: cached ones would keep the old settings.
        cache_logger_on_first_use=False,
    )
    handler = _Handler(stream, _renderer(format, colours=_shows_colours(stream)))
    handler.addFilter(_Repeats(clock))
    _install(handler, threshold)
    # aiokafka informs of every coordinator that it finds again, which under Kafka 4 is some times a minute (KIP-890).
    logging.getLogger("aiokafka").setLevel(threshold if threshold <= logging.DEBUG else max(threshold, logging.WARNING))


def _shows_colours(stream: TextIO) -> bool:
    """See https://no-color.org; a dumb terminal would print what makes them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


class _Handler(logging.StreamHandler[TextIO]):
    """A class of our own, so that a second `configure` finds the first one's handler, and no one else's."""

    def __init__(self, stream: TextIO, renderer: Processor) -> None:
        super().__init__(stream)
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=_common_processors(),
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    _to_plain_values,
                    renderer,
                ],
            )
        )


def _common_processors() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _install(handler: _Handler, threshold: int) -> None:
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    # The handler has the threshold too, and not only the root: a record that a filter demotes has passed the
    # root's check by then.
    handler.setLevel(threshold)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name, each in _FILTERS.items():
        logging.getLogger(name).addFilter(each)


def _renderer(format: LogFormat, *, colours: bool) -> Processor:
    return _render_json if format == "json" else _TextRenderer(colours)


# Noise and secrets of libraries


class _Repeats(logging.Filter):
    """Lets through one record in `REPEAT_SECONDS` of those of aiokafka that differ in their arguments alone."""

    _KINDS = 1_000  # more than it has: a text that is new each time must not be kept for ever

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("aiokafka")
        self._clock = clock
        self._shown: dict[tuple[str, str], float] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is shown; the next one says how many were not."""
        if not super().filter(record) or record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        if now - self._shown.get(kind, -math.inf) < REPEAT_SECONDS:
            self._left_out[kind] += 1
            return False
        if len(self._shown) >= self._KINDS:
            self._shown.clear()
            self._left_out.clear()
        self._shown[kind] = now
        if left_out := self._left_out.pop(kind, 0):
            record.msg = f"{record.msg} (and {left_out} more like it)"
        return True


def _is_harmless_retry(record: logging.LogRecord) -> bool:
    """Whether a produce is repeated because the last transaction's markers are still being written (KIP-890).

    Kafka 4 answers NotEnoughReplicas for that, since clients repeat on it without asking for metadata;
    versions of the protocol that carry a message name the true cause in it. Where replicas really are
    missing, it does not end with a few repetitions: the transaction's own time-out then says so.
    """
    if not str(record.msg).startswith("Got error produce response on topic-partition"):
        return False
    text = record.getMessage()
    return "NotEnoughReplicasError" in text or "CONCURRENT_TRANSACTIONS" in text


def _is_new_topic(record: logging.LogRecord) -> bool:
    """Whether something is asked for again because a topic was just made: the input's, or the groups' own."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return str(record.msg).startswith(_ASKED_AGAIN) and any(isinstance(each, _NEW_TOPIC) for each in arguments)


def _is_malformed_request(record: logging.LogRecord) -> bool:
    """Whether aiohttp reports a client that does not speak HTTP (a port scan, TLS to a plain port)."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__ == "aiohttp.http_exceptions"


def _is_left_by_aiokafka(record: logging.LogRecord) -> bool:
    """Whether asyncio found a future or task of a client that was given up while its broker was away or refused.

    Whoever waited for that client has been told, and says so. Tasks of ours that fail unheard are not among them.
    """
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    is_future = text.startswith("Future exception was never retrieved") and isinstance(error, KafkaError)
    return is_future or (text.startswith("Task was destroyed") and "aiokafka" in text)


def _demote(is_noise: Callable[[logging.LogRecord], bool]) -> Callable[[logging.LogRecord], bool]:
    """A filter that turns the records which `is_noise` knows into debug ones, and lets all through."""

    def demote(record: logging.LogRecord) -> bool:
        if is_noise(record):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return True

    return demote


def _is_no_login(record: logging.LogRecord) -> bool:
    """Whether a request or an answer that aiokafka logs (with its bytes, when debugging) carries no password."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(each).__name__.startswith("SaslAuthenticate") for each in arguments)


def _is_forgotten_connection(record: logging.LogRecord) -> bool:
    """Whether a connection that nobody has any more was collected while it waited to read, as at a rejoin."""
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, RuntimeError) and "already awaited coroutine" in str(error)


def _of_connections(record: logging.LogRecord) -> bool:
    return _demote(_is_forgotten_connection)(record) and _is_no_login(record)


_FILTERS: Final = {
    "aiokafka.conn": _of_connections,
    "aiokafka.consumer.fetcher": _demote(_is_new_topic),
    "aiokafka.consumer.group_coordinator": _demote(_is_new_topic),
    "aiokafka.producer.sender": _demote(_is_harmless_retry),
    "aiohttp.server": _demote(_is_malformed_request),
    "asyncio": _demote(_is_left_by_aiokafka),
}
"""Filter by logger; made once, so that adding them again at a second `configure` changes nothing."""


# Values


def _to_plain_values(logger: WrappedLogger, name: str, event_dict: EventDict) -> EventDict:
    """Processor: secrets masked, and only values that JSON has."""
    return {str(key): _plain(value) for key, value in event_dict.items()}


def _plain(value: object) -> object:
    match value:
        case Secret() | SecretStr() | SecretBytes():
            return MASK
        case np.generic():
            return _plain(value.item())
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no NaN and no infinity, and strict readers refuse the line
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)  # the value, not the member, of a StrEnum
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _:
            return str(value)


# Renderers


def _render_json(logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
    leading = {key: event_dict.pop(key) for key in _LEADING_KEYS if key in event_dict}
    return json.dumps({**leading, **event_dict})


class _TextRenderer:
    """`time level event key=value ... [logger]`; what could forge a line or steer a terminal is escaped."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        time, level, origin, event = (str(event_dict.pop(key, "")) for key in _LEADING_KEYS)
        tracebacks = [str(event_dict.pop(key)) for key in _TRACEBACK_KEYS if key in event_dict]
        pairs = [f"{_quoted(key)}={_quoted(value)}" for key, value in event_dict.items()]
        paint = self._paint(level)
        line = " ".join([time, paint(f"{level:<8}"), f"{_escaped(event):<40}", *pairs, f"[{origin}]"])
        return "\n".join([line, *(_indented(text) for text in tracebacks)])

    def _paint(self, level: str) -> Callable[[str], str]:
        code = _COLOURS.get(level, "0")
        return (lambda text: f"\x1b[{code}m{text}\x1b[0m") if self._colours else str


def _as_json(text: str) -> str:
    # JSON leaves DEL as it is, and, without ensure_ascii, the C1 controls and marks of writing direction too.
    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", "\\u007f")


def _escaped(text: str) -> str:
    return text if text.isprintable() else _as_json(text)[1:-1]


def _quoted(value: object) -> str:
    """The value as it is where nobody can mistake its end, else as JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = value.isprintable() and not set(value) & set(' "=')
    return value if value and is_plain else _as_json(value)


def _indented(text: str) -> str:
    return "\n".join(f"    {_escaped(line)}" for line in text.splitlines())
