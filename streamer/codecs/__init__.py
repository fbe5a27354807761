"""Codecs: between the bytes of a record's value and plain values. README.md beside this file says how to write one."""

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from streamer.codecs.registry import Registry
from streamer.errors import ConfigError

GROUP = "streamer.codecs"
"""The entry points that name the codecs of other packages."""

_OURS = {
    "json": "streamer.codecs.json_text:JsonCodec",
    "avro": "streamer.codecs.avro:AvroCodec",
    "csv": "streamer.codecs.csv_line:CsvCodec",
}
"""Found without a look at what else is installed, which takes a while; pyproject.toml has them as entry points too."""


class Codec(Protocol):
    """Bytes to plain values (dict, list, str, int, float, bool, None) and back. It may have more.

    `start(topic)`, blocking, called once in a thread before all else: reach what it needs. topic: that of the forecasts
    where it encodes, None where it decodes. RegistryError: a later try may succeed; ConfigError: none will.

    `prepare(values)`, blocking, called in a thread before any of `values` is decoded: fetch what is missing for it.
    RegistryError where that is not to be had now; a value for which it never will be is one that `decode` refuses.

    `has_text_numbers`: true where its numbers are text, as in a CSV.
    """

    content_type: str
    """Media type of what `encode` gives, a header of the forecasts."""

    def decode(self, value: bytes) -> object:
        """What the bytes say; pure and quick. DecodeError (`malformed`) where they are none of its own."""
        ...

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """The bytes of a forecast, `streamer.encoding.forecast_message`; the same bytes for the same message."""
        ...


Factory = Callable[[Mapping[str, Any], Registry | None], Codec]
"""What an entry point names: makes a codec of its options and the registry, if one is set. ConfigError."""


def load(section: str, name: str, options: Mapping[str, Any], registry: Registry | None) -> Codec:
    """The codec that the settings' `section` (`input` or `output`) names.

    ConfigError, on one line, where there is none of that name, or where it refuses its options.
    """
    factory = _factory(section, name)
    try:
        return factory(options, registry)
    except ConfigError as error:
        raise ConfigError(f"{section}.{error}") from error
    except Exception as error:
        raise ConfigError(f"{section}.codec: {name!r} cannot be made: {error!r}") from error


def only(options: Mapping[str, Any], *known: str) -> None:
    """ConfigError where `options` has others than `known`."""
    for name in options:
        if name not in known:
            raise ConfigError(f"options.{name}: unknown option: {known_option(name, known)}")


def known_option(name: str, known: Sequence[str]) -> str:
    """What to set instead of the option `name`, in words: the nearest of those `known`, or which there are."""
    if near := difflib.get_close_matches(name.lower(), known, n=1):
        return f"did you mean {near[0]!r}?"
    return f"the options here are {', '.join(known)}" if known else "this codec has none"


def _factory(section: str, name: str) -> Factory:
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        return cast(Factory, getattr(importlib.import_module(module), attribute))
    others = importlib.metadata.entry_points(group=GROUP)
    if name not in others.names:
        raise ConfigError(_unknown(section, name, sorted({*_OURS, *others.names})))
    try:
        return cast(Factory, others[name].load())
    except Exception as error:
        raise ConfigError(f"{section}.codec: {name!r} ({others[name].value}) cannot be loaded: {error!r}") from error


def _unknown(section: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"{section}.codec: found {name!r}, expected one of {', '.join(known)}: {hint}a codec of your own has to be"
        " installed beside streamer"
    )
