"""`streamer feed`: publishes a file of prices as ticks."""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.interrupt import stop_on_signals
from streamer.commands.terminal import progress, say, waiting
from streamer.errors import ConfigError, DecodeError, ExitCode

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.feeding import Route
    from streamer.pricefile import PriceFile, Survey

_ANSWER_SECONDS = 30.0  # in which the broker has to acknowledge; it was there a moment ago

_EPILOG = """\
examples:
  streamer feed -c config/streamer.yaml prices.csv --rate 10
  streamer feed -c config/streamer.yaml prices.csv --rate 0 --keep-times --limit 10000
  streamer feed -c config/streamer.yaml prices.csv --live                         as if it came from now on

DATA.csv: first column the time (ISO-8601, UTC if it has no zone; or epoch milliseconds), then a column of prices per
symbol; a blank cell is no price. The whole file is checked before anything is sent. Ctrl-C stops it and says how many
were sent.
"""


def add_parser(commands: Any) -> None:
    """Add `feed` to the commands."""
    parser = commands.add_parser(
        "feed",
        help="publish a CSV of prices as ticks",
        description="Publish the rows of a CSV to kafka.topics.prices, a tick each, at a steady rate.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA.csv", help="file of prices")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument(
        "--rate", type=types.rate, default=1.0, metavar="N", help="ticks a second (default 1); 0: no pause"
    )
    times = parser.add_mutually_exclusive_group()
    times.add_argument(
        "--keep-times", action="store_true", help="send the times of the file; else shifted so that the last is now"
    )
    times.add_argument(
        "--live", action="store_true", help="shift them so that the first is now, and send each when its time comes"
    )
    parser.add_argument("--limit", type=types.count, metavar="N", help="only the first N rows")
    parser.add_argument("--key", metavar="KEY", help="record key: the stream's name")
    parser.add_argument(
        "--partition", type=types.natural, metavar="N", help="partition (default: by the key; 0 without)"
    )
    parser.add_argument(
        "--partitions",
        type=types.count,
        default=1,
        metavar="N",
        help="partitions of the topic if it is missing and made (default 1)",
    )
    parser.add_argument("--json", action="store_true", help="print what was sent as JSON")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Send the file; 0 at its end and after Ctrl-C."""
    from streamer.config import load
    from streamer.pricefile import PriceFile
    from streamer.service import logs

    settings = load(arguments.config, os.environ)
    logs.configure("warning", "text")
    file = PriceFile(arguments.data)
    with waiting(f"checking {arguments.data}"):
        survey = file.survey(arguments.limit)
    _refuse_other_formats(settings, file)
    asyncio.run(_feed(arguments, settings, file, survey))
    return ExitCode.STOPPED


def _refuse_other_formats(settings: "Settings", file: "PriceFile") -> None:
    """Ticks go out in the format of the default: where `input` reads another, they would be dead letters."""
    from streamer import decoding
    from streamer.feeding import encode_tick

    tick = next(file.ticks(1))
    record = SimpleNamespace(value=encode_tick(tick), key=None, headers=(), timestamp=tick.time)
    try:
        _, found = decoding.decoder(settings).decode(record)
        if found.time == tick.time and found.prices.keys() == tick.prices.keys():
            return
        error = "another time, or other symbols"
    except DecodeError as refusal:
        error = str(refusal)
    raise ConfigError(
        f'`streamer feed` writes {{"ts": ..., "prices": {{...}}}}, which `input` of the configuration does not read as'
        f" that ({error}): feed it by a configuration without input.codec and input.fields"
    )


async def _feed(arguments: argparse.Namespace, settings: "Settings", file: "PriceFile", survey: "Survey") -> None:
    from streamer.codec import format_time
    from streamer.feeding import Publisher, Route, shift_to, shifted
    from streamer.service.access import Access

    stop = asyncio.Event()
    stop_on_signals(stop)
    key = None if arguments.key is None else arguments.key.encode()
    route = Route(settings.kafka.topics.prices, key, arguments.partition)
    await _require_topic(settings, route, arguments.partitions, stop)
    if stop.is_set():
        return
    now = time.time_ns() // 1_000_000
    of_now = survey.first if arguments.live else survey.last
    shift = 0 if arguments.keep_times else shift_to(now, of_now, settings.feed.step_ms)
    rate = None if arguments.live else arguments.rate
    span = f"{format_time(survey.first + shift)} to {format_time(survey.last + shift)}"
    say(f"feeding {survey.rows} ticks of {span} to {route.topic} at {settings.kafka.bootstrap_servers}")
    began = time.monotonic()
    access = Access(settings.kafka).options()
    async with Publisher(settings.kafka.bootstrap_servers, route, _ANSWER_SECONDS, access) as publisher:
        try:
            with progress("sending", survey.rows) as advance:
                ticks = shifted(file.ticks(arguments.limit), shift)
                await publisher.publish(ticks, rate, stop, advance)
        finally:
            seconds = time.monotonic() - began
            ending = "interrupted: " if stop.is_set() else ""
            say(f"{ending}sent {publisher.acknowledged} of {survey.rows} ticks in {seconds:.1f} s")
    if arguments.json:
        figures = {
            "topic": route.topic,
            "rows": survey.rows,
            "sent": publisher.acknowledged,
            "first": format_time(survey.first + shift),
            "last": format_time(survey.last + shift),
            "seconds": round(seconds, 3),
            "interrupted": stop.is_set(),
        }
        print(json.dumps(figures))


async def _require_topic(settings: "Settings", route: "Route", partitions: int, stop: asyncio.Event) -> None:
    """Wait for the broker, then make the topic if it is missing and may be made. BrokerError, ConfigError."""
    from streamer.service.broker import Broker

    broker = Broker(settings.kafka, input_span=0)
    await broker.connect(stop)
    try:
        if stop.is_set() or route.topic in await broker.admin.list_topics():
            return
        if not settings.kafka.create_topics:
            raise ConfigError(
                f"topic {route.topic!r} (kafka.topics.prices) does not exist at {settings.kafka.bootstrap_servers}:"
                " create it, or set kafka.create_topics"
            )
        await broker.create_topics([route.topic], partitions)
    finally:
        await broker.close()
