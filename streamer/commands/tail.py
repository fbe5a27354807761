"""`streamer tail`: watches a topic."""

import argparse
import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.interrupt import stop_on_signals
from streamer.errors import ConfigError, ExitCode, UsageError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from streamer.config import Settings
    from streamer.rendering import Formats

_TOPICS = ("forecasts", "prices", "dead-letters")
_FETCH_MS = 500  # between two looks at whether to stop

_EPILOG = """\
examples:
  streamer tail -c config/streamer.yaml
  streamer tail -c config/streamer.yaml --from earliest --limit 100 --json | jq .yhat
  streamer tail prices -c config/streamer.yaml
  streamer tail dead-letters -c config/streamer.yaml --from earliest

A forecast is one line: as_of -> target, stream, model, then per symbol its last price -> forecast [interval]. A tick:
its record, time, stream and prices, as `input` of the configuration reads them, or why it is none.
It joins no group and sees only what is committed. Ctrl-C ends it.
"""


def add_parser(commands: Any) -> None:
    """Add `tail` to the commands."""
    parser = commands.add_parser(
        "tail",
        help="watch forecasts, prices or dead letters",
        description="Print the records of a topic as they come.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument(
        "watched",
        nargs="?",
        choices=_TOPICS,
        metavar="TOPIC",
        help="what to watch: forecasts (default), prices as the configuration reads them, or dead-letters",
    )
    parser.add_argument("--topic", choices=_TOPICS, help="the same")
    parser.add_argument(
        "--from",
        dest="start",
        choices=("latest", "earliest"),
        default="latest",
        help="only what comes from now on (default), or first all that is there",
    )
    parser.add_argument("--limit", type=types.count, metavar="N", help="end after N records")
    parser.add_argument("--json", action="store_true", help="JSON, a value a line; a dead letter with its reason")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Print records until Ctrl-C or the limit."""
    from streamer.config import load
    from streamer.service import logs

    if arguments.watched and arguments.topic:
        raise UsageError("tail: give the topic once, as TOPIC or as --topic TOPIC")
    arguments.topic = arguments.watched or arguments.topic or "forecasts"
    settings = load(arguments.config, os.environ)
    logs.configure("warning", "text")
    asyncio.run(_tail(arguments, settings))
    return ExitCode.STOPPED


async def _tail(arguments: argparse.Namespace, settings: "Settings") -> None:
    from aiokafka import AIOKafkaConsumer

    from streamer.rendering import Formats
    from streamer.service.access import Access
    from streamer.service.broker import stop_consumer

    formats = Formats.of(settings)
    stop = asyncio.Event()
    stop_on_signals(stop)
    topic = getattr(settings.kafka.topics, arguments.topic.replace("-", "_"))
    await require_topic(settings, topic, arguments.topic, stop)
    if stop.is_set():
        return
    consumer = AIOKafkaConsumer(
        topic,
        **Access(settings.kafka).options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset=arguments.start,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        await _print_all(consumer, arguments, formats, stop)
    finally:
        await stop_consumer(consumer)


async def require_topic(settings: "Settings", topic: str, name: str, stop: asyncio.Event) -> None:
    """Refuse a topic that is missing: to subscribe to it would create it, at brokers that allow that."""
    from streamer.service.broker import Broker

    broker = Broker(settings.kafka, input_span=0)
    await broker.connect(stop)
    try:
        if not stop.is_set() and topic not in await broker.admin.list_topics():
            raise ConfigError(
                f"topic {topic!r} (kafka.topics.{name.replace('-', '_')}) does not exist at"
                f" {settings.kafka.bootstrap_servers}: `streamer {'feed' if name == 'prices' else 'run'}` makes it, or"
                " check the name"
            )
    finally:
        await broker.close()


async def _print_all(
    consumer: "AIOKafkaConsumer", arguments: argparse.Namespace, formats: "Formats", stop: asyncio.Event
) -> None:
    from streamer.rendering import as_json, as_text

    # The end is looked up now, not with the first fetch: what is sent once the next line is out is shown.
    for tp in consumer.assignment():
        await consumer.position(tp)
    print(f"streamer: watching {', '.join(sorted(consumer.subscription()))}", file=sys.stderr)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    topic, left = arguments.topic, arguments.limit
    while not stop.is_set():
        for records in (await consumer.getmany(timeout_ms=_FETCH_MS, max_records=left)).values():
            await formats.prepare(topic, records)
            for record in records:
                text = as_json(topic, record, formats) if arguments.json else as_text(topic, record, width, formats)
                print(text, flush=True)
                if left is not None:
                    left -= 1
        if left == 0:
            return
