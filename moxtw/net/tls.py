"""Server side TLS for Twisted: certificates by server name, client certificates, tickets.

``ServerTLS`` belongs to one listening socket. It can be given to ``transport.startTLS``, and
to ``TLSMemoryBIOFactory`` for immediate TLS. What an established connection tells about
itself is in ``moxtw.net.tlsinfo``, and can be imported from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from zope.interface import implementer

from moxtw.log import Logger
from moxtw.net.certs import (
    CertError,
    KeyPair,
    fingerprint,
    load_key_pair,
    read_key_pair,
    self_signed,
)
from moxtw.net.tlsinfo import (
    TLSInfo,
    channel_binding,
    peer_fingerprint,
    tls_connection,
    tls_info,
    tls_version,
)

__all__ = [
    "CertError",
    "KeyPair",
    "ServerTLS",
    "TLSInfo",
    "channel_binding",
    "load_key_pair",
    "parse_version",
    "peer_fingerprint",
    "read_key_pair",
    "self_signed",
    "tls_connection",
    "tls_info",
    "tls_version",
]

log = Logger("tls")

# Forward secrecy always; CBC only for what is too old for better. TLS 1.3 has its own list.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!PSK"

TICKET_KEY_LIFETIME = 24 * 3600

_VERSIONS = {
    "TLSv1.0": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}

_ALERT_UNRECOGNIZED_NAME = 112  # RFC 6066 3


def parse_version(name: str) -> int:
    """Number of a TLS version as written in the configuration, like ``TLSv1.2``.

    Raises ValueError.
    """
    try:
        return _VERSIONS[name]
    except KeyError:
        raise ValueError(f"unknown TLS version {name!r}: {', '.join(_VERSIONS)}") from None


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the server side of TLS connections.

    pairs
        Keys with certificates. A client gets those whose names cover the server name (SNI)
        that it asks for, of each key type the first. Without a server name it gets the
        first. None at all makes every handshake fail.
    unknown_name
        For server names that no certificate covers: ``"fallback"`` serves the first
        certificate, ``"fail"`` ends the handshake with the alert unrecognized_name.
    min_version
        Oldest version accepted, as in the configuration.
    tickets
        Whether clients may take up earlier sessions (tickets of RFC 5077, RFC 8446 4.6.1).
    known_key
        If given, clients are asked for a certificate. One that they show is looked at only
        for its key: if ``known_key(fingerprint)`` is false, the handshake fails. It is
        called on the reactor thread in the midst of the handshake, so it looks into memory
        only. It is *not* called for a resumed session, whose ``peer_fingerprint`` the
        protocol has to check again.
    alpn
        Application protocols to choose from, best first. Without any, offers are ignored;
        otherwise a client that offers only others fails.

    Ticket keys: pyOpenSSL cannot set them, but every OpenSSL context has random ones of its
    own. So the contexts are made anew when they are 24 hours old. A ticket is good until
    then, and not for days longer; after that a client makes a full handshake, which it does
    not notice but for the time that it takes. Keys that are no more cannot be stolen.
    """

    def __init__(
        self,
        pairs: Iterable[KeyPair],
        *,
        clock: IReactorTime,
        unknown_name: Literal["fallback", "fail"] = "fail",
        min_version: str = "TLSv1.2",
        tickets: bool = True,
        known_key: Callable[[str], bool] | None = None,
        alpn: Sequence[bytes] = (),
    ) -> None:
        self._clock: Any = clock
        self._unknown_name = unknown_name
        self._min_version = parse_version(min_version)
        self._tickets = tickets
        self._known_key = known_key
        self._alpn = tuple(alpn)
        # A connection that switched to the context of its server name still uses callbacks
        # of the first: that must not be collected before.
        self._first_context: WeakKeyDictionary[SSL.Connection, SSL.Context] = WeakKeyDictionary()
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Iterable[KeyPair]) -> None:
        """Use other certificates for connections from now on. Raises CertError."""
        self._pairs = tuple(pairs)
        by_name: dict[str, dict[str, int]] = {}
        for index, pair in enumerate(self._pairs):
            for name in pair.names:
                by_name.setdefault(name.rstrip("."), {}).setdefault(pair.key_type, index)
        self._by_name = {name: tuple(types.values()) for name, types in by_name.items()}
        self._default: tuple[int, ...] = ()
        if self._pairs:
            first = self._pairs[0]
            same = self._by_name.get(first.names[0].rstrip("."), ()) if first.names else ()
            self._default = same if 0 in same else (0,)
        self._renew()

    def _renew(self) -> None:
        self._contexts: dict[tuple[int, ...], SSL.Context] = {}
        self._made = self._clock.seconds()
        for chosen in {self._default, *self._by_name.values()}:
            self._contexts[chosen] = self._make_context(chosen)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """Make a connection, for Twisted's TLS layer."""
        return self.connection()

    def connection(self, *, client_certificates: bool = True) -> SSL.Connection:
        """Make the OpenSSL side of a connection."""
        if self._clock.seconds() - self._made >= TICKET_KEY_LIFETIME:
            self._renew()
        context = self._contexts[self._default]
        connection = SSL.Connection(context, None)
        self._first_context[connection] = context
        if self._known_key is not None and not client_certificates:
            connection.set_verify(SSL.VERIFY_NONE, _accept_all)
        return connection

    def without_client_certificates(self) -> _WithoutClientCertificates:
        """The same for clients that are not to be asked for a certificate.

        Those are the ones that failed to log in too often.
        """
        return _WithoutClientCertificates(self)

    def chosen(self, server_name: str) -> tuple[KeyPair, ...]:
        """What a client gets that asks for this server name ("" for none); () fails."""
        indexes = self._choose(server_name)
        return tuple(self._pairs[index] for index in indexes)

    def _choose(self, server_name: str) -> tuple[int, ...]:
        name = server_name.lower().rstrip(".")
        if not name:
            return self._default
        found = self._by_name.get(name)
        if found is None:
            # RFC 6125 6.4.3: a wildcard stands for one whole label, the first.
            found = self._by_name.get("*." + name.partition(".")[2])
        if found is None and self._unknown_name == "fallback":
            found = self._default
        return found or ()

    def _make_context(self, chosen: tuple[int, ...]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(self._min_version)
        ciphers = CIPHERS
        if self._min_version < SSL.TLS1_2_VERSION:
            # Their signatures are of MD5 and SHA-1, forbidden from level 1 on.
            ciphers += b":@SECLEVEL=0"
        context.set_cipher_list(ciphers)
        context.set_options(
            SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION
        )
        # Idle connections hold no buffers: there may be thousands of IMAP ones.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Sessions live in tickets only, not in our memory.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"moxtw")
        context.set_timeout(TICKET_KEY_LIFETIME)
        if self._known_key is not None:
            context.set_verify(SSL.VERIFY_PEER, self._verify)
        if self._alpn:
            context.set_alpn_select_callback(self._select_alpn)
        _set_name_callback(context, self._on_server_name)
        for index in chosen:
            pair = self._pairs[index]
            try:
                context.use_certificate(pair.chain[0])
                context.use_privatekey(pair.key)
                context.check_privatekey()
                for certificate in pair.chain[1:]:
                    context.add_extra_chain_cert(certificate)
            except SSL.Error as exc:
                names = ", ".join(pair.names)
                raise CertError(f"certificate for {names}: {_reason(exc)}") from exc
        return context

    def _on_server_name(self, connection: SSL.Connection) -> bool:
        """Called in each handshake, with or without a server name; False ends it."""
        name = (connection.get_servername() or b"").decode("ascii", "replace")
        chosen = self._choose(name)
        if not chosen:
            return False
        context = self._contexts.get(chosen)
        if context is not None and chosen != self._default:
            connection.set_context(context)
        if not self._tickets:
            # Set here and not on the context: only an option that changes during this
            # callback keeps OpenSSL from sending tickets with TLS 1.3 too.
            lib: Any = SSL._lib  # type: ignore[attr-defined]
            lib.SSL_set_options(connection._ssl, SSL.OP_NO_TICKET)
        return True

    def _verify(
        self, connection: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        if depth > 0:
            return True  # only the key of the client's own certificate counts
        try:
            return self._known_key is None or self._known_key(fingerprint(cert.to_cryptography()))
        except Exception as exc:  # noqa: BLE001
            # Raised on, it would come out of Twisted's TLS layer as an unexpected error.
            log.failure("checking client certificate", exc)
            return False

    def _select_alpn(self, connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for protocol in self._alpn:
            if protocol in offered:
                return protocol
        # RFC 7301 3.2: fatal alert no_application_protocol.
        raise SSL.Error([("SSL routines", "", "no application protocol")])


@implementer(IOpenSSLServerConnectionCreator)
class _WithoutClientCertificates:
    def __init__(self, tls: ServerTLS) -> None:
        self._tls = tls

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        return self._tls.connection(client_certificates=False)


def _accept_all(*args: object) -> bool:
    return True


def _set_name_callback(context: SSL.Context, callback: Callable[[SSL.Connection], bool]) -> None:
    """Call ``callback`` when the client has sent its server name, or none.

    pyOpenSSL's own method for this offers no way to refuse a name with its alert, other
    than an exception printed to stderr.
    """
    lib: Any = SSL._lib  # type: ignore[attr-defined]
    ffi: Any = SSL._ffi  # type: ignore[attr-defined]

    def on_name(ssl: Any, alert: Any, _: Any) -> int:
        if callback(SSL.Connection._reverse_mapping[ssl]):
            return 0  # SSL_TLSEXT_ERR_OK
        alert[0] = _ALERT_UNRECOGNIZED_NAME
        return 2  # SSL_TLSEXT_ERR_ALERT_FATAL

    handle = ffi.callback("int (*)(SSL *, int *, void *)", on_name, error=2)
    # The context must keep it: C holds no reference.
    context._tlsext_servername_callback = handle
    lib.SSL_CTX_set_tlsext_servername_callback(context._context, handle)


def _reason(exc: SSL.Error) -> str:
    errors = exc.args[0] if exc.args else None
    return str(errors[-1][-1]) if errors else str(exc)
