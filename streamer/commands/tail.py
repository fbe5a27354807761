"""`streamer tail`: watches a topic."""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.interrupt import stop_on_signals
from streamer.commands.terminal import is_live, say
from streamer.errors import BrokerError, ConfigError, ExitCode, UsageError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord

    from streamer.config import Settings
    from streamer.rendering import Formats

_TOPICS = ("forecasts", "prices", "dead-letters")
_FETCH_MS = 500  # between two looks at whether to stop

_EPILOG = """\
examples:
  streamer tail -c config/streamer.yaml                   a table on a terminal, lines in a pipe
  streamer tail -c config/streamer.yaml --lines
  streamer tail -c config/streamer.yaml --from earliest --limit 100 --json | jq .yhat
  streamer tail prices -c config/streamer.yaml
  streamer tail dead-letters -c config/streamer.yaml --from earliest

On a terminal forecasts are a table, a row per stream and symbol: time, price, forecast and interval, the error of the
forecast before it, and the skill (1 - RMSE / RMSE of "same as the last price") since the table began; a price that was
blank counts there as one that stayed. Elsewhere, or with --lines, a forecast is one line: as_of -> target, stream,
model, then per symbol its last price -> forecast [interval]. A tick: its record, time, stream and prices, as `input` of
the configuration reads them, or why it is none.
It joins no group and sees only what is committed. Ctrl-C ends it.
"""


def add_parser(commands: Any) -> None:
    """Add `tail` to the commands."""
    parser = commands.add_parser(
        "tail",
        help="watch forecasts, prices or dead letters",
        description="Show the records of a topic as they come.",
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
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON, a value a line; a dead letter with its reason")
    form.add_argument("--lines", action="store_true", help="a line a record on a terminal too")
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
    from aiokafka.errors import KafkaError

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
    try:
        await consumer.start()
        await _print_all(consumer, arguments, formats, stop)
    except KafkaError as error:  # such as a topic that this user may see and not read
        raise BrokerError(f"{settings.kafka.bootstrap_servers}: {error!r}") from error
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
    # The end is looked up now, not with the first fetch: what is sent once the next line is out is shown.
    for tp in consumer.assignment():
        await consumer.position(tp)
    say(f"watching {', '.join(sorted(consumer.subscription()))}")
    topic, left = arguments.topic, arguments.limit
    with _shown(arguments, formats) as show:
        while not stop.is_set():
            for records in (await consumer.getmany(timeout_ms=_FETCH_MS, max_records=left)).values():
                await formats.prepare(topic, records)
                show(records)
                if left is not None:
                    left -= len(records)
            if left == 0:
                return


@contextmanager
def _shown(arguments: argparse.Namespace, formats: "Formats") -> "Iterator[Callable[[list[ConsumerRecord]], None]]":
    """How records are shown: forecasts as a table where it can be kept up to date, else a line each."""
    if arguments.topic == "forecasts" and is_live(sys.stdout) and not (arguments.json or arguments.lines):
        with _table(formats) as show:
            yield show
        return
    from streamer.rendering import as_json, as_text

    topic, width = arguments.topic, shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def lines(records: "list[ConsumerRecord]") -> None:
        for record in records:
            text = as_json(topic, record, formats) if arguments.json else as_text(topic, record, width, formats)
            print(text, flush=True)

    yield lines


@contextmanager
def _table(formats: "Formats") -> "Iterator[Callable[[list[ConsumerRecord]], None]]":
    from rich.console import Console
    from rich.live import Live

    from streamer.rendering import value_of
    from streamer.watching import Watch

    console, watch = Console(), Watch()
    with Live(watch.table(*console.size), console=console, auto_refresh=False) as live:

        def show(records: "list[ConsumerRecord]") -> None:
            for record in records:
                watch.take(value_of(record, formats))
            live.update(watch.table(*console.size), refresh=True)

        yield show
