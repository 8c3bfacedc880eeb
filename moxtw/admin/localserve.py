"""The files of a local test server: configuration, certificate, keys and passwords."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from moxtw.net.certs import self_signed
from moxtw.sasl.password import hash_password

ACCOUNT: Final = "mox"
ADDRESS: Final = "mox@localhost"
PASSWORD: Final = "moxmoxmox"
ADMIN_PASSWORD: Final = "moxadmin"

_STATIC: Final = """\
# Configuration of a local test server. Everything that is sent to it, for any address, is
# delivered to the account mox; nothing leaves this machine.
DataDir: data
LogLevel: traceauth
User: {user}
Hostname: localhost
Pedantic: true
TLS:
	CA:
		AdditionalToSystem: true
		CertFiles:
			- localhost.crt
AdminPasswordFile: adminpasswd
# Programs under test may connect as often as they like.
ConnectionLimitExemptions:
	- 127.0.0.0/8
	- ::1
Listeners:
	local:
		IPs:
{ips}
		TLS:
			KeyCerts:
				-
					CertFile: localhost.crt
					KeyFile: localhost.key
		SMTP:
			Enabled: true
			Port: 1025
		Submission:
			Enabled: true
			Port: 1587
			NoRequireSTARTTLS: true
		Submissions:
			Enabled: true
			Port: 1465
		IMAP:
			Enabled: true
			Port: 1143
			NoRequireSTARTTLS: true
		IMAPS:
			Enabled: true
			Port: 1993
		AccountHTTP:
			Enabled: true
			Port: 1080
			Path: /account/
		AccountHTTPS:
			Enabled: true
			Port: 1443
			Path: /account/
		AdminHTTP:
			Enabled: true
			Port: 1080
		AdminHTTPS:
			Enabled: true
			Port: 1443
		WebmailHTTP:
			Enabled: true
			Port: 1080
			Path: /webmail/
		WebmailHTTPS:
			Enabled: true
			Port: 1443
			Path: /webmail/
		WebAPIHTTP:
			Enabled: true
			Port: 1080
			Path: /webapi/
		WebAPIHTTPS:
			Enabled: true
			Port: 1443
			Path: /webapi/
		MetricsHTTP:
			Enabled: true
			Port: 1081
		WebserverHTTP:
			Enabled: true
			Port: 1080
		WebserverHTTPS:
			Enabled: true
			Port: 1443
Postmaster:
	Account: mox
	Mailbox: Inbox
"""

_DYNAMIC: Final = """\
Domains:
	localhost:
		LocalpartCatchallSeparator: +
		DKIM:
			Selectors:
				localserve:
					Expiration: 72h
					PrivateKeyFile: dkim.localserve.privatekey.pkcs8.pem
			Sign:
				- localserve
Accounts:
	mox:
		KeepRetiredMessagePeriod: 72h0m0s
		KeepRetiredWebhookPeriod: 72h0m0s
		Domain: localhost
		Destinations:
			mox@localhost: nil
		RejectsMailbox: Rejects
		AutomaticJunkFlags:
			Enabled: true
			JunkMailboxRegexp: ^(junk|spam)
			NeutralMailboxRegexp: ^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)
		JunkFilter:
			Threshold: 0.950000
			Params:
				Onegrams: true
				MaxPower: 0.010000
				TopWords: 10
				IgnoreWords: 0.100000
				RareWords: 2
		NoFirstTimeSenderDelay: true
WebHandlers:
	-
		LogName: workdir
		Domain: localhost
		PathRegexp: ^/workdir/
		DontRedirectPlainHTTP: true
		WebStatic:
			StripPrefix: /workdir/
			Root: .
			ListFiles: true
"""


def default_directory() -> Path:
    """Where localserve keeps its files unless told otherwise."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "moxtw-localserve"


def prepare(directory: Path, ip: str = "") -> bool:
    """Write what is missing of a local server's files; says whether the directory is new.

    `ip` is the address to listen on; without it, both loopback addresses. An existing
    configuration is left alone: then `ip` must be the one that it was made with. Raises
    OSError.
    """
    config = directory / "mox.conf"
    if config.exists():
        return False
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    (directory / "data").mkdir(mode=0o750, exist_ok=True)
    ips = [ip] if ip else ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]
    certificate, key = self_signed(["localhost"], ips, years=4)
    _write(directory / "localhost.crt", certificate, 0o644)
    _write(directory / "localhost.key", key)
    dkim = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(directory / "dkim.localserve.privatekey.pkcs8.pem", dkim)
    _write(directory / "adminpasswd", hash_password(ADMIN_PASSWORD).encode())
    _write(directory / "domains.conf", _DYNAMIC.encode())
    listed = "\n".join(f"\t\t\t- {each}" for each in ips)
    static = _STATIC.format(user=os.getuid(), ips=listed)
    # Last, since its presence says that all the rest is there.
    _write(config, static.encode())
    return True


def _has_ipv6() -> bool:
    import socket

    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.rename(temporary, path)
