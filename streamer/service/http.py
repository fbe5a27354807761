"""HTTP: metrics, health, the live page and what it reads, and the actions of an operator who has the token."""

import asyncio
import errno
import hmac
import inspect
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from pydantic import SecretStr

from streamer.errors import ConfigError, StreamerError
from streamer.service import assets
from streamer.service.health import Health, Report
from streamer.service.metrics import Metrics
from streamer.service.sse import Channel

Action = Callable[..., Awaitable[Mapping[str, Any]]]
"""What a POST asks for. Its parameters are keywords, named in its signature: a string each, None if not sent.
A KeyError of a parameter's value says that there is no such thing (404), a StreamerError that it cannot be (409).
"""

View = Callable[..., Mapping[str, Any]]
"""What a GET shows, as JSON. Parameters and KeyError as an Action's."""

MAX_BODY: Final = 64 * 1024
"""Bytes; a request names a stream, at most 256 bytes long."""

MAX_HEADER: Final = 8 * 1024
"""Bytes of the request line and of each header, as nginx and Apache have it; 64 headers at most."""

MAX_CONNECTIONS: Final = 256
"""Some scrapers, probes and browsers; far below the 1,024 descriptors that a process commonly has."""

KEEP_ALIVE: Final = 75.0
"""Seconds without a request after which a connection is closed, one that is slow to send its first too. Above the
60 s after which Prometheus commonly comes again."""

BODY_TIMEOUT: Final = 10.0
"""Seconds that a client has to send its body."""

ANSWER_TIMEOUT: Final = 30.0
"""Seconds that a client has to read an answer, which stays in memory until then."""

_COMPRESS_IN_THREAD: Final = 16 * 1024  # bytes; more would hold the event loop for longer than a tick takes

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "streamer",  # in place of aiohttp's, which tells versions
    "X-Content-Type-Options": "nosniff",
}


class HttpServer:
    """The one port of the daemon.

    Args:
        host: Address or name to listen on.
        port: 0 for any free one.
        metrics: What `/metrics` shows.
        health: What `/livez` and `/readyz` show.
        token: Bearer token of the POST requests; without one they are refused.
        actions: What `POST /-/<name>` does, by name.
        views: What `GET /api/v1/<name>` shows, by name.
        channels: What `GET /api/v1/<name>` streams, by name.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        health: Health,
        token: SecretStr | None = None,
        actions: Mapping[str, Action] | None = None,
        views: Mapping[str, View] | None = None,
        channels: Mapping[str, Channel] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._token = token
        self._actions = dict(actions or {})
        self._views = dict(views or {})
        self._channels = dict(channels or {})
        self._rendering = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    # Lifecycle

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigError: The port is taken, or the address is not one of this machine.
        """
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=2.0,  # for the rest of a refused body: closed at once, its sender might not see the answer
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=64,
        )
        await runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: _accept(runner), self._host, self._port
            )
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(_cannot_listen(self._host, self._port, error)) from error
        self._runner = runner
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    def accept_token(self, token: SecretStr | None) -> None:
        """From now on this is the token of the POST requests; None: they are refused."""
        self._token = token

    async def stop(self, timeout: float) -> None:
        """Listen no longer, and end within `timeout` seconds: requests under way may finish in half of them."""
        if self._listener is None or self._runner is None:
            return
        self._listener.close()
        for channel in self._channels.values():
            channel.close()
        if self._runner.server is not None:
            self._runner.server.pre_shutdown()  # closes the idle connections
            # It waits once for the handlers, and as long again for those that it then cancels.
            await self._runner.server.shutdown(timeout / 2)
        await self._runner.cleanup()
        self._listener = self._runner = None

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_in_time, _errors_as_json], client_max_size=MAX_BODY)
        app.on_response_prepare.append(_add_headers)
        for path, asset in assets.load().items():
            app.router.add_get(path, _static(asset))
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        for name, view in self._views.items():
            app.router.add_get(f"/api/v1/{name}", _shown(view))
        for name, channel in self._channels.items():
            app.router.add_get(f"/api/v1/{name}", _streamed(channel))
        for name, action in self._actions.items():
            app.router.add_post(f"/-/{name}", self._guarded(action))
        return app

    # What it shows

    async def _show_metrics(self, request: web.Request) -> web.Response:
        try:
            encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        except TypeError:  # a version that is no number
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        async with self._rendering:  # one at a time, or a few slow scrapers would fill the thread pool
            self._metrics.refresh()
            # 2,000 symbols take a second half to render: beside the event loop, which goes on in between.
            body = await asyncio.to_thread(encode, self._metrics.registry)
        response = web.Response(
            body=body, headers={hdrs.CONTENT_TYPE: content_type}, zlib_executor_size=_COMPRESS_IN_THREAD
        )
        response.enable_compression()
        return response

    async def _livez(self, request: web.Request) -> web.Response:
        return _probe("live", self._health.liveness())

    async def _readyz(self, request: web.Request) -> web.Response:
        return _probe("ready", self._health.readiness())

    # What it does

    def _guarded(self, action: Action) -> Handler:
        names = tuple(inspect.signature(action).parameters)

        async def handle(request: web.Request) -> web.Response:
            self._authorize(request)
            parameters = _named({**request.query, **await _json_object(request)}, names)
            try:
                return web.json_response(dict(await action(**parameters)))
            except KeyError as error:
                return _no_such(error, parameters)
            except StreamerError as error:
                return web.json_response({"error": str(error), **error.details}, status=409)

        return cast(Handler, handle)

    def _authorize(self, request: web.Request) -> None:
        if self._token is None:
            raise web.HTTPForbidden(text="no token is configured: set STREAMER_HTTP__TOKEN or http.token_file")
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        expected = self._token.get_secret_value().encode()
        is_known = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), expected)
        if scheme.lower() != "bearer" or not is_known:
            raise web.HTTPUnauthorized(text="wrong or missing token", headers={hdrs.WWW_AUTHENTICATE: "Bearer"})


# Connections


class _Refused(asyncio.Protocol):
    """A connection beyond the limit, closed before a byte is read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def _accept(runner: web.AppRunner) -> asyncio.Protocol:
    server = runner.server
    if server is None or len(server.connections) >= MAX_CONNECTIONS:
        return _Refused()
    return server()


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}, port {port}"
    if isinstance(error, socket.gaierror):
        return f"{where}: http.host is no address and no known name"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where}: another process has it; stop that, or set http.port (0: any free port)"
        case errno.EACCES:
            return f"{where}: not allowed; set http.port above 1023"
        case errno.EADDRNOTAVAIL | None:  # None: newer Pythons try each address, and say only that none was good
            return f"{where}: not an address of this machine; set http.host, to 0.0.0.0 for all of them"
        case _:
            return f"{where}: {error.strerror}; set http.host and http.port"


# Requests


def _named(given: Mapping[str, object], names: tuple[str, ...]) -> dict[str, str | None]:
    """The parameters `names` of those given; None where not sent."""
    if unknown := given.keys() - set(names):
        raise web.HTTPBadRequest(text=f"unknown parameter {min(unknown)!r}; known: {', '.join(names) or 'none'}")
    for name, value in given.items():
        if not isinstance(value, str | None):
            raise web.HTTPBadRequest(text=f"{name} must be a string")
    return {name: cast(str | None, given.get(name)) for name in names}


async def _json_object(request: web.Request) -> dict[str, object]:
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"no whole body within {BODY_TIMEOUT:g} s") from None
    if not body:
        return {}
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):  # the latter by deep nesting, well within the limit of bytes
        parsed = None
    if not isinstance(parsed, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return parsed


# Responses


def _shown(view: View) -> Handler:
    names = tuple(inspect.signature(view).parameters)

    async def handle(request: web.Request) -> web.Response:
        parameters = _named(dict(request.query), names)
        try:
            return web.json_response(dict(view(**parameters)))
        except KeyError as error:
            return _no_such(error, parameters)

    return cast(Handler, handle)


def _streamed(channel: Channel) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        parameters = _named(dict(request.query), channel.parameters)
        try:
            return await channel.serve(request, parameters)
        except KeyError as error:
            return _no_such(error, parameters)

    return cast(Handler, handle)


def _static(asset: assets.Asset) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=asset.body, headers={hdrs.CONTENT_TYPE: asset.content_type})

    return cast(Handler, handle)


@web.middleware
async def _in_time(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send the answer here, where it can be given up: aiohttp would wait for ever for a client that does not read.

    A stream has been sent when its handler returns, and has limits of its own.
    """
    response = await handler(request)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # who asked has gone, as a browser does from a stream with each click
    return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        match error.status:
            case 404:
                text = "not found; / shows what there is"
            case 405:
                text = f"{request.method} is not allowed here"
            case 413:
                text = f"the body is longer than {MAX_BODY} bytes"
            case _:
                text = error.text or error.reason
        kept = {k: v for k, v in error.headers.items() if k in (hdrs.ALLOW, hdrs.WWW_AUTHENTICATE)}
        return _refusal(error.status, text, kept)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)


def _no_such(error: KeyError, parameters: Mapping[str, str | None]) -> web.Response:
    name = next((name for name, value in parameters.items() if error.args == (value,)), None)
    if name is None:
        raise error
    if parameters[name] is None:
        return _refusal(400, f"the parameter {name!r} is missing")
    return _refusal(404, f"there is no {name} {error.args[0]!r}")


def _probe(verdict: str, report: Report) -> web.Response:
    body = {verdict: report.ok, "checks": dict(report.checks), "failing": list(report.failing)}
    return web.json_response(body, status=200 if report.ok else 503)
