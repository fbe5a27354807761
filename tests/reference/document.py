"""REFERENCE.md as a whole."""

import ast
import asyncio
from collections.abc import Iterator

from streamer.codec import DecodeReason
from streamer.core.adjustment import INVALID
from streamer.service.daemon import Daemon
from streamer.settings import Settings
from tests.reference.configuration import configuration
from tests.reference.markdown import code, table
from tests.reference.metrics import metrics
from tests.reference.texts import ENDPOINTS, EXIT_CODES, REASONS
from tests.reference.topics import topics
from tests.support import CHECKOUT

PLACE = CHECKOUT / "REFERENCE.md"

_HEAD = """\
# Reference

Written by `scripts/reference` from the code; edit that. [README.md](README.md) says how to begin,
[OPERATIONS.md](OPERATIONS.md) how to run it."""

_CONFIGURATION = """\
## Configuration

One file of YAML or JSON (`-c`), any key of which can be set in the environment instead; of both, that counts.
Durations: 500ms, 60s, 5m, 1h, 30d. Sizes: 1MB, 512MiB, 4GiB. Lists and maps in the environment are YAML. Only
`kafka.bootstrap_servers` has no default. Secrets come from the environment or from the file that `..._file` names.
[config/streamer.yaml](config/streamer.yaml) has all of it, with comments.

What a reload (SIGHUP, or `POST /-/reload`) makes of a changed key: `at once`, taken over, the streams go on untouched;
`streams`, taken over between two ticks; `anew`, so too, but the streams begin anew on the ticks of their ring;
`restart`, the reload is refused as a whole."""

_METRICS = """\
## Metrics

Series of a stream are those of the one process that owns it, and go with it. Symbols are labels for up to 2,000 pairs
of stream and symbol; `streamer_series_dropped` counts the rest. Of streams beyond the first 1,000
(`streamer_streams_beyond_limit`) what is counted is counted together, in series without the label `stream`; so are
the worst lag of their feeds, whether ticks of any are expected, and when the last forecast of any was published."""

_TOPICS = """\
## Topics

Names are those of `kafka.topics`; the same for programs is [config/asyncapi.yaml](config/asyncapi.yaml). What is said
of ticks holds for the defaults of `input`, of forecasts for `output.codec: json`."""

_ENDPOINTS = """\
## HTTP

On `http.host`, `http.port`. Those of POST need `Authorization: Bearer TOKEN` (`http.token`), and are refused without a
configured one; parameters go in the query or a JSON object. Errors are `{"error": "..."}`."""


def endpoints() -> list[str]:
    """Every address that a daemon answers, as `GET /livez`; the files of its page left out."""
    settings = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:9092"}})

    async def routes() -> list[str]:
        daemon = Daemon(settings, asyncio.Event())
        found = daemon._http._application().router.routes()
        return [f"{route.method} {route.resource.canonical}" for route in found if route.resource is not None]

    return [route for route in asyncio.run(routes()) if not route.startswith(("HEAD ", "GET /page/"))]


def reasons() -> list[str]:
    """Every reason that the code may give a dead letter."""
    return [*DecodeReason, *dict.fromkeys(_literal_reasons()), INVALID]


def _literal_reasons() -> Iterator[str]:
    for path in sorted((CHECKOUT / "streamer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rejected":
                reason = node.args[0]
                if isinstance(reason, ast.Constant) and reason.value not in set(DecodeReason):
                    yield str(reason.value)


def reference() -> str:
    """The document. A KeyError names what `tests/reference/texts.py` does not explain."""
    codes = [(code(str(int(number))), *texts) for number, texts in EXIT_CODES.items()]
    addresses = [(code(address), ENDPOINTS[address]) for address in endpoints()]
    letters = [(code(reason), *REASONS[reason]) for reason in reasons()]
    parts = (
        _HEAD,
        _CONFIGURATION,
        configuration(),
        _METRICS,
        metrics(),
        _TOPICS,
        topics(),
        f"## Reasons of dead letters\n\n{table(('reason', 'what it says', 'what to do'), letters)}",
        _ENDPOINTS,
        table(("request", "what"), addresses),
        f"## Exit codes\n\n{table(('code', 'what it says', 'what to do'), codes)}",
    )
    return "\n\n".join(parts) + "\n"
