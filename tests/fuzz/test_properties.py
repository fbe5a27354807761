"""The fuzzer's targets under inputs that have a shape: what bytes put together by chance seldom are."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.settings import keys, yaml_text
from tests.fuzz.targets import MAPPINGS, codec, config
from tests.support import CHECKOUT

SHIPPED = (CHECKOUT / "config" / "streamer.yaml").read_bytes()
BROKER = b"kafka: {bootstrap_servers: 'a:1'}\n"

# --- messages ---------------------------------------------------------------------------------------------------------

digits = st.text("0123456789", min_size=1, max_size=8) | st.integers(300, 5000).map("9".__mul__)
numbers = st.builds(
    lambda sign, whole, rest, power: f"{sign}{whole}{rest}{power}",
    st.sampled_from(["", "-", "+"]),
    digits,
    st.just("") | digits.map(lambda text: f".{text}"),
    st.just("") | st.sampled_from(["e", "E", "e+", "e-"]).flatmap(lambda e: digits.map(lambda text: e + text[:6])),
)
escapes = st.sampled_from(["\\ud800", "\\udc00\\ud800", "\\u0000", "\\n", "\\u202e", "\\x", "\\", "\u2028", "\ufeff"])
words = st.lists(st.text(max_size=5).map(lambda t: json.dumps(t)[1:-1]) | escapes, max_size=3).map(
    lambda parts: '"' + "".join(parts) + '"'
)
names = words | st.sampled_from(['"ts"', '"prices"', '"A"', '"B"'])
values = st.recursive(
    numbers | words | st.sampled_from(["null", "true", "NaN", "-Infinity", "nul"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: f"[{','.join(each)}]")
        | st.lists(st.tuples(names, inner), max_size=4).map(
            lambda pairs: "{{{}}}".format(",".join(f"{k}:{v}" for k, v in pairs))
        )
    ),
    max_leaves=8,
)
times = values | st.integers(0, 2**43).map(str) | st.datetimes().map(lambda time: f'"{time.isoformat()}Z"')
messages = st.lists(
    st.tuples(names, values) | st.tuples(st.just('"ts"'), times) | st.tuples(st.just('"prices"'), values), max_size=4
).map(lambda pairs: "{{{}}}".format(",".join(f"{k}:{v}" for k, v in pairs)))


@settings(deadline=None)  # the first imports the engine
@given(
    messages | values,
    st.integers(0, 4 * len(MAPPINGS) - 1).filter(lambda flags: not flags & 2).map(lambda f: bytes([f])),
)
@example('{"ts":1,"prices":{"A":1,"A":2}}', b"\0")
@example('{"ts":1,"prices":' + "[" * 2000 + "]" * 2000 + "}", b"\1")
@example('{"ts":1,"prices":{"A":' + "9" * 4000 + "}}", b"\0")
@example('{"ts":' + "9" * 4000 + ',"prices":{}}', b"\0")
@example('{"ts":7258118399999,"prices":{"A":1}}', b"\0")
def test_json_of_any_shape_gives_a_tick_or_a_decode_error(text: str, flags: bytes) -> None:
    """Keys that stand twice, numbers of thousands of digits, lone surrogates, and what is nearly JSON."""
    codec(flags + text.encode(errors="surrogatepass"))


# --- configurations ---------------------------------------------------------------------------------------------------

plausible = st.sampled_from(
    [
        "500ms",
        "60s",
        "30d",
        "4GiB",
        "-1s",
        "1e9s",
        "a:1,b:2",
        "[::1]:9",
        "..",
        "a.b",
        "a_b",
        "warm",
        "2024-01-01T00:00:00Z",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | plausible
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
paths = st.sampled_from(list(keys.paths()))


def nested(pairs: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """A configuration with a value at each of some keys; a later one counts."""
    data: dict[str, Any] = {"kafka": {"bootstrap_servers": "a:1"}}
    for path, value in pairs:
        section = data
        for name in path[:-1]:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[path[-1]] = value
    return data


@settings(deadline=None)
@given(st.lists(st.tuples(paths, trees), max_size=4).map(nested), st.booleans())
def test_any_value_of_any_key_gives_settings_or_one_line(data: dict[str, Any], as_json: bool) -> None:
    config((json.dumps(data) if as_json else yaml_text.write(data)).encode(errors="surrogatepass"))


@settings(deadline=None)
@given(st.integers(0, len(SHIPPED)), st.integers(0, 40), st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
def test_the_shipped_file_with_a_piece_replaced_gives_settings_or_one_line(at: int, length: int, piece: bytes) -> None:
    config(SHIPPED[:at] + piece.replace(b"\0", b"") + SHIPPED[at + length :])


@settings(deadline=None)
@given(st.lists(st.tuples(paths, st.text(max_size=12) | plausible | trees.map(str)), max_size=4))
def test_any_variable_gives_settings_or_one_line(variables: list[tuple[tuple[str, ...], str]]) -> None:
    pairs = [f"{'__'.join(path)}={value}".replace("\0", "") for path, value in variables]
    config(b"\0".join([BROKER, *(pair.encode(errors="surrogatepass") for pair in pairs)]))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_file_give_settings_or_one_line(content: bytes) -> None:
    config(content)


LAUGHS = b"a: &a [ha]\n" + b"".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n".encode()
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.timeout(20)  # a billion strings, or a second for each bracket, would take for ever
@pytest.mark.parametrize(
    "content",
    [
        LAUGHS,
        BROKER + b"feed: &f {symbols: *f}",
        b"[" * 2**20,
        b"{" * 2**20,
        b"? " * 2**19,
        b"- " * 2**19,
        b"&a " * 2**18,
    ],
    ids=["laughs", "itself", "lists", "maps", "keys", "items", "anchors"],
)
def test_a_small_file_that_unfolds_into_a_huge_one_is_refused_at_once(content: bytes) -> None:
    config(content)
