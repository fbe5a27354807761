"""Commands ask the daemon over HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from streamer.errors import ConfigError, StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.settings.root import Http

_SECONDS = 10.0
_SWAP_SECONDS = 70.0  # more than the daemon gives itself for a swap
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a daemon that listens on all addresses is here too
_MAX_ANSWER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """The daemon at `url`."""

    url: str
    token: SecretStr | None

    @classmethod
    def of(cls, http: "Http", url: str | None) -> "DaemonClient":
        """The daemon that the settings describe, or at `url`. UsageError; ConfigError where any port is its own."""
        if url is not None and not url.startswith(("http://", "https://")):
            raise UsageError(f"--url: found {url!r}, expected an address such as http://127.0.0.1:9108")
        if url is None and http.port == 0:
            raise ConfigError("http.port is 0, any free one: name the daemon by --url, as its log has it")
        host = _EVERYWHERE.get(http.host, http.host)
        return cls((url or f"http://{f'[{host}]' if ':' in host else host}:{http.port}").rstrip("/"), http.token)

    def get(self, path: str) -> dict[str, Any]:
        """What it shows there; StreamerError says why not."""
        return self._answer(urllib.request.Request(self.url + path), _SECONDS)

    def post(self, path: str, body: Mapping[str, str]) -> dict[str, Any]:
        """What it answers to that request, made with the token. ConfigError without a token; StreamerError."""
        if self.token is None:
            raise ConfigError("no token: set STREAMER_HTTP__TOKEN or http.token_file as for the daemon")
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}", "Content-Type": "application/json"}
        data = json.dumps(dict(body)).encode()
        return self._answer(urllib.request.Request(self.url + path, data, headers), _SWAP_SECONDS)

    def _answer(self, request: urllib.request.Request, seconds: float) -> dict[str, Any]:
        # No proxy, whatever the environment says: the token is for this daemon alone.
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
        ):
            opener.add_handler(handler())
        try:
            with opener.open(request, timeout=seconds) as response:
                answer = json.loads(response.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            raise StreamerError(f"the daemon at {self.url} refuses: {_reason(error)}") from error
        except (OSError, ValueError, HTTPException) as error:
            raise StreamerError(
                f"no daemon answers at {self.url} ({getattr(error, 'reason', error)}): start `streamer run`, or name it"
                " by --url"
            ) from error
        if not isinstance(answer, dict):
            raise StreamerError(f"what answers at {self.url} is no streamer: name the daemon by --url")
        return answer


def _reason(error: urllib.error.HTTPError) -> str:
    """The daemon's own words, where they are."""
    try:
        return str(json.loads(error.read(_MAX_ANSWER))["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"
    finally:
        error.close()
