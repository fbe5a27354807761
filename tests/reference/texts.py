"""What the code does not say of itself in words: exit codes, reasons, addresses. A test fails where one is missing."""

from streamer.codec import DecodeReason
from streamer.core.adjustment import INVALID
from streamer.errors import ExitCode

INTERRUPTED = 130

EXIT_CODES: dict[int, tuple[str, str]] = {
    ExitCode.STOPPED: ("stopped as asked, or done", "Nothing."),
    ExitCode.FAILURE: (
        "failed: the broker is away, three ticks in a row failed, the output's codec fails",
        "Restart; the last line on standard error says why.",
    ),
    ExitCode.USAGE: ("wrong usage: arguments, or a file that they name", "Mend the command; a restart does not help."),
    ExitCode.UNMENDABLE: (
        "a configuration or start-up that a restart cannot mend: a wrong key, password, certificate, topic, a port that"
        " is taken, a snapshot of a newer format",
        "Mend what the last line names. Supervisors should not restart on it.",
    ),
    INTERRUPTED: ("Ctrl-C before there was anything to keep", "Nothing."),
}
"""Meaning and remedy."""

REASONS: dict[str, tuple[str, str]] = {
    DecodeReason.EMPTY: ("The record has no value.", "Producers should send no tombstones to the input."),
    DecodeReason.TOO_LARGE: ("It has more bytes than `limits.message_bytes`.", "Raise the limit, or send less."),
    DecodeReason.MALFORMED: (
        "The codec cannot read it: no JSON, not UTF-8, not the schema's bytes.",
        "Look at the bytes by `streamer dlq show`; set `input.codec` to what the feed writes.",
    ),
    DecodeReason.WRONG_TYPE: (
        "A part of it is there with another type than expected, such as a price that is text.",
        "The detail names the path. Set `input.fields`, or `input.numbers: text`.",
    ),
    DecodeReason.MISSING_FIELD: (
        "The time, the prices, the symbol or the price is not where `input.fields` says.",
        "`streamer check-config FILE --sample 5` shows how messages are read.",
    ),
    DecodeReason.INVALID_KEY: (
        "The stream's name is not 1 to `limits.key_bytes` bytes of printable UTF-8.",
        "Mend the producer's keys, or set `input.fields.key`.",
    ),
    DecodeReason.INVALID_TIME: (
        "The time is no time: no zone, not from 1970 to 2199, no such day.",
        "Set `input.timezone`, or `input.time_unit`, to what the feed writes.",
    ),
    DecodeReason.TOO_MANY_SYMBOLS: (
        "The message, or with it the stream, would have more symbols than `limits.symbols`.",
        "Raise the limit, or set `feed.symbols` to those wanted.",
    ),
    DecodeReason.SYMBOL_TOO_LONG: ("A symbol has more characters than `limits.symbol_length`.", "Raise the limit."),
    DecodeReason.INVALID_SYMBOL: ("A symbol is empty or not printable.", "Mend the producer."),
    DecodeReason.LENGTH_MISMATCH: (
        "A list of prices has another length than `feed.symbols`.",
        "Set `feed.symbols` to what the feed lists, in its order.",
    ),
    DecodeReason.UNKNOWN_SCHEMA: (
        "The schema registry has no schema of that id.",
        "Register the schema, then send the messages again: what was refused stays refused.",
    ),
    "ahead": (
        "The time is more than `feed.max_ahead` after the record's timestamp.",
        "Mend the sender's clock; mind `input.time_unit`.",
    ),
    "no_price": ("None of its prices can be used: all blank, or not of the stream's symbols.", "See `feed.symbols`."),
    "too_many_streams": ("The partition has `limits.streams` streams already.", "Raise the limit, or mend the keys."),
    INVALID: (
        "A control message that cannot be heeded: unknown symbol or stream, name taken, no ratio.",
        "The detail says why; send a right one (`streamer adjust`).",
    ),
    "error": (
        "An exception that nobody expected; the stack trace is in a header.",
        "It is a fault of streamer or of a codec of your own: report it. Three in a row end the process.",
    ),
}
"""Meaning and remedy of each reason of a dead letter."""

ENDPOINTS: dict[str, str] = {
    "GET /": "The live page, for people.",
    "GET /metrics": "For Prometheus, in its text formats; compressed where asked for.",
    "GET /livez": "200 while the process makes progress, else 503: restart it. JSON: `live`, `checks`, `failing`.",
    "GET /readyz": "200 while it serves: broker there, group joined, state restored; else 503. JSON: `ready`, `checks`,"
    " `failing`.",
    "GET /api/v1/streams": "JSON by stream: `model`, `reverted` (ids that never serve again), `training`.",
    "GET /api/v1/overview": "JSON: the process, and 25 rows of its symbols; `search`, `sort`, `page`.",
    "GET /api/v1/stream": "JSON: one symbol of a stream in full; `stream`, `symbol`, the first if none is named.",
    "GET /api/v1/events": "The same two as server-sent events, as they change; takes the parameters of both.",
    "POST /-/retrain": "Asks for a training of `stream`, or of all. Answers `requested` and `skipped`.",
    "POST /-/reload": "Takes over what has changed in the configuration. Answers `changed`, `pending` (partitions that"
    " are put back under it); 409 with `needs_restart` where it is refused.",
    "POST /-/revert": "Goes back to the model of before in `stream`. Answers `stream`, `reverted`, `model`.",
}
"""What each address is for."""
