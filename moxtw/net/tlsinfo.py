"""What an established TLS connection tells about itself: version, names, keys, bindings.

All functions take the ``OpenSSL.SSL.Connection`` of a finished handshake, which
``tls_connection(transport)`` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL

from moxtw.net.certs import fingerprint

# Numbers of the cipher suites that are still met (IANA TLS parameters).
CIPHER_NUMBERS = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_AES_128_CCM_SHA256": 0x1304,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": 0xC009,
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": 0xC00A,
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": 0xC013,
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": 0xC014,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": 0xC023,
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384": 0xC024,
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": 0xC027,
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384": 0xC028,
}


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """A TLS connection in words and numbers.

    ``version`` like ``TLS1.3`` and ``cipher`` by its IANA name; their numbers are those on
    the wire, 0 if unknown. ``server_name`` is the SNI, "" if none; ``resumed`` whether an
    earlier session was taken up; ``alpn`` the application protocol agreed on, or "".
    """

    version: str
    cipher: str
    version_number: int
    cipher_number: int
    server_name: str
    resumed: bool
    alpn: str

    @property
    def text(self) -> str:
        """As kept with login attempts."""
        return (
            f"version={self.version} ciphersuite={self.cipher} sni={self.server_name} "
            f"resumed={str(self.resumed).lower()} alpn={self.alpn}"
        )


def tls_connection(transport: Any) -> SSL.Connection | None:
    """The OpenSSL connection of a protocol's transport, None if that is not TLS (any more)."""
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    return handle if isinstance(handle, SSL.Connection) else None


def tls_info(connection: SSL.Connection) -> TLSInfo:
    """Describe a connection."""
    cipher = iana_cipher_name(connection.get_cipher_name() or "")
    return TLSInfo(
        version=tls_version(connection),
        cipher=cipher,
        version_number=connection.get_protocol_version(),
        cipher_number=CIPHER_NUMBERS.get(cipher, 0),
        server_name=server_name(connection),
        resumed=resumed(connection),
        alpn=connection.get_alpn_proto_negotiated().decode("ascii", "backslashreplace"),
    )


def tls_version(connection: SSL.Connection) -> str:
    """``TLS1.3``, ``TLS1.2`` and so on."""
    name = connection.get_protocol_version_name()
    return {"TLSv1": "TLS1.0"}.get(name, name.replace("TLSv", "TLS"))


def iana_cipher_name(name: str) -> str:
    """IANA's name for a cipher suite of OpenSSL's naming.

    ``ECDHE-RSA-AES128-GCM-SHA256`` is ``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256``. Those of
    TLS 1.3 have that form already.
    """
    if not name or name.startswith("TLS_"):
        return name
    parts = name.split("-")
    exchange = parts[:2] if parts[0] in ("ECDHE", "DHE", "ECDH", "DH") else ["RSA"]
    rest = parts[2:] if len(exchange) == 2 else parts
    cipher: list[str] = []
    for part in rest:
        if part.startswith(("AES", "ARIA", "CAMELLIA")):
            bare = part.rstrip("0123456789")
            cipher += [bare, part[len(bare) :]] if bare != part else [part]
        else:
            cipher.append(part)
    if "POLY1305" in cipher:
        cipher.append("SHA256")
    elif not {"GCM", "CCM", "CCM8"} & set(cipher):
        cipher.insert(-1, "CBC")
    return f"TLS_{'_'.join(exchange)}_WITH_{'_'.join(cipher)}".replace("CCM8", "CCM_8")


def server_name(connection: SSL.Connection) -> str:
    """The server name that the client asked for (SNI), lower case; "" if none."""
    name = connection.get_servername()
    return name.decode("ascii", "backslashreplace").lower() if name else ""


def resumed(connection: SSL.Connection) -> bool:
    """Whether the handshake took up an earlier session instead of exchanging certificates."""
    # pyOpenSSL has no public method for this.
    lib: Any = SSL._lib  # type: ignore[attr-defined]
    return bool(lib.SSL_session_reused(connection._ssl) == 1)


def peer_fingerprint(connection: SSL.Connection) -> str | None:
    """Fingerprint (``certs.fingerprint``) of the certificate that the peer showed, or None.

    Also that of a resumed session, in which no certificate was sent anew.
    """
    certificate = connection.get_peer_certificate()
    return None if certificate is None else fingerprint(certificate.to_cryptography())


def channel_binding(connection: SSL.Connection, server: bool = True) -> tuple[str, bytes] | None:
    """Channel binding type and data for SASL (RFC 5802 6), or None if there is none.

    ``tls-exporter`` with TLS 1.3 (RFC 9266 4), ``tls-unique`` below (RFC 5929 3). ``server``
    tells which side we are.
    """
    version = connection.get_protocol_version()
    if version >= SSL.TLS1_3_VERSION:
        return "tls-exporter", connection.export_keying_material(
            b"EXPORTER-Channel-Binding", 32, b""
        )
    # The first Finished message: the client's, or in a resumed session the server's.
    again = resumed(connection)
    # RFC 9266 1: without the extended master secret (RFC 7627) a resumed session may not be
    # bound to this server.
    if again and not _extended_master_secret(connection):
        return None
    own_is_first = again == server
    finished = connection.get_finished() if own_is_first else connection.get_peer_finished()
    return ("tls-unique", finished) if finished else None


def _extended_master_secret(connection: SSL.Connection) -> bool:
    lib: Any = SSL._lib  # type: ignore[attr-defined]
    return bool(lib.SSL_get_extms_support(connection._ssl) == 1)
