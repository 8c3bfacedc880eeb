"""Client side TLS for Twisted: verified, or opportunistic with the outcome recorded."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import service_identity
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from moxtw.net.certs import CertError, KeyPair

# Kinds of trouble with a certificate, with the names that TLS reports have for them
# (RFC 8460 4.3).
EXPIRED = "certificate-expired"
HOST_MISMATCH = "certificate-host-mismatch"
NOT_TRUSTED = "certificate-not-trusted"

# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_TIME_ERRORS = frozenset({9, 10})
_MAX_CHAIN = 16


class VerificationError(Exception):
    """The server's certificate is not acceptable. ``kind`` is one of the constants above."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


@dataclass(frozen=True, slots=True)
class Options:
    """How to speak TLS, where that is not as usual.

    least, most: versions as of OpenSSL, 0 for the usual ones. ciphers, curves: names as of
    OpenSSL with colons in between, empty for the usual ones.
    """

    least: int = 0
    most: int = 0
    ciphers: str = ""
    curves: str = ""
    tickets: bool = True


_USUAL = Options()


class Roots:
    """Certificate authorities to trust: those of the system, further ones, or both.

    Loading them takes long, so one ``Roots`` serves for all connections. ``system`` is
    where those of the operating system count; ``pems`` are PEM texts with more. Raises
    CertError, and ValueError for options that OpenSSL does not know.
    """

    def __init__(
        self,
        *,
        system: bool = True,
        pems: Sequence[bytes] = (),
        options: Options = _USUAL,
    ) -> None:
        self._system = system
        self._options = options
        self._certificates: list[x509.Certificate] = []
        for pem in pems:
            try:
                self._certificates += x509.load_pem_x509_certificates(pem)
            except ValueError as exc:
                raise CertError(f"certificate authorities: {exc}") from exc
        self._contexts: dict[bool, SSL.Context] = {}
        if options != _USUAL:
            self.context(False)

    def context(self, verify: bool) -> SSL.Context:
        """A context for connections that are verified, or not."""
        if verify not in self._contexts:
            self._contexts[verify] = self.new_context(verify)
        return self._contexts[verify]

    def new_context(self, verify: bool) -> SSL.Context:
        """A context of its own, for what cannot be shared."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        if not verify:
            # Where the other choice is no encryption at all, old keys are good enough.
            context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        if self._options != _USUAL:
            _apply(context, self._options)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self._system:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        if store is not None:
            # A certificate that was named as trusted is trusted, whoever signed it.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            for certificate in self._certificates:
                store.add_cert(crypto.X509.from_cryptography(certificate))
        context.set_verify(SSL.VERIFY_PEER, _on_certificate)
        context.set_info_callback(_on_info)
        return context


def _apply(context: SSL.Context, options: Options) -> None:
    """Set options. Raises ValueError."""
    if options.least:
        context.set_min_proto_version(options.least)
    if options.most:
        context.set_max_proto_version(options.most)
    if not options.tickets:
        context.set_options(SSL.OP_NO_TICKET)
    try:
        if options.ciphers:
            suites = [name for name in options.ciphers.split(":") if name.startswith("TLS_")]
            others = [name for name in options.ciphers.split(":") if not name.startswith("TLS_")]
            if suites:
                context.set_tls13_ciphersuites(":".join(suites).encode("ascii"))
            if others:
                context.set_cipher_list(":".join([*others, "@SECLEVEL=0"]).encode("ascii"))
    except (SSL.Error, UnicodeEncodeError) as exc:
        raise ValueError(f"no such cipher suites: {options.ciphers}") from exc
    if options.curves:
        lib: Any = SSL._lib  # type: ignore[attr-defined]
        set_curves = getattr(lib, "SSL_CTX_set1_curves_list", None)
        if set_curves is None:
            raise ValueError("curves cannot be chosen with this OpenSSL")
        if set_curves(context._context, options.curves.encode("ascii", "replace")) != 1:
            lib.ERR_clear_error()
            raise ValueError(f"no such curves: {options.curves}")


@implementer(IOpenSSLClientConnectionCreator)
class ClientTLS:
    """Makes the client side of one TLS connection, TLS 1.2 or newer.

    hostname
        Sent as server name (SNI), and what the certificate has to be for. An A-label name,
        or an address (then no server name is sent).
    server_name
        Sent in place of `hostname`.
    verify
        Whether the handshake fails if the certificate is not good. If False, ``problem``
        tells afterwards what was wrong with it.
    check
        Further check, called with the certificates that the server showed, its own one
        first, when the handshake is done and before any data goes out. What it raises ends
        the connection and is the reason that ``connectionLost`` gets.
    pair
        Key and certificate to show when the server asks for one.

    After the handshake, ``problem`` is None or a VerificationError, whether it counted or
    not; ``failure`` is what ``check`` raised. Twisted tells of the end of the handshake even
    then, just before it drops the connection.
    """

    def __init__(
        self,
        hostname: str,
        roots: Roots,
        *,
        verify: bool,
        check: Callable[[list[x509.Certificate]], None] | None = None,
        pair: KeyPair | None = None,
        alpn: Sequence[bytes] = (),
        server_name: str = "",
    ) -> None:
        self._server_name = server_name.rstrip(".") or hostname.rstrip(".")
        self.hostname = hostname.rstrip(".")
        self.problem: VerificationError | None = None
        self.failure: Exception | None = None
        self._roots = roots
        self._verify = verify
        self._check = check
        self._pair = pair
        self._alpn = alpn

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """Make a connection, for Twisted's TLS layer."""
        return self.connection()

    def connection(self) -> SSL.Connection:
        """Make the OpenSSL side of the connection."""
        if self._pair is None:
            context = self._roots.context(self._verify)
        else:
            context = self._roots.new_context(self._verify)
            context.use_certificate(self._pair.chain[0])
            context.use_privatekey(self._pair.key)
            for certificate in self._pair.chain[1:]:
                context.add_extra_chain_cert(certificate)
        connection = SSL.Connection(context, None)
        connection.set_connect_state()
        if self._server_name and not _is_ip(self._server_name):
            connection.set_tlsext_host_name(self._server_name.encode("ascii"))
        if self._alpn:
            connection.set_alpn_protos(list(self._alpn))
        _clients[connection] = self
        return connection

    def _on_certificate(self, cert: crypto.X509, error: int, depth: int, ok: int) -> bool:
        if not ok:
            self._note(
                VerificationError(
                    EXPIRED if error in _TIME_ERRORS else NOT_TRUSTED,
                    crypto_error_text(error),
                )
            )
        elif depth == 0 and self.problem is None:
            self._check_name(cert.to_cryptography())
        return self.problem is None or not self._verify

    def _check_name(self, cert: x509.Certificate) -> None:
        try:
            if _is_ip(self.hostname):
                verify_certificate_ip_address(cert, self.hostname)
            else:
                verify_certificate_hostname(cert, self.hostname)
        except service_identity.VerificationError:
            self._note(
                VerificationError(HOST_MISMATCH, f"certificate is not for {self.hostname}")
            )
        except (service_identity.CertificateError, ValueError) as exc:
            self._note(VerificationError(HOST_MISMATCH, str(exc)))

    def _note(self, problem: VerificationError) -> None:
        if self.problem is None:
            self.problem = problem

    def _on_done(self, connection: SSL.Connection) -> None:
        if self._check is None:
            return
        try:
            chain = connection.get_peer_cert_chain() or []
            self._check([cert.to_cryptography() for cert in chain[:_MAX_CHAIN]])
        except Exception as exc:  # noqa: BLE001
            # Whatever it is, the connection must not be used, and the protocol is told why.
            self.failure = exc
            connection.get_app_data().failVerification(Failure())


_clients: WeakKeyDictionary[SSL.Connection, ClientTLS] = WeakKeyDictionary()


def _on_certificate(
    connection: SSL.Connection, cert: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    client = _clients.get(connection)
    return client is not None and client._on_certificate(cert, error, depth, ok)


def _on_info(connection: SSL.Connection, where: int, _: int) -> None:
    if where & SSL.SSL_CB_HANDSHAKE_DONE:
        client = _clients.pop(connection, None)
        if client is not None:
            client._on_done(connection)


def crypto_error_text(error: int) -> str:
    """OpenSSL's text for a certificate error number."""
    lib, ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]
    return str(ffi.string(lib.X509_verify_cert_error_string(error)).decode("ascii", "replace"))


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
