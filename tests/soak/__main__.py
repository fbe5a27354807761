"""Kills and faults, round after round: nothing lost, nothing doubled, and the forecasts of a run without any.

A round has topics of its own with three partitions, and daemons of one group, one to three, behind a TCP proxy. While
they are fed all that a feed can hold, faults come at moments drawn from the seed:

  kill       SIGKILL: at any moment, in a restore, in a transaction, in a training (mode live)
  zombie     SIGSTOP for longer than the session timeout, then SIGCONT
  twin       a zombie that finds a second process under its own kafka.instance_id: one of them must end
  rebalance  one daemon more, or one less
  broker     the broker is stopped, and started on the same data
  network    delays, a stall, a trickle, a half-open connection, resets

Then a read_committed reader looks for exactly one outcome of each input offset, that which an oracle expects, in order;
and an undisturbed daemon that is given the same input and the same swaps must publish the same bytes. In mode schedule
the swaps are given to both; in mode live the daemons train, and the second run gets the swaps that were recorded.

Each round ends with a line of JSON, on stdout and in --out. A run with the same --out goes on behind its last round.
Round N of seed S is always drawn alike (--first N --rounds 1 repeats it); what the machine makes of it is not.
Exit code 1: something was lost, doubled or different, a daemon ended by itself, or a zombie that woke up led to more
than three fencings. The logs of such a round are kept, the broker's too (DumpLogSegments of kafka-tools reads them).
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from random import Random
from typing import Any

from streamer.model.artifact import Artifact
from tests.soak import round as rounds
from tests.soak.faults import KINDS
from tests.soak.fleet import Cluster
from tests.support import CHECKOUT

_FAULTS = {"kill": 10, "zombie": 1, "rebalance": 3, "broker": 1, "network": 2}


def main() -> int:
    """Run the rounds; 1 if one of them was not clean."""
    arguments = _parser().parse_args()
    done = _done(arguments.out)
    seed = arguments.seed or (done[-1]["seed"].rpartition("/")[0] if done else str(secrets.randbelow(10**6)))
    first = arguments.first or (int(done[-1]["seed"].rpartition("/")[2]) + 1 if done else 1)
    print(f"seed {seed}, from round {first}", file=sys.stderr)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the feed's own producer, when the broker is stopped
    try:
        return asyncio.run(_rounds(arguments, seed, first))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds of this run (%(default)s)")
    parser.add_argument("--seed", metavar="S", help="any text (the one in --out, or a new one)")
    parser.add_argument("--first", type=int, metavar="N", help="number of the first round (the next of --out, or 1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="lines of JSON, one is added for each round")
    parser.add_argument("--mode", choices=("schedule", "live"), default="schedule", help="(%(default)s)")
    parser.add_argument(
        "--delivery", choices=("exactly_once", "at_least_once"), default="exactly_once", help="(%(default)s)"
    )
    parser.add_argument("--ticks", type=int, default=1000, metavar="N", help="of a round, at least (%(default)s)")
    parser.add_argument("--rate", type=float, default=60.0, metavar="R", help="ticks a second (%(default)s)")
    default = ",".join(f"{kind}:{count}" for kind, count in _FAULTS.items())
    parser.add_argument("--faults", type=_faults, default=_FAULTS, metavar="KIND:N,...", help=f"a round ({default})")
    return parser


def _faults(text: str) -> dict[str, int]:
    pairs = dict(part.split(":") for part in text.split(",") if part)
    if unknown := set(pairs) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: the kinds are {', '.join(KINDS)}")
    return {kind: int(count) for kind, count in pairs.items()}


def _done(out: Path | None) -> list[dict[str, Any]]:
    if out is None or not out.exists():
        return []
    return [json.loads(line) for line in out.read_text().splitlines()]


async def _rounds(arguments: argparse.Namespace, seed: str, first: int) -> int:
    is_clean, task, commit = True, asyncio.current_task(), _commit()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # or the daemons would be left behind
    with tempfile.TemporaryDirectory(prefix="streamer-soak-") as name:
        folder = Path(name)
        cluster = Cluster(folder / "kafka", Random(os.getpid()))
        await cluster.start()
        try:
            trained = await rounds.models(folder / "models") if arguments.mode == "schedule" else []
            for number in range(first, first + arguments.rounds):
                plan = rounds.Plan(
                    f"{seed}/{number}",
                    arguments.mode,
                    arguments.delivery,
                    arguments.ticks,
                    arguments.rate,
                    arguments.faults,
                )
                line = await one(cluster, folder, plan, trained) | {"commit": commit}
                is_clean = is_clean and line["clean"]
                _say(line, arguments.out)
        finally:
            await cluster.stop()
    return 0 if is_clean else 1


async def one(cluster: Cluster, folder: Path, plan: rounds.Plan, trained: list[Artifact]) -> dict[str, Any]:
    """One round in a folder of its own, which is kept where the round was not clean."""
    own = folder / f"round-{plan.seed.replace('/', '-')}"
    own.mkdir()
    try:
        line = await rounds.run(cluster, own, plan, trained)
    except Exception as error:
        (own / "traceback").write_text(traceback.format_exc())
        line = {"seed": plan.seed, "mode": plan.mode, "delivery": plan.delivery, "clean": False, "error": repr(error)}
        cluster.proxy.heal()
    if line["clean"]:
        shutil.rmtree(own)
    else:
        only_logs = shutil.ignore_patterns("*.index", "*.timeindex")  # sparse, and large in a copy
        with contextlib.suppress(shutil.Error):  # of what went meanwhile; all else is copied
            shutil.copytree(cluster.broker.directory, own / "kafka", ignore=only_logs)
        line["kept"] = shutil.move(own, tempfile.mkdtemp(prefix="streamer-soak-kept-"))
    return line


def _commit() -> str | None:
    """What is tested, to go with the seed; None outside a checkout."""
    described = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(described, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _say(line: dict[str, Any], out: Path | None) -> None:
    text = json.dumps(line)
    print(text, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
