"""How each Kafka client of this project reaches the broker (address, TLS, SASL), and why a broker refuses us.

aiokafka logs why it cannot connect and then says no more than that it could not, so a connection of our own asks.
"""

import ssl
from collections.abc import Iterator
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streamer.errors import BrokerError, ConfigError
from streamer.settings.kafka import Kafka
from streamer.settings.security import Security

_ANSWER_MS = 10_000
_HAS_EXPIRED, _NOT_YET_VALID, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_*
_TRANSIENT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # a broker that is just going away


class Access:
    """The way to the brokers that the settings describe.

    Raises ConfigError, in one line, where a file or the password that it takes is missing or of no use.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._security = kafka.security
        if self._security.has_sasl and self._security.password is None:
            raise ConfigError(
                f"kafka.security.password: missing, protocol {self._security.protocol} needs it: set "
                "STREAMER_KAFKA__SECURITY__PASSWORD or kafka.security.password_file"
            )
        self._context = _trusting(self._security) if self._security.has_tls else None
        self.renew()

    def renew(self) -> None:
        """Read our certificate again, for all connections to come: it may have been replaced before it expires."""
        if self._context is not None and self._security.cert_file is not None:
            _show_certificate(self._context, self._security)

    def options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's clients."""
        return {"bootstrap_servers": self._kafka.bootstrap_servers, **self._options()}

    def _options(self) -> dict[str, Any]:
        security = self._security
        found: dict[str, Any] = {"security_protocol": security.protocol.upper(), "ssl_context": self._context}
        if security.has_sasl and security.password is not None:
            found |= {
                "sasl_mechanism": security.mechanism,
                "sasl_plain_username": security.username,
                "sasl_plain_password": security.password.get_secret_value(),
            }
        return found

    async def check(self) -> None:
        """Return if one of the brokers lets us in.

        ConfigError: one refuses us, and always will. BrokerError: none answers; a later try may succeed.
        """
        refused, failed = None, "no address"
        for host, port, _ in collect_hosts(self._kafka.bootstrap_servers, randomize=False):
            try:
                await self._reach(host, port)
            except (OSError, KafkaError, ValueError) as error:  # TimeoutError is an OSError
                refused = refused or self._refusal(f"{host}:{port}", error)
                failed = self._failure(error)
            else:
                return
        if refused is not None:
            raise ConfigError(refused)
        raise BrokerError(failed)

    async def _reach(self, host: str, port: int) -> None:
        connection = await create_conn(host, port, request_timeout_ms=_ANSWER_MS, **self._options())
        try:
            await connection.send(MetadataRequest([]))  # a listener with SASL closes on whoever does not log in
        finally:
            await connection.close()

    async def refusal(self) -> str | None:
        """Why the broker refuses us while we run; None where it does not, or is away. It may change its mind."""
        if self._security.protocol == "plaintext":
            return None
        try:
            self.renew()
            await self.check()
        except ConfigError as error:
            return str(error)
        except BrokerError:
            pass
        return None

    def _failure(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        was_closed = any(isinstance(each, EOFError | ConnectionResetError | ssl.SSLEOFError) for each in _causes(error))
        if not was_closed:
            return text
        return (
            f"it closes the connection: kafka.security.protocol is {self._security.protocol}, set it to that of the "
            f"listener ({text})"
        )

    # --- what a refusal means -------------------------------------------------------------------------------------

    def _refusal(self, broker: str, error: Exception) -> str | None:
        """What is wrong and what to do, in one line; None for what a later try may mend."""
        for each in _causes(error):
            match each:
                case ssl.SSLCertVerificationError():
                    return self._distrust(broker, each)
                case ssl.SSLError() if not isinstance(each, _TRANSIENT):
                    return self._no_tls(broker, each)
                case SaslAuthenticationFailed() | UnsupportedSaslMechanismError() | IllegalSaslStateError():
                    return self._no_login(broker, each)
                case ValueError() if self._security.has_sasl:
                    return (
                        f"the broker {broker} cannot prove that it knows the password of {self._security.username!r}: "
                        "it is another than kafka.bootstrap_servers should name"
                    )
        return None

    def _distrust(self, broker: str, error: ssl.SSLCertVerificationError) -> str:
        whose = f"the certificate of the broker {broker}"
        match error.verify_code:
            case code if code == _HAS_EXPIRED:
                return f"{whose} has expired: renew it there, or set the clock of this machine"
            case code if code == _NOT_YET_VALID:
                return f"{whose} is not valid yet: set the clock of this machine, or renew it there"
            case code if code in (_OTHER_NAME, _OTHER_ADDRESS):
                return f"{whose} is for another name: name it in kafka.bootstrap_servers as the certificate does"
        authorities = self._security.ca_file or "those of this system"
        return (
            f"{whose} is signed by no authority of kafka.security.ca_file ({authorities}): "
            f"name the file with the one that signed it ({error.verify_message})"
        )

    def _no_tls(self, broker: str, error: ssl.SSLError) -> str:
        reason = error.reason or str(error)
        if "ALERT" not in reason:
            return f"the broker {broker} does not speak TLS as we do ({reason}): check kafka.security.protocol there"
        if self._security.cert_file is None:
            return f"the broker {broker} asks for a certificate of ours ({reason}): set kafka.security.cert_file"
        return (
            f"the broker {broker} refuses our certificate, kafka.security.cert_file {self._security.cert_file} "
            f"({reason}): have one made that it trusts"
        )

    def _no_login(self, broker: str, error: KafkaError) -> str:
        security = self._security
        if isinstance(error, UnsupportedSaslMechanismError):
            return f"the broker {broker} does not offer kafka.security.mechanism {security.mechanism}: set another"
        if isinstance(error, IllegalSaslStateError):
            without = "ssl" if security.has_tls else "plaintext"
            return f"the broker {broker} asks for no user and password: set kafka.security.protocol to {without}"
        return (
            f"the broker {broker} refuses user {security.username!r} or the password ({security.mechanism}): check "
            "kafka.security.username and STREAMER_KAFKA__SECURITY__PASSWORD or kafka.security.password_file"
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and so on: aiokafka wraps what broke a connection."""
    while error is not None:
        yield error
        error = error.__cause__


def _trusting(security: Security) -> ssl.SSLContext:
    """Trusts the authorities of `ca_file`, or the system's, and checks that the broker's name is the one we asked."""
    try:
        return ssl.create_default_context(cafile=security.ca_file)
    except ssl.SSLError as error:
        reason = f"is no PEM file of certificates ({error.reason})"
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    raise ConfigError(f"kafka.security.ca_file: {security.ca_file} {reason}")


def _show_certificate(context: ssl.SSLContext, security: Security) -> None:
    key, password = security.key_file or security.cert_file, security.key_password
    # Never None: OpenSSL would ask for the password of an encrypted key at the terminal.
    secret = "" if password is None else password.get_secret_value()
    try:
        context.load_cert_chain(security.cert_file or "", key, secret)
    except ssl.SSLError as error:
        reason = (
            f"{security.cert_file} and {key} are no PEM files of a certificate and its private key, or "
            f"kafka.security.key_password is not the key's ({error.reason or error})"
        )
    except (OSError, ValueError) as error:  # ValueError: a password that is too long
        reason = f"{security.cert_file} with {key}: cannot be read: {getattr(error, 'strerror', None) or error}"
    else:
        return
    raise ConfigError(f"kafka.security.cert_file: {reason}")
