"""`streamer dlq`: the messages that were no ticks, and why."""

import argparse
import asyncio
import base64
import json
import os
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.parser import examples_of
from streamer.commands.terminal import progress, say
from streamer.errors import BrokerError, ConfigError, ExitCode, StreamerError

if TYPE_CHECKING:
    from streamer.dead_letters import DeadLetter
    from streamer.service.broker import Broker
    from streamer.settings import Settings

_LIMIT = 100
_HEX_COLUMNS = 16

_EPILOG = """\
examples:
  streamer dlq list -c config/streamer.yaml
  streamer dlq list -c config/streamer.yaml --reason wrong_type --limit 1000 --json | jq .detail
  streamer dlq show prices-0-17 -c config/streamer.yaml
  streamer dlq show prices-0-17 -c config/streamer.yaml --json | jq -r .detail
  streamer dlq show prices-0-17 -c config/streamer.yaml --raw > message

A dead letter is one line: when it was sent, place of the message (topic-partition-offset), its key, reason, size, and
what was found. To send one once more: kcat -P -t prices -p 0 -k KEY message (a file is one message; without
-k it has no key; headers, which an adjustment needs, by -H). To watch them come, use streamer tail dead-letters.
"""


def add_parser(commands: Any) -> None:
    """Add `dlq` to the commands."""
    parser = commands.add_parser(
        "dlq",
        help="list and show dead letters",
        description="Look into the topic for dead letters (kafka.topics.dead_letters): messages that are no ticks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _action(actions, "list", "the newest dead letters, newest last", _list)
    listing.add_argument("--reason", metavar="NAME", help="only those refused for this")
    listing.add_argument(
        "--limit", type=types.count, default=_LIMIT, metavar="N", help=f"the newest N (default {_LIMIT})"
    )
    listing.add_argument("--json", action="store_true", help="a JSON object a line")
    show = _action(actions, "show", "all headers of a dead letter, and the message's bytes", _show)
    show.add_argument(
        "place",
        type=_place,
        metavar="TOPIC-PARTITION-OFFSET",
        help="where the message stood in the input, or its dead letter in the topic for those",
    )
    form = show.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="write the message's bytes and nothing else")
    form.add_argument("--json", action="store_true", help="a JSON object, with the message's bytes in base64")


def _action(actions: Any, name: str, text: str, work: Callable[..., Any]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=f"{text.capitalize()}.",
        epilog=examples_of(f"dlq {name}", _EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.set_defaults(handler=handle, work=work)
    return parser


def _place(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset; a topic's name may hold dashes too."""
    match = re.fullmatch(r"(.+)-([0-9]{1,9})-([0-9]{1,18})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a place such as prices-0-17")
    return match[1], int(match[2]), int(match[3])


def handle(arguments: argparse.Namespace) -> int:
    """Do one of the actions."""
    from streamer.config import load
    from streamer.service import logs

    settings = load(arguments.config, os.environ)
    logs.configure("warning", "text")
    asyncio.run(arguments.work(arguments, settings))
    return ExitCode.STOPPED


@asynccontextmanager
async def _connected(settings: "Settings") -> AsyncIterator[tuple["Broker", int]]:
    """The broker, and the number of partitions of the topic for dead letters, which has to be there."""
    from aiokafka.errors import KafkaError

    from streamer.service.broker import Broker

    broker = Broker(settings.kafka, input_span=0)
    topic = settings.kafka.topics.dead_letters
    try:
        await broker.connect(asyncio.Event())
        partitions = (await broker.partition_counts()).get(topic)
        if partitions is None:
            raise ConfigError(
                f"topic {topic!r} (kafka.topics.dead_letters) does not exist at {settings.kafka.bootstrap_servers}:"
                " `streamer run` makes it, or check the name"
            )
        yield broker, partitions
    except KafkaError as error:
        raise BrokerError(f"{settings.kafka.bootstrap_servers}: {error!r}") from error
    finally:
        await broker.close()


async def _letters(
    broker: "Broker", partition: int, start: int = 0, end: int | None = None
) -> AsyncIterator["DeadLetter"]:
    """Dead letters of one partition, in order: those that are there now, or of `[start, end)` of them."""
    from aiokafka import TopicPartition

    from streamer.dead_letters import DeadLetter

    tp = TopicPartition(broker.settings.topics.dead_letters, partition)
    first, behind = await broker.offsets(tp)
    first, behind = max(first, start), behind if end is None else min(behind, end)
    with progress(f"partition {partition}", behind - first) as advance:
        async for records in broker.read(tp, first, behind):
            for record in records:
                yield DeadLetter.of(record)
            advance(records[-1].offset + 1 - first)


# --- list -------------------------------------------------------------------------------------------------------------


async def _list(arguments: argparse.Namespace, settings: "Settings") -> None:
    """Only the lines of the newest are kept: a topic may hold more than memory does."""
    found: list[tuple[int, int, int, str]] = []
    count = 0
    async with _connected(settings) as (broker, partitions):
        for partition in range(partitions):
            newest: deque[tuple[int, int, int, str]] = deque(maxlen=arguments.limit)
            async for letter in _letters(broker, partition):
                if arguments.reason in (None, letter.reason):
                    count += 1
                    line = _as_json(letter) if arguments.json else _as_line(letter)
                    newest.append((letter.record.timestamp, partition, letter.record.offset, line))
            found = sorted([*found, *newest])[-arguments.limit :]
    for *_, line in found:
        print(line)
    if count > len(found):
        say(f"the newest {len(found)} of {count} (--limit N shows more)")
    elif not found:
        say(f"no dead letters in {settings.kafka.topics.dead_letters}")


def _as_json(letter: "DeadLetter") -> str:
    return json.dumps({"time": _time(letter), **letter.as_json()})


def _as_line(letter: "DeadLetter") -> str:
    from streamer.dead_letters import plain
    from streamer.rendering import escaped

    size = "no value" if letter.length is None else f"{letter.length} B"
    parts = (_time(letter), letter.source, plain(letter.record.key) or "-", letter.reason, size)
    return escaped("  ".join(map(str, (*parts, letter.detail))))


def _time(letter: "DeadLetter") -> str:
    from streamer.codec import END_OF_TIME, format_time

    time = letter.record.timestamp
    return format_time(time) if 0 <= time < END_OF_TIME else f"at {time} ms"


# --- show -------------------------------------------------------------------------------------------------------------


async def _show(arguments: argparse.Namespace, settings: "Settings") -> None:
    async with _connected(settings) as (broker, partitions):
        letter = await _find(broker, partitions, arguments.place)
    if arguments.json:
        print(_whole_json(letter))
    elif not arguments.raw:
        print(_described(letter))
    elif letter.is_cut:
        raise StreamerError(
            f"{letter.source}: its dead letter has only the beginning of {letter.length} bytes, read the message itself"
        )
    else:
        sys.stdout.buffer.write(letter.record.value or b"")
        sys.stdout.buffer.flush()


def _whole_json(letter: "DeadLetter") -> str:
    """All of it. A byte that is no text stands escaped in the headers; of the value there are the very bytes."""
    from streamer.dead_letters import plain

    value = letter.record.value
    whole = {
        "time": _time(letter),
        **letter.as_json(),
        "headers": [[name, plain(data)] for name, data in letter.record.headers],
        "value": plain(value),
        "value_base64": None if value is None else base64.b64encode(value).decode(),
        "cut": letter.is_cut,
    }
    return json.dumps(whole)


async def _find(broker: "Broker", partitions: int, place: tuple[str, int, int]) -> "DeadLetter":
    """The dead letter at a place, or the newest of the message there: both have the same partition number."""
    topic, partition, offset = place
    name = f"{topic}-{partition}-{offset}"
    is_own = topic == broker.settings.topics.dead_letters
    start, end = (offset, offset + 1) if is_own else (0, None)
    found = None
    if partition < partitions:
        async for letter in _letters(broker, partition, start, end):
            if name == (letter.place if is_own else letter.source):
                found = letter
    if found is None:
        where = broker.settings.topics.dead_letters
        raise StreamerError(f"{name} has no dead letter in topic {where!r}: see streamer dlq list")
    return found


def _described(letter: "DeadLetter") -> str:
    from streamer.dead_letters import plain
    from streamer.rendering import escaped

    record = letter.record
    fields = {
        "message": letter.source,
        "dead letter": letter.place,
        "sent": _time(letter),
        "key": "none" if record.key is None else plain(record.key),
        "reason": letter.reason,
        "detail": letter.detail,
    }
    lines = [f"{name:<13}{escaped(str(value))}" for name, value in fields.items()]
    lines += ["headers", *(f"  {escaped(f'{name}: {plain(data)}')}" for name, data in record.headers)]
    return "\n".join([*lines, *_value(letter)])


def _value(letter: "DeadLetter") -> list[str]:
    data = letter.record.value
    if data is None:
        return ["no value"]
    text = _as_text(data)
    cut = f", the first {len(data)} of them" if letter.is_cut else ""
    head = f"value, {letter.length} bytes{cut}{'' if text is not None else ', in hex'}"
    return [head, *(_hex_lines(data) if text is None else [text])]


def _as_text(data: bytes) -> str | None:
    """Text that a terminal can show as it is, None of anything else."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c in "\n\t" for c in text) else None


def _hex_lines(data: bytes) -> list[str]:
    """Offset, bytes, and what of them is ASCII, as `xxd` prints them."""
    lines = []
    for at in range(0, len(data), _HEX_COLUMNS):
        row = data[at : at + _HEX_COLUMNS]
        ascii_part = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<{3 * _HEX_COLUMNS}} {ascii_part}")
    return lines
