"""One round: topics of its own, a feed, faults drawn from its seed, and the judgement."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.model.artifact import Artifact
from streamer.model.store import ModelStore
from tests.e2e.feeding import Feed, Offset, Published
from tests.e2e.harness import Service
from tests.e2e.script import MAX_GAP, MESSAGE_BYTES, Expected
from tests.soak import ticks
from tests.soak.faults import Faults
from tests.soak.fleet import Cluster, Fleet
from tests.soak.verdict import DROPPED, Verdict, by_model, compare, judge

FENCINGS = 3
"""At most, each time a zombie wakes up."""

_CAPACITY = 8  # times the ticks of a round are ready to be fed, since nobody knows how long its faults take
_MODELS = 2
_OUTCOMES = ("forecast", *DROPPED)


@dataclass(frozen=True)
class Plan:
    """What a round is. ticks: at least. rate: a second. faults: how many of each kind."""

    seed: str
    mode: str = "schedule"
    delivery: str = "exactly_once"
    ticks: int = 1000
    rate: float = 60.0
    faults: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether the daemons train."""
        return self.mode == "live"


def settings(draw: Random, plan: Plan) -> dict[str, Any]:
    """Sections that differ from those of the end-to-end tests: sessions of seconds, little training."""
    session = draw.choice([2, 3])
    return {
        "kafka": {
            "delivery": plan.delivery,
            "session_timeout": f"{session}s",
            "transaction_timeout": f"{session - 1}s",
            "max_poll_records": draw.choice([3, 20, 200]),
        },
        "feed": {"max_gap": MAX_GAP, "change": "log_return", "window": ticks.WINDOW},
        "limits": {"message_bytes": MESSAGE_BYTES},
        "fit": {"steps": 60, "epochs": 0, "sequence": 20, "lanes": 4, "learning_rate": 0.01},
        "retrain": {"first": 150, "every": 250 if plan.is_live else 0, "history": ticks.HISTORY},
        "models": {"keep": 1000},
        "state": {"every": draw.choice([10, 50, 200])},
    }


async def models(folder: Path) -> list[Artifact]:
    """The models of mode `schedule`, which serve all rounds."""
    folder.mkdir()
    plan = Plan("")
    config = folder / "settings.json"
    config.write_text(json.dumps(Service("127.0.0.1:9", folder, "none", **settings(Random(0), plan)).settings))
    return await ticks.train(folder / "trained", config, _MODELS)


async def run(cluster: Cluster, folder: Path, plan: Plan, trained: list[Artifact]) -> dict[str, Any]:
    """Do it; returns its line. trained: the models of mode `schedule`."""
    began, draw = time.monotonic(), Random(plan.seed)
    prices = await _input(cluster.bootstrap, f"prices-{plan.seed.replace('/', '-')}-{time.time_ns() % 10**9}")
    service = Service(cluster.bootstrap, folder, prices, **settings(draw, plan))
    service.settings["kafka"]["bootstrap_servers"] = cluster.proxied
    made = ticks.streams(prices, _CAPACITY * plan.ticks, draw, few=plan.is_live)
    if not plan.is_live:
        store = str(folder / "schedule")
        ticks.schedule(ModelStore(store, 1000), made, trained, draw)
        service.arguments = ["--schedule", store]
    else:
        store = service.settings["models"]["url"]
    messages = ticks.in_turn(made, draw)
    feed = Feed(cluster.bootstrap, prices)
    static = "twin" in plan.faults or draw.random() < 0.5
    fleet = Fleet(cluster, service, feed, static=static, is_live=plan.is_live)

    faults = Faults(fleet, draw)
    try:
        await _disturb(fleet, faults, messages, plan, draw)
        published = await service.published()
        expected = dict(zip(feed.sent, messages, strict=False))
        verdict = judge(published, expected, prices)
        compare(published, await _undisturbed(service, cluster, folder, store, len(expected)), verdict)
    finally:
        await fleet.kill_all()
    return _line(plan, fleet, faults, expected, published, verdict) | {"seconds": round(time.monotonic() - began, 1)}


async def _input(bootstrap: str, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, ticks.PARTITIONS, 1)])
    finally:
        await admin.close()
    return name


async def _disturb(fleet: Fleet, faults: Faults, messages: list[Expected], plan: Plan, draw: Random) -> None:
    """All faults while ticks are fed, what is left of the round's ticks at once, and the end in good order."""
    due = [kind for kind, count in plan.faults.items() for _ in range(count)]
    draw.shuffle(due)
    fleet.grow()
    await fleet.settled()
    async with fleet.feed.flowing([each.message for each in messages], plan.rate):
        for kind in due:
            await faults.do(kind)
        await fleet.settled()
    rest = [each.message for each in messages[len(fleet.feed.sent) : plan.ticks]]
    await fleet.feed.send(rest)
    await fleet.settled()
    for service in list(fleet.running):
        await fleet.shrink(service)


async def _undisturbed(service: Service, cluster: Cluster, folder: Path, store: str, messages: int) -> Published:
    """One daemon, past the proxy, with the same input and the same swaps."""
    again = Service(cluster.bootstrap, folder, service.topic("prices"))
    again.settings = service.settings | {
        "kafka": again.settings["kafka"] | {"max_poll_records": 200},
        "http": again.settings["http"],
        "retrain": service.settings["retrain"] | {"every": 0},
    }
    again.arguments = ["--schedule", store]
    async with again:
        await again.caught_up(messages)
        published = await again.published()
        assert await again.terminate() == 0
    return published


def _line(
    plan: Plan,
    fleet: Fleet,
    faults: Faults,
    expected: Mapping[Offset, Expected],
    published: Published,
    verdict: Verdict,
) -> dict[str, Any]:
    served = by_model(published)
    by_network = sum(count for model, count in served.items() if model != "persistence")
    first = fleet.services[0].settings["kafka"]
    return {
        "seed": plan.seed,
        "mode": plan.mode,
        "delivery": plan.delivery,
        "clean": verdict.clean(plan.delivery) and not fleet.ended and max(faults.fencings, default=0) <= FENCINGS,
        "ticks": len(expected),
        "outcomes": Counter(each.outcome if each.outcome in _OUTCOMES else "dead_letter" for each in expected.values()),
        "forecasts": {"by_network": by_network, "models": len(served), "all": sum(served.values())},
        "verdict": verdict.figures(),
        "faults": dict(fleet.counts),
        "fencings": faults.fencings,
        "twin_fencings": faults.twin_fencings,
        "ended": fleet.ended,
        "settings": {"static": fleet.static, **{name: first[name] for name in ("session_timeout", "max_poll_records")}},
    }
