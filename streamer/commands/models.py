"""`streamer models`: the model store, and the way back to an earlier model."""

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands.arguments import broker_unless_given
from streamer.commands.parser import examples_of
from streamer.commands.terminal import say, waiting
from streamer.errors import ExitCode, StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.commands.asking import DaemonClient
    from streamer.model.manifest import Manifest
    from streamer.model.store import ModelStore
    from streamer.settings import Settings

_EPILOG = """\
examples:
  streamer models list -c config/streamer.yaml
  streamer models list --stream prices-0 --json | jq '.[] | select(.status == "champion")'
  streamer models show 20260105T1430Z-1f6c0a3b -c config/streamer.yaml
  STREAMER_HTTP__TOKEN=... streamer models revert --stream prices-0 -c config/streamer.yaml

list and show read the store (models.url); which model serves, only the daemon of its stream knows: list asks the one
at http.host and http.port, or at --url. revert tells it to go back to the model that served before, or to
persistence; the reverted model never serves again, and no training starts from it.
"""


def add_parser(commands: Any) -> None:
    """Add `models` to the commands."""
    parser = commands.add_parser(
        "models",
        help="list, show and revert models",
        description="Look into the model store, or go back to an earlier model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _action(actions, "list", "models of each stream, newest first", _list)
    show = _action(actions, "show", "all that a model says about itself", _show)
    show.add_argument("id", metavar="ID", help="id of the model, as its forecasts carry it")
    revert = _action(actions, "revert", "go back to the model that served before", _revert)
    for each in (listing, revert):
        each.add_argument("--url", metavar="URL", help="address of the daemon (default: http.host and http.port)")


def _action(actions: Any, name: str, text: str, handler: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        help=text,
        description=f"{text.capitalize()}.",
        epilog=examples_of(f"models {name}", _EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("--stream", metavar="NAME", help="only this stream; revert needs it where there are several")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=handler)
    return parser


def _settings(arguments: argparse.Namespace) -> "Settings":
    from streamer.config import load

    return load(arguments.config, os.environ, broker_unless_given(arguments.config))


def _store(settings: "Settings") -> "ModelStore":
    from streamer.service.wiring import model_store

    return model_store(settings)


def _client(arguments: argparse.Namespace, settings: "Settings") -> "DaemonClient":
    from streamer.commands.asking import DaemonClient

    return DaemonClient.of(settings.http, arguments.url)


# --- list -------------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> int:
    settings = _settings(arguments)
    store = _store(settings)
    serving = _serving(arguments, settings)
    with waiting(f"reading {settings.models.url}"):
        streams = [arguments.stream] if arguments.stream else sorted({*store.streams(), *(serving or {})})
        found = [_entry(stream, each, serving) for stream in streams for each in store.list(stream)]
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif found:
        _print_list(found)
    else:
        say(f"no models in {settings.models.url}")
    return ExitCode.STOPPED


def _serving(arguments: argparse.Namespace, settings: "Settings") -> Mapping[str, Any] | None:
    """The streams of the daemon, with the model that serves each; None, and said, where there is no daemon to ask."""
    try:
        return _client(arguments, settings).get("/api/v1/streams")
    except UsageError:
        raise
    except StreamerError as error:
        say(f"champions are not marked: {error}")
        return None


def _entry(stream: str, manifest: "Manifest", serving: Mapping[str, Any] | None) -> dict[str, Any]:
    from streamer.codec import format_time

    gate, known = manifest.gate, (serving or {}).get(stream)
    status = "promoted" if gate.get("promoted") else "rejected"
    if known is not None:
        status = "reverted" if manifest.id in known["reverted"] else status
        status = "champion" if manifest.id == known["model"] else status
    return {
        "stream": stream,
        "id": manifest.id,
        "trained_to": format_time(manifest.trained.last),
        "rows": manifest.trained.rows,
        "ratio": gate.get("ratio"),
        "persistence_ratio": gate.get("persistence_ratio"),
        "status": status,
        "champion": None if known is None else status == "champion",
    }


def _print_list(found: Iterable[Mapping[str, Any]]) -> None:
    header = ("STREAM", "ID", "TRAINED TO", "ROWS", "RATIO", "TO PERSISTENCE", "STATUS")
    names = ("stream", "id", "trained_to", "rows", "ratio", "persistence_ratio", "status")
    _print_columns([header, *([_cell(each[name]) for name in names] for each in found)])


# --- show -------------------------------------------------------------------------------------------------------------


def _show(arguments: argparse.Namespace) -> int:
    store = _store(_settings(arguments))
    streams = [arguments.stream] if arguments.stream else store.streams()
    found = [(stream, each) for stream in streams for each in store.list(stream) if each.id == arguments.id]
    if not found:
        raise UsageError(f"there is no model {arguments.id!r} in {store.url}: see `streamer models list`")
    stream, manifest = found[0]
    body = {"stream": stream, **json.loads(manifest.to_bytes())}
    if arguments.json:
        print(json.dumps(body, indent=2))
    else:
        _print_manifest(body)
    return ExitCode.STOPPED


def _print_manifest(body: dict[str, Any]) -> None:
    from streamer.codec import format_time

    symbols = body["gate"].pop("symbols", {})
    for span in filter(None, map(body.get, ("span", "learned"))):
        span |= {bound: format_time(span[bound]) for bound in ("first", "last")}
    _print_columns([(name, _cell(value)) for name, value in _flat(body)])
    if symbols:
        names = list(next(iter(symbols.values())))
        rows = [[symbol, *(_cell(scores.get(name)) for name in names)] for symbol, scores in symbols.items()]
        print()
        _print_columns([["SYMBOL", *(name.upper().replace("_", " ") for name in names)], *rows])


def _flat(body: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Values by dotted name."""
    for name, value in body.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(_cell(each) for each in value)
        case dict():
            return " ".join(f"{name}={_cell(each)}" for name, each in value.items())
    text = str(value)
    return text if text.isprintable() else repr(text)  # what could steer a terminal is escaped


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned, two blanks between: as wide as it takes, for eyes and for `awk` alike."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# --- revert -----------------------------------------------------------------------------------------------------------


def _revert(arguments: argparse.Namespace) -> int:
    client = _client(arguments, _settings(arguments))
    answer = client.post("/-/revert", {"stream": arguments.stream} if arguments.stream else {})
    if arguments.json:
        print(json.dumps(answer))
    else:
        print(f"stream {answer['stream']}: {answer['reverted']} is reverted, {answer['model']} serves")
    return ExitCode.STOPPED
