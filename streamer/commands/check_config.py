"""`streamer check-config`: what a configuration comes to, or all that is wrong with it."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.errors import BrokerError, ConfigError, DecodeError, ExitCode, UsageError

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from streamer.config import Settings
    from streamer.decoding import Decoder

_EPILOG = """\
examples:
  streamer check-config config/streamer.yaml
  STREAMER_KAFKA__BOOTSTRAP_SERVERS=broker:9092 streamer check-config --json
  streamer check-config config/streamer.yaml --sample 5    how the five newest messages of the feed are read

exit codes: 0 the settings can be used (not that the broker is there), and each message of the sample is a tick
(also of an empty topic); 1 one of them is none; 3 they cannot, or the broker or the topic is not there.
"""


def add_parser(commands: Any) -> None:
    """Add `check-config` to the commands."""
    parser = commands.add_parser(
        "check-config",
        help="show the effective settings, or what is wrong with them",
        description="Print the settings that a file and the environment come to, secrets masked. Problems go to"
        " standard error, one a line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the same, as other commands take it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of YAML; of a sample, a line a message")
    parser.add_argument(
        "--sample",
        type=types.count,
        metavar="N",
        help="instead, read the N newest messages of kafka.topics.prices, and show the time, stream and prices of each,"
        " or why it is no tick",
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Print the settings or the problems; of a sample, what becomes of each message."""
    from streamer import decoding
    from streamer.config import SettingsError, load

    if arguments.file and arguments.config:
        raise UsageError("check-config: give the file once, as FILE or as -c FILE")
    try:
        settings = load(arguments.file or arguments.config, os.environ)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return error.exit_code
    decoder = decoding.decoder(settings)
    decoding.encoder(settings)
    if arguments.sample:
        return _show_sample(settings, decoder, arguments)
    if arguments.json:
        print(json.dumps(settings.model_dump(), indent=2, ensure_ascii=False))
    else:
        print(settings.effective(), end="")
    return ExitCode.STOPPED


def _show_sample(settings: "Settings", decoder: "Decoder", arguments: argparse.Namespace) -> ExitCode:
    from streamer.service import logs

    logs.configure("error", "text")
    try:
        records = asyncio.run(_sample(settings, decoder, arguments.sample))
    except BrokerError as error:  # here nobody waits for it
        raise ConfigError(str(error)) from error
    topic = settings.kafka.topics.prices
    if not records:
        print(f"streamer: topic {topic!r} (kafka.topics.prices) has no messages yet", file=sys.stderr)
    readable = [_show(record, decoder, arguments) for record in records]
    print(f"streamer: {sum(readable)} of {len(readable)} messages are ticks", file=sys.stderr)
    return ExitCode.STOPPED if all(readable) else ExitCode.FAILURE


async def _sample(settings: "Settings", decoder: "Decoder", count: int) -> "list[ConsumerRecord]":
    """The newest messages, ready to be decoded. ConfigError where the topic is missing; BrokerError, RegistryError."""
    from aiokafka.errors import KafkaError

    from streamer.control import is_control
    from streamer.service.broker import Broker
    from streamer.service.sampling import newest
    from streamer.service.starting import start_codec

    never = asyncio.Event()
    await start_codec(decoder.codec, None, 0.0, never)
    broker, topic = Broker(settings.kafka, input_span=0), settings.kafka.topics.prices
    await broker.connect(never)
    try:
        counts = await broker.partition_counts()
        if topic not in counts:
            servers = settings.kafka.bootstrap_servers
            raise ConfigError(
                f"topic {topic!r} (kafka.topics.prices) does not exist at {servers}: check the name, or create it"
            )
        records = [each for each in await newest(broker, topic, counts[topic], count) if not is_control(each)]
        await decoder.prepare(records)
        return records
    except KafkaError as error:
        raise BrokerError(f"{settings.kafka.bootstrap_servers}: {error!r}") from error
    finally:
        await broker.close()


def _show(record: "ConsumerRecord", decoder: "Decoder", arguments: argparse.Namespace) -> bool:
    """Print what becomes of a message; whether it is a tick."""
    from streamer import rendering

    try:
        stream, tick = decoder.decode(record)
    except DecodeError as error:
        print((rendering.problem_json if arguments.json else rendering.problem_line)(record, error))
        return False
    as_json = arguments.json
    print(rendering.tick_json(record, stream, tick) if as_json else rendering.tick_line(record, stream, tick, None))
    return True
