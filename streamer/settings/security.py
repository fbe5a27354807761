"""The section `kafka.security`: how the broker is reached, whom it is trusted to be, and who we are to it."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from streamer.settings.types import File, Password, Section, Text, conflict

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Security(Section):
    """TLS and SASL. A password that is missing is told when the broker is met: a check needs no secrets."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        default="plaintext",
        description="Of the broker's listener: with TLS (ssl), with a user and password (sasl), or both.",
    )
    ca_file: File | None = Field(
        default=None,
        strict=False,
        description="PEM file of the authorities that may have signed the broker's certificate; null: the system's.",
    )
    cert_file: File | None = Field(
        default=None,
        strict=False,
        description="PEM file of our own certificate, with its chain; for a broker that asks for one.",
    )
    key_file: File | None = Field(
        default=None, strict=False, description="PEM file of its private key; null: it is in cert_file too."
    )
    key_password: Password | None = Field(default=None, description="Of the private key. Never in the file.")
    key_password_file: File | None = Field(default=None, strict=False, description="File that holds key_password.")
    mechanism: Mechanism | None = Field(
        default=None, description="SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    username: Text | None = Field(default=None, description="SASL user.")
    password: Password | None = Field(default=None, description="SASL password. Never in the file.")
    password_file: File | None = Field(default=None, strict=False, description="File that holds password.")

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        """A password that is silently not used, or a certificate, is the worst kind of mistake."""
        for keys, wanted in ((_OF_TLS, "ssl"), (_OF_SASL, "sasl")):
            if wanted not in self.protocol.split("_"):
                self._refuse_set(keys, f"none with protocol {self.protocol}; set kafka.security.protocol to sasl_ssl")
        if self.cert_file is None:
            self._refuse_set(_OF_CERTIFICATE, "none without kafka.security.cert_file, whose key it is about")
        return self

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.has_sasl and self.mechanism is None:
            conflict("mechanism", "null", f"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 with protocol {self.protocol}")
        if self.has_sasl and self.username is None:
            conflict("username", "null", f"the user to log in as with protocol {self.protocol}")
        return self

    def _refuse_set(self, keys: tuple[str, ...], what: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None:
                conflict(key, repr(str(value)) if isinstance(value, str | Path) else "a secret", what)

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker's certificate checked."""
        return self.protocol in ("ssl", "sasl_ssl")

    @property
    def has_sasl(self) -> bool:
        """Whether we log in with a user and a password."""
        return self.protocol in ("sasl_plaintext", "sasl_ssl")


_OF_TLS = ("ca_file", "cert_file", "key_file", "key_password", "key_password_file")
_OF_SASL = ("mechanism", "username", "password", "password_file")
_OF_CERTIFICATE = ("key_file", "key_password", "key_password_file")
