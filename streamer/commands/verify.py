"""`streamer verify`: published forecasts, computed again."""

import argparse
import asyncio
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.terminal import progress, say
from streamer.errors import BrokerError, ConfigError, ExitCode

if TYPE_CHECKING:
    from streamer.settings import Settings
    from streamer.verification.comparison import Tally
    from streamer.verification.run import Asked, Judged

_EPILOG = """\
examples:
  streamer verify -c config/streamer.yaml
  streamer verify -c config/streamer.yaml --stream AAPL --from 120000 --to 130000
  streamer verify -c config/streamer.yaml --json | jq '.streams[] | select(.different > 0)'

It computes each forecast again from the input topic, the model store and the swaps that are recorded there, with the
code that serves, and compares it with the one that was published: bit for bit on the kind of processor and the package
versions it was served with, else to 1e-6. It begins at the newest checkpoint before the range, which the daemon keeps
in the store at each swap, once a day of the ticks' time, and after a start. What it cannot judge, it says, and why.

columns: JUDGED input offsets, of which so many have FORECASTS; EQUAL in all bytes; WITHIN 1e-6, where bits need not be
equal; DIFFERENT; MISSING: nothing was published; UNEXPECTED: a forecast of a message that has none; DOUBLED: published
once more, in the same bytes, which at least once may do.

exit codes: 0 all that could be judged is equal; 1 something differs, is missing, or should not be there (by
kafka.delivery exactly_once nothing is there twice); 3 nothing could be judged, or the configuration is of no use.
"""


def add_parser(commands: Any) -> None:
    """Add `verify` to the commands."""
    parser = commands.add_parser(
        "verify",
        help="compute published forecasts again and compare",
        description="Compute published forecasts again from the input topic and the model store, and compare.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("--stream", metavar="NAME", help="only this stream")
    parser.add_argument("--partition", type=types.natural, metavar="N", help="only this partition of the input")
    parser.add_argument(
        "--from",
        dest="start",
        type=_bound("earliest"),
        metavar="OFFSET",
        help="first input offset to judge, or earliest (default): the oldest that the topic holds",
    )
    parser.add_argument(
        "--to",
        dest="end",
        type=_bound("latest"),
        metavar="OFFSET",
        help="input offset before which to end, or latest (default): what the group has dealt with",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=handle)


def _bound(word: str) -> Callable[[str], int | None]:
    def offset(text: str) -> int | None:
        if text == word:
            return None
        if not (text.isdecimal() and text.isascii() and len(text) < 19):
            raise argparse.ArgumentTypeError(f"found {text!r}, expected an offset or {word}")
        return int(text)

    return offset


def handle(arguments: argparse.Namespace) -> int:
    """Compare, and print what came of it."""
    from streamer.config import load
    from streamer.service import logs
    from streamer.verification.run import Asked

    settings = load(arguments.config, os.environ)
    logs.configure("warning", "text")
    asked = Asked(arguments.stream, arguments.partition, arguments.start, arguments.end)
    found = asyncio.run(_verify(settings, asked))
    if arguments.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
    _explain(found, asked, settings.kafka.topics.forecasts)
    return _code(found, is_once=settings.kafka.delivery == "exactly_once")


async def _verify(settings: "Settings", asked: "Asked") -> "list[Judged]":
    from aiokafka.errors import KafkaError

    from streamer.service import wiring
    from streamer.service.broker import Broker
    from streamer.service.starting import start_codec
    from streamer.verification.run import Verifier

    partitions = wiring.partition_settings(settings)
    broker = Broker(settings.kafka, settings.feed.step_ms * settings.retrain.history)
    stop, limit = asyncio.Event(), settings.kafka.startup_timeout
    try:
        await broker.connect(stop)
        topics, counts = settings.kafka.topics, await broker.partition_counts()
        for topic in (topics.prices, topics.forecasts, topics.dead_letters):
            if topic not in counts:
                raise ConfigError(
                    f"topic {topic!r} does not exist at {settings.kafka.bootstrap_servers}: check its name"
                )
        if partitions.decoder is not None:
            await start_codec(partitions.decoder.codec, None, limit, stop)
        await start_codec(partitions.codec, topics.forecasts, limit, stop)
        with progress("reading", None) as advance:

            def show(partition: int, start: int, at: int, end: int) -> None:
                advance(at - start, f"partition {partition}", end - start)

            verifier = Verifier(broker, wiring.model_store(settings), partitions, show)
            return await verifier.run(asked, counts[topics.prices])
    except KafkaError as error:
        raise BrokerError(f"{settings.kafka.bootstrap_servers}: {error!r}") from error
    finally:
        await broker.close()


def _rows(found: "Sequence[Judged]") -> "Iterator[tuple[Judged, str, Tally]]":
    for judged in found:
        for name, tally in sorted(judged.tallies.items()):
            yield judged, name, tally


def _code(found: "Sequence[Judged]", *, is_once: bool) -> int:
    tallies = [tally for _, _, tally in _rows(found)]
    if any(tally.faults or (is_once and tally.doubled) for tally in tallies):
        return ExitCode.FAILURE
    return ExitCode.STOPPED if any(tally.judged for tally in tallies) else ExitCode.UNMENDABLE


def _comparison(tally: "Tally") -> str | None:
    """What was compared by, None where nothing was."""
    from streamer.verification.comparison import TOLERANCE

    if not tally.judged:
        return None
    return f"{TOLERANCE:g}" if tally.others else "bits"


def _as_json(found: "Sequence[Judged]") -> dict[str, Any]:
    streams = []
    for judged, name, tally in _rows(found):
        entry = {"stream": name or None, "partition": judged.partition, **asdict(tally)}
        entry |= {"others": sorted(tally.others), "sections": sorted(tally.sections)}
        streams.append(entry | {"unjudged": dict(tally.unjudged), "comparison": _comparison(tally)})
    names = ("partition", "start", "end", "replayed", "published", "foreign", "seconds")
    return {"partitions": [{name: getattr(each, name) for name in names} for each in found], "streams": streams}


def _print(found: "Sequence[Judged]") -> None:
    from streamer.rendering import escaped

    counts = ("judged", "forecasts", "equal", "within", "different", "missing", "unexpected", "doubled")
    rows = [["STREAM", "PARTITION", *map(str.upper, counts), "NOT JUDGED", "COMPARED BY"]]
    notes = []
    for judged, name, tally in _rows(found):
        cells = [f"{getattr(tally, count)}" for count in counts]
        where = escaped(name) or "-"
        rows.append([where, str(judged.partition), *cells, str(tally.unjudged.total()), _comparison(tally) or "-"])
        notes += [f"{where}: {count} not judged: {escaped(reason)}" for reason, count in tally.unjudged.items()]
        for each in tally.differences:
            notes += [f"{where}: offset {each.offset}: {escaped(what)}" for what in each.what]
        if tally.again:
            more = ", ..." if tally.doubled > len(tally.again) else ""
            notes.append(f"{where}: published once more, in the same bytes: {', '.join(map(str, tally.again))}{more}")
        if tally.untold:
            notes.append(f"{where}: and {tally.untold:,} more")
        if tally.others:
            notes.append(
                f"{where}: not to the bit, as these are others than where it was served: {_names(tally.others)}"
            )
        if tally.sections:
            notes.append(f"{where}: made under other settings in part: {_names(tally.sections)}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for note in notes:
        print(note)


def _explain(found: "Sequence[Judged]", asked: "Asked", forecasts: str) -> None:
    """What was gone through, and why there is nothing where there is nothing."""
    for judged in found:
        where = f"partition {judged.partition}"
        if judged.start >= judged.end:
            say(f"{where}: there is nothing from offset {judged.start} on, as the group has come to {judged.end}")
            continue
        rate = judged.replayed / max(judged.seconds, 1e-9)
        say(
            f"{where}, offsets {judged.start} to {judged.end}: {judged.replayed:,} records in {judged.seconds:.1f} s,"
            f" {rate:,.0f} a second"
        )
        if not judged.published and any(tally.forecasts for tally in judged.tallies.values()):
            say(f"{where}: topic {forecasts!r} has no forecast of it at all: see kafka.topics.forecasts")
    if not found:
        say("the group has committed nothing yet")
    elif asked.stream is not None and not any(asked.stream in judged.tallies for judged in found):
        say(f"--stream: there is no record of {asked.stream!r} among those")


def _names(found: "set[str]") -> str:
    return ", ".join(sorted(found))
