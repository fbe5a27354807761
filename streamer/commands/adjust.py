"""`streamer adjust`: tells a stream that a symbol was split, or renamed."""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.interrupt import stop_on_signals
from streamer.errors import DecodeError, ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.config import Settings
    from streamer.feeding import Route

_ANSWER_SECONDS = 30.0  # in which the broker has to acknowledge; it was there a moment ago

_EPILOG = """\
examples:
  streamer adjust -c config/streamer.yaml AAPL --split 4:1
  streamer adjust -c config/streamer.yaml FB --rename META --stream nasdaq
  streamer adjust -c config/streamer.yaml ESH6 --rename ESM6 --ratio 1.0042

It sends a control message to kafka.topics.prices, which takes effect where it stands among the ticks: send it after
the last tick in the old prices, or under the old name, and before the first in the new ones. `streamer dlq list` has
it if the stream cannot heed it. A program can send the same: the header `streamer-control: adjust`, the stream's key,
and as value {"symbol": "AAPL", "ratio": 0.25, "rename": "NEW"}, of which ratio or rename may be left out.
"""


def add_parser(commands: Any) -> None:
    """Add `adjust` to the commands."""
    parser = commands.add_parser(
        "adjust",
        help="tell a stream of a split or a rename",
        description="Say that a symbol has other units or another name from now on, so that nothing is shaken by it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("symbol", metavar="SYMBOL", help="the symbol, by its present name")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    ratios = parser.add_mutually_exclusive_group()
    ratios.add_argument(
        "--split", dest="ratio", type=types.split, metavar="NEW:OLD", help="4:1 if there are four for one (price / 4)"
    )
    ratios.add_argument("--ratio", type=types.ratio, metavar="X", help="what old prices are to be multiplied by")
    parser.add_argument("--rename", metavar="NEW", help="its name from now on")
    parser.add_argument("--stream", metavar="KEY", help="the stream's record key (default: records without a key)")
    parser.add_argument(
        "--partition", type=types.natural, metavar="N", help="partition (default: by the key; 0 without)"
    )
    parser.add_argument("--json", action="store_true", help="print what was sent, and where it is, as JSON")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Send it, and say where it is."""
    from streamer import control
    from streamer.config import load
    from streamer.feeding import Route
    from streamer.service import logs

    if arguments.ratio is None and arguments.rename is None:
        raise UsageError("nothing is said of the symbol: give --split, --ratio or --rename")
    settings = load(arguments.config, os.environ)
    logs.configure("warning", "text")
    value = control.encode(arguments.symbol, arguments.ratio, arguments.rename)
    try:
        control.decode(control.ADJUST, value, 0, settings.limits.for_decoding())
    except DecodeError as error:
        raise UsageError(error.detail) from error
    key = None if arguments.stream is None else arguments.stream.encode()
    route = Route(settings.kafka.topics.prices, key, arguments.partition)
    asyncio.run(_send(settings, route, value, as_json=arguments.json))
    return ExitCode.STOPPED


async def _send(settings: "Settings", route: "Route", value: bytes, *, as_json: bool) -> None:
    from streamer.commands.tail import require_topic
    from streamer.feeding import Publisher
    from streamer.service.access import Access

    stop = asyncio.Event()
    stop_on_signals(stop)
    await require_topic(settings, route.topic, "prices", stop)
    if stop.is_set():
        return
    access = Access(settings.kafka).options()
    async with Publisher(settings.kafka.bootstrap_servers, route, _ANSWER_SECONDS, access) as publisher:
        partition, offset = await publisher.control(value)
    stream = f"{route.topic}-{partition}" if route.key is None else route.key.decode()
    if as_json:
        place = {"topic": route.topic, "partition": partition, "offset": offset}
        print(json.dumps({"stream": stream, "sent": json.loads(value), **place}))
        return
    print(f"sent {value.decode()} to stream {stream}, as {route.topic}-{partition} offset {offset}")
