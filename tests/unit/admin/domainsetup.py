"""A configuration with keys in files, for tests of DNS records and checks."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from moxtw.admin import hostkeys, keys
from moxtw.config.dynamic import ConfigDomain
from moxtw.config.load import load_dynamic, load_static
from moxtw.config.static import Static

STATIC = """\
DataDir: ../data
LogLevel: error
Hostname: mail.example.org
ACME:
	letsencrypt:
		DirectoryURL: https://acme.example/directory
		ContactEmail: me@example.org
		IssuerDomainName: ca.example
Listeners:
	public:
		IPs:
			- 192.0.2.1
			- 2001:db8::1
		TLS:
			ACME: letsencrypt
			HostPrivateKeyFiles:
				- rsa.pem
				- ecdsa.pem
		SMTP:
			Enabled: true
		Submissions:
			Enabled: true
		IMAPS:
			Enabled: true
Postmaster:
	Account: me
	Mailbox: Postmaster
HostTLSRPT:
	Account: me
	Mailbox: TLSRPT
	Localpart: tlsreports
"""

DYNAMIC = """\
Domains:
	example.org:
		ClientSettingsDomain: imap.example.org
		DKIM:
			Selectors:
				b:
					PrivateKeyFile: b.pem
				a:
					PrivateKeyFile: a.pem
			Sign:
				- a
		DMARC:
			Localpart: dmarc!reports
			Account: me
			Mailbox: DMARC
		MTASTS:
			PolicyID: 20260102T030405
			Mode: enforce
			MaxAge: 24h0m0s
			MX:
				- mail.example.org
		TLSRPT:
			Localpart: tlsreports
			Account: me
			Mailbox: TLSRPT
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
"""

# Making RSA keys takes long: one for all.
RSA = keys.make_key("rsa")
ED25519 = Ed25519PrivateKey.generate()
ECDSA = hostkeys.make_host_key("ecdsap256")


def write(directory: Path, static: str = STATIC, dynamic: str = DYNAMIC) -> Path:
    """Write the files into a new directory; returns the path of mox.conf."""
    directory.mkdir(parents=True)
    (directory / "a.pem").write_bytes(keys.key_pem(ED25519))
    for name in ("b.pem", "rsa.pem"):
        (directory / name).write_bytes(keys.key_pem(RSA))
    (directory / "ecdsa.pem").write_bytes(hostkeys.host_key_pem(ECDSA))
    (directory / "mox.conf").write_text(static)
    (directory / "domains.conf").write_text(dynamic)
    return directory / "mox.conf"


def load(
    directory: Path, static: str = STATIC, dynamic: str = DYNAMIC
) -> tuple[Static, ConfigDomain]:
    """Write and load; returns mox.conf and the first domain."""
    loaded = load_static(write(directory, static, dynamic))
    domains = load_dynamic(loaded.dynamic_path, loaded).domains
    return loaded, next(iter(domains.values()))
