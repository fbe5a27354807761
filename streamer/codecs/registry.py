"""A schema registry that speaks Confluent's REST API: schemas by id, and ours registered."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from streamer.errors import BrokerError, ConfigError, StreamerError

LARGEST_ANSWER = 2**20
"""Bytes of an answer that are read at most: more is no schema that a tick was written with."""

_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_CHUNK = 64 * 1024
_REFUSED = (401, 403)
_TROUBLED = (408, 429)  # with all of 5xx; a later try may be answered otherwise
_SHOWN = 300


class RegistryError(BrokerError):
    """The registry is away, slow, or refuses us; a later try may succeed."""


class NotRegisteredError(StreamerError):
    """The registry has no such schema, or none that it gives us: it refuses the id, or the answer is too long."""


class Registry:
    """A client that blocks, to be used in threads.

    timeout: seconds that an answer may take, from its first byte to its last. It goes nowhere but to `url`: to no
    proxy, no redirect, no file.
    """

    def __init__(
        self,
        url: str,
        username: str | None = None,
        password: SecretStr | None = None,
        ca_file: Path | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"Accept": _ACCEPT}
        if username is not None and password is not None:
            login = f"{username}:{password.get_secret_value()}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=_trusting(ca_file) if urlsplit(url).scheme == "https" else None),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def check(self) -> None:
        """Return if it answers us. RegistryError; ConfigError where it is none, or refuses us."""
        try:
            self._ask("/schemas/types")
        except NotRegisteredError:
            raise self._no_registry() from None

    def schema(self, number: int) -> dict[str, Any]:
        """The schema of an id: `schema` its text, `schemaType` (Avro without), `references`.

        NotRegisteredError, RegistryError.
        """
        return _object(self._ask(f"/schemas/ids/{number}"), self.url)

    def version(self, subject: str, version: int) -> dict[str, Any]:
        """The schema of one version of a subject, as that of an id. NotRegisteredError, RegistryError."""
        return _object(self._ask(f"/subjects/{quote(subject, safe='')}/versions/{version}"), self.url)

    def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema under `subject`, new or known. RegistryError; ConfigError where it is refused."""
        try:
            answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        except NotRegisteredError:
            raise self._no_registry() from None
        number = _object(answer, self.url).get("id")
        if not isinstance(number, int):
            raise RegistryError(f"the registry at {self.url} gave no id for subject {subject!r}")
        return number

    def _no_registry(self) -> ConfigError:
        return ConfigError(f"registry.url: what answers at {self.url} is no schema registry")

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(dict(body)).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": "application/vnd.schemaregistry.v1+json"})
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return json.loads(self._read(response, path))
        except urllib.error.HTTPError as error:
            raise self._refusal(error, path, is_new=body is not None) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise RegistryError(
                f"no schema registry answers at {self.url} ({reason}): check registry.url, or wait for it"
            ) from error
        except (ValueError, RecursionError) as error:
            raise RegistryError(f"what answers at {self.url} speaks no JSON: check registry.url") from error

    def _read(self, response: HTTPResponse, path: str) -> bytes:
        """All of the answer; a socket's own time-out begins anew with each byte."""
        deadline, content = time.monotonic() + self._timeout, bytearray()
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > LARGEST_ANSWER:
                raise self._missing(path, f"more than {LARGEST_ANSWER} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"its answer takes longer than {self._timeout:g} s")
        return bytes(content)

    def _refusal(self, error: urllib.error.HTTPError, path: str, *, is_new: bool) -> StreamerError:
        said = _said(error)
        if error.code in _REFUSED:
            return ConfigError(
                f"the registry at {self.url} refuses us ({said}): check registry.username, and"
                " STREAMER_REGISTRY__PASSWORD or registry.password_file"
            )
        if not 400 <= error.code < 500 or error.code in _TROUBLED:
            return RegistryError(f"the registry at {self.url} answers {path} with {said}")
        if is_new:
            return ConfigError(f"the registry at {self.url} refuses the schema of the forecasts: {said}")
        return self._missing(path, said)

    def _missing(self, path: str, why: str) -> NotRegisteredError:
        return NotRegisteredError(f"the registry at {self.url} has no {path} ({why})")


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        reason = f"is no PEM file of certificates ({error.reason})"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    raise ConfigError(f"registry.ca_file: {ca_file} {reason}")


def _said(error: urllib.error.HTTPError) -> str:
    """The registry's own words, where they are."""
    with error:
        try:
            text = str(json.loads(error.read(LARGEST_ANSWER))["message"])
        except (ValueError, KeyError, TypeError, OSError, HTTPException, RecursionError):
            text = str(error.reason)
    text = "".join(each if each.isprintable() else " " for each in text)
    return f"{error.code} {' '.join(text.split())[:_SHOWN]}"


def _object(answer: Any, url: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise RegistryError(f"what answers at {url} is no schema registry: check registry.url")
    return answer
