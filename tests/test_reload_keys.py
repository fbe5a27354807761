"""What a reload makes of each key: every one says so, and says what is true of it."""

from typing import Any

import pytest

from streamer.config import Settings, load
from streamer.core import checkpoint
from streamer.service import wiring
from streamer.settings import keys
from streamer.settings.types import Reload

BASE: dict[str, Any] = {"kafka.bootstrap_servers": "broker:9092"}
OTHER: dict[str, Any] = {
    "input.fields.time": "at",
    "input.fields.prices": "vector",
    "input.fields.key": "$partition",
    "input.time": "open",
    "input.time_unit": "s",
    "input.timezone": "UTC",
    "input.numbers": "text",
    "feed.step": "30s",
    "feed.symbols": ["A"],
    "feed.targets": ["A"],
    "feed.inputs": ["V"],
    "feed.change": "difference",
    "feed.calendar": {"timezone": "UTC", "hours": ["Mon-Fri 09:30-16:00"]},
    "feed.window": 50,
    "network.mode": "joint",
    "network.layers": [{"units": 8}],
    "network.features": "changes",
    "network.skip": False,
    "fit.combine": False,
    "fit.refit": False,
    "models.url": "elsewhere",
    "models.sharing": "global",
    "models.hmac_key": "k" * 32,
    "http.host": "0.0.0.0",
    "http.token": "a-token",
    "log.level": "debug",
    "log.format": "json",
    "streams.expire": "50d",
}
"""Another value than the default where it is no number; a number is made a little less."""

NEED_MORE = (
    *("registry.", "output.", "feed.calendar.", "models.hmac_key_file", "http.token_file"),
    *("input.codec", "input.options", "input.fields.symbol", "input.fields.price", "input.assemble", "input.close"),
)
"""Keys, or beginnings of keys, that have no other value without a file, a codec, or other keys beside them."""


def leaves() -> list[str]:
    paths = set(keys.paths())
    inner = {path[:length] for path in paths for length in range(1, len(path))}
    return [keys.dotted(path) for path in keys.paths() if path not in inner or keys.dotted(path) == "network.layers"]


def other(key: str) -> Settings | None:
    """Settings that differ from the default in `key`, None for keys that need more than a value."""
    if key in OTHER:
        return load(None, {}, BASE | {key: OTHER[key]})
    value: Any = load(None, {}, BASE)
    for name in key.split("."):
        value = getattr(value, name, None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return load(None, {}, BASE | {key: value + 1 if isinstance(value, int) else value * 0.9})


def of_the_streams(settings: Settings) -> tuple[Any, ...]:
    """All that partitions are made of, as values."""
    made = wiring.partition_settings(settings)
    plain = {name: getattr(made, name) for name in made.__slots__ if name not in ("decoder", "codec")}
    return (plain, settings.input.model_dump(), settings.output, settings.registry, wiring.known_after(settings))


def test_every_key_says_what_a_reload_makes_of_it() -> None:
    for path in keys.paths():
        assert isinstance(keys.reload_at(path), Reload)


def test_a_key_that_says_nothing_is_a_mistake_that_is_named() -> None:
    with pytest.raises(LookupError, match=r"feed\.unheard.*needs a Reload"):
        keys.reload_at(("unheard", "feed.unheard"))


@pytest.mark.parametrize("key", [key for key in leaves() if not key.startswith(("kafka.", "network.layers."))])
def test_what_shapes_streams_is_taken_over_by_them_and_nothing_else_disturbs_them(key: str) -> None:
    """Of what partitions are made of: a key that changes it, and does not say so, would never reach them."""
    changed, default = other(key), load(None, {}, BASE)
    if changed is None:
        assert key.startswith(NEED_MORE), f"{key} has no other value in this test"
        return
    where = tuple(key.split("."))
    assert key in {keys.dotted(path) for path in keys.changed(default, changed)} or key == "feed.calendar"
    touches = of_the_streams(changed) != of_the_streams(default)
    assert touches == (keys.reload_at(where) in (Reload.STREAMS, Reload.ANEW))
    shapes = [checkpoint._shape(wiring.engine_settings(each)) for each in (changed, default)]
    assert (shapes[0] != shapes[1]) == (keys.reload_at(where) is Reload.ANEW)


@pytest.mark.parametrize("key", ["kafka.group_id", "kafka.security.password", "http.port", "models.hmac_key"])
def test_what_the_process_is_connected_by_needs_a_restart(key: str) -> None:
    assert not keys.reloadable(tuple(key.split(".")))


def test_a_list_of_sections_is_one_key_and_equal_settings_have_none_changed() -> None:
    default = load(None, {}, BASE)
    changed = load(None, {}, BASE | {"network.layers": [{"units": 8}, {"units": 4}], "http.token": "a"})
    assert list(keys.changed(default, changed)) == [("network", "layers"), ("http", "token")]
    assert not list(keys.changed(default, load(None, {}, BASE)))
