"""`streamer data`: files of prices to try things out on."""

import argparse
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.terminal import say, waiting
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.core.tick import Tick

_PERIODS = 1000  # the article's
_DAY = 86_400_000  # ms

_EPILOG = """\
examples:
  streamer data sawtooth -o sawtooth.csv
  streamer data sawtooth --help
"""

_SAWTOOTH_EPILOG = """\
examples:
  streamer data sawtooth -o sawtooth.csv                          the article's: a and b, 17,990 rows
  streamer data sawtooth -o short.csv --rows 2000 --seed 1        other prices, fewer rows
  streamer data sawtooth -o stack.csv --columns 5 --step 1s       five columns, for the article's stack
  streamer backtest sawtooth.csv -c config/article.yaml           what can be learned of them
  streamer backtest stack.csv -c config/article-stack.yaml
  streamer feed -c config/streamer.yaml sawtooth.csv              to your Kafka

Column a is a triangle 1, 2, ... 9, 10, 9, ... 2 over and over, b the same nine rows later, c, d and e are 3, 12 and 6
rows later; all times one factor in (0.1, 1), which depends on the seed alone: it is one price step, the unit of an
error worth naming. The first ten rows, from 1970-01-01T00:00Z on, are left out, as in the article: times begin ten
steps later.
"""


def add_parser(commands: Any) -> None:
    """Add `data` to the commands."""
    parser = commands.add_parser(
        "data",
        help="make a file of prices to try things out on",
        description="Make a file of prices.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(title="kinds", metavar="KIND", required=True)
    _add_sawtooth(kinds)


def _add_sawtooth(kinds: Any) -> None:
    parser = kinds.add_parser(
        "sawtooth",
        help="triangles out of phase, which can be learned without error",
        description="Write the article's triangles to a file: a time column, then a column of prices each.",
        epilog=_SAWTOOTH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=_table, required=True, metavar="FILE", help=".csv or .parquet")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--periods", type=types.count, default=_PERIODS, metavar="N", help=f"of 18 rows each (default {_PERIODS})"
    )
    length.add_argument("--rows", type=types.count, metavar="N", help="rows to write, instead")
    parser.add_argument(
        "--columns", type=int, choices=range(1, 6), default=2, metavar="N", help="1 to 5 (default 2, the article's)"
    )
    parser.add_argument("--step", type=_step, default=60_000, metavar="TIME", help="from row to row (default 60s)")
    parser.add_argument("--seed", type=types.natural, default=0, metavar="N", help="of the factor (default 0)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(handler=write_sawtooth)


def write_sawtooth(arguments: argparse.Namespace) -> int:
    """Write the file, over one of that name."""
    from streamer.sawtooth import DROPPED, PERIOD, price_step, sawtooth

    rows = arguments.rows or PERIOD * arguments.periods - DROPPED
    try:
        with waiting(f"writing {arguments.output}"):
            ticks = sawtooth(rows, arguments.step, columns=arguments.columns, seed=arguments.seed, first=DROPPED)
            _write(ticks, arguments.output)
    except OSError as error:
        raise UsageError(f"{arguments.output} cannot be written: {error.strerror or error}") from error
    symbols, step = list(ticks[0].prices), price_step(arguments.seed)
    say(f"{rows} rows of {', '.join(symbols)} in {arguments.output}; one price step is {step:g}")
    if arguments.json:
        print(json.dumps({"file": str(arguments.output), "rows": rows, "symbols": symbols, "price_step": step}))
    return ExitCode.STOPPED


def _write(ticks: "Sequence[Tick]", path: Path) -> None:
    import pandas as pd

    from streamer.codec import format_time

    prices = pd.DataFrame([dict(tick.prices) for tick in ticks])
    if path.suffix == ".parquet":
        times = pd.to_datetime([tick.time for tick in ticks], unit="ms", utc=True)
        prices.set_axis(times.rename("timestamp"), axis=0).to_parquet(path)
    else:
        prices.set_axis(pd.Index([format_time(tick.time) for tick in ticks], name="timestamp"), axis=0).to_csv(path)


def _table(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".csv", ".parquet"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a name that ends in .csv or .parquet")
    return path


def _step(text: str) -> int:
    """A duration in milliseconds, a whole number of them."""
    from streamer.settings.types import DURATION

    try:
        milliseconds = Decimal(repr(DURATION.parse(text))) * 1000
    except ValueError:
        milliseconds = Decimal(0)
    if not 1 <= milliseconds <= _DAY or milliseconds % 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected whole milliseconds up to a day: 60s, 500ms")
    return int(milliseconds)
