"""What the daemons are fed: all that a feed can hold, with the outcome of each message, and swaps to go with it."""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from streamer.core.catchup import RING, TRAINED
from streamer.core.outcome import PERSISTENCE_MODEL, Swap
from streamer.model import artifact
from streamer.model.artifact import Artifact
from streamer.model.store import ModelStore
from tests.e2e.feeding import MINUTE, START
from tests.e2e.script import SYMBOLS, Expected, Script, iso
from tests.support import CHECKOUT

PARTITIONS = 3
HISTORY = 4_000
"""Ticks that a stream holds: more than a round feeds it, so that each model can be caught up at any time."""
WINDOW = 20

_TRIANGLE = [*range(10), *range(8, 0, -1)]
_LEARNED = 300  # rows of the scheduled models' training
_SWAP_EVERY = (20, 90)  # forecasts between two scheduled swaps


class Waves(Script):
    """A script whose prices can be learned: triangles with a little noise, each symbol shifted against the last."""

    def _move(self) -> dict[str, float]:
        return {
            symbol: round(_wave(self._now, number) * self._draw.uniform(0.9995, 1.0005), 4)
            for number, symbol in enumerate(SYMBOLS)
        }


def _wave(at: int, number: int) -> float:
    height: int = _TRIANGLE[(at + 6 * number) % len(_TRIANGLE)]
    return 10.0 * (number + 1) * (1.0 + 0.01 * height)


def streams(prices: str, messages: int, draw: random.Random, *, few: bool = False) -> list[Script]:
    """Keyed streams and one without a key, `messages` in all and some more. few: one for each partition."""
    named = [("alpha", 0), ("gamma", 1), (f"{prices}-2", 2), ("béta", 0), ("delta", 1)]
    chosen = named[:PARTITIONS] if few else named
    each = messages // len(chosen)
    return [_stream(name, partition, prices, each, draw) for name, partition in chosen]


def _stream(name: str, partition: int, prices: str, messages: int, draw: random.Random) -> Script:
    key = {} if name.startswith(prices) else {"key": name.encode()}
    script = Waves(name, draw.randrange(2**32), partition=partition, **key)
    before_restart = draw.randrange(messages)
    return script.extend(before_restart).restart_time().extend(messages - before_restart)


def in_turn(made: list[Script], draw: random.Random) -> list[Expected]:
    """The messages of all streams, mixed at random, each stream in its own order."""
    left = {script.name: iter(script.made) for script in made}
    turns = [script.name for script in made for _ in script.made]
    draw.shuffle(turns)
    return [next(left[name]) for name in turns]


# --- models and swaps -------------------------------------------------------------------------------------------------


async def train(folder: Path, settings: Path, count: int) -> list[Artifact]:
    """Train so many models with `streamer train` on the waves, each from other noise."""
    folder.mkdir(parents=True)
    models = []
    for number in range(count):
        data = folder / f"waves-{number}.csv"
        data.write_text("\n".join(_rows(random.Random(number))))
        arguments = (data, "--config", settings, "--output", folder / f"model-{number}", "--json")
        training = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamer", "train", *map(str, arguments)),
            cwd=CHECKOUT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await training.communicate()
        assert training.returncode == 0, said.decode()
        models.append(artifact.read(folder / f"model-{number}"))
    return models


def _rows(draw: random.Random) -> Iterator[str]:
    yield ",".join(["timestamp", *SYMBOLS])
    for at in range(_LEARNED):
        prices = (_wave(at, number) * draw.uniform(0.9995, 1.0005) for number, _ in enumerate(SYMBOLS))
        yield ",".join([iso(at), *(f"{price:.4f}" for price in prices)])


def schedule(store: ModelStore, made: list[Script], models: list[Artifact], draw: random.Random) -> int:
    """Let models and persistence take turns in each stream; returns how many swaps are recorded."""
    count = 0
    for script in made:
        for model in models:
            store.save(script.name, model)
        for swap in _swaps(script, models, draw):
            store.record_swap(script.name, asdict(swap))
            count += 1
    return count


def _swaps(script: Script, models: list[Artifact], draw: random.Random) -> Iterator[Swap]:
    """Each begins at the state of its training, or at zero; neither may replay more than the stream has had."""
    accepted = [each.as_of for each in script.made if each.outcome == "forecast"]
    restarts, serves = 0, PERSISTENCE_MODEL
    next_one = WINDOW + draw.randint(*_SWAP_EVERY)
    for number, at in enumerate(accepted):
        restarts += number > 0 and at < accepted[number - 1]
        if number < next_one:
            continue
        next_one += draw.randint(*_SWAP_EVERY)
        after = START + at * MINUTE
        chosen = draw.choice([m for m in (None, *models) if (m.id if m else PERSISTENCE_MODEL) != serves])
        serves = chosen.id if chosen else PERSISTENCE_MODEL
        if chosen is None:
            yield Swap(PERSISTENCE_MODEL, after, restarts, "none", 0)
            continue
        since = _since(accepted[: number + 1], _LEARNED - 1)
        if since and draw.random() < 0.5:
            yield Swap(chosen.id, after, restarts, TRAINED, since)
        else:
            yield Swap(chosen.id, after, restarts, RING, WINDOW)


def _since(accepted: list[int], learned: int) -> int:
    """How many of the last ticks lie behind the last row of the training, time not having restarted among them."""
    count = 0
    for at in reversed(accepted):
        if at <= learned or (count and at > accepted[-count]):
            break
        count += 1
    return count
