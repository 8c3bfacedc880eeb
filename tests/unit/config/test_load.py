import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.load import ConfigError, load_dynamic, load_static
from moxtw.config.testing import DYNAMIC, STATIC

TRANSPORT = STATIC + "Transports:\n\tfail:\n\t\tFail: nil\n"


def pem(key, password=None):
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def certificate(key, name="mail.example.org"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2026, 1, 1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(Encoding.PEM)


class Base(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def static(self, text=STATIC, **options):
        (self.directory / "mox.conf").write_text(text)
        return load_static(self.directory / "mox.conf", **options)

    def dynamic(self, text=DYNAMIC, static=TRANSPORT, **options):
        static = self.static(static)
        static.dynamic_path.write_text(text)
        return load_dynamic(static.dynamic_path, static, **options)

    def errors(self, load, *args, **options):
        with self.assertRaises(ConfigError) as raised:
            load(*args, **options)
        prefix = str(self.directory.absolute()) + "/"
        return [line.removeprefix(prefix) for line in raised.exception.errors]

    def check(self, load, base, cases):
        """Each case: what to replace in a good file, by what, and the errors expected."""
        for old, new, *expected in cases:
            self.assertEqual(base.count(old), 1, old)
            errors = self.errors(load, base.replace(old, new))
            self.assertEqual(len(errors), len(expected), (new, errors))
            for error, part in zip(errors, expected, strict=True):
                self.assertIn(part, error, new)


class StaticTests(Base):
    def test_resolved_values(self):
        static = self.static()
        directory = self.directory.absolute()
        self.assertEqual(static.data_path, directory / "data")
        self.assertEqual(static.dynamic_path, directory / "domains.conf")
        self.assertIsNone(static.admin_password_path)
        self.assertEqual(static.dns_hostname.name, "mail.example.org")
        self.assertEqual(static.smtp_hostnames, {"mail.example.org"})
        listener = static.listeners["public"]
        self.assertEqual(listener.effective_max_message_size, 100 * 1024 * 1024)
        self.assertEqual(listener.smtp.effective_first_time_sender_delay.seconds, 15)
        self.assertFalse(listener.smtp.effective_session_tickets)
        self.assertEqual(listener.webapi_https.effective_path, "/webapi/")
        self.assertEqual(listener.account_http.effective_path, "/")

    def test_extensions(self):
        static = self.static(
            STATIC
            + "Resolvers:\n\t- 127.0.0.1\n\t- 127.0.0.1:5353\n\t- ::1\n\t- [::1]:54\n"
            + "ConnectionLimitExemptions:\n\t- 127.0.0.0/8\n\t- ::1\n"
            + "DatabaseURL: postgresql+psycopg://u:p@h/db\n"
        )
        self.assertEqual(
            static.resolver_addresses,
            (("127.0.0.1", 53), ("127.0.0.1", 5353), ("::1", 53), ("::1", 54)),
        )
        self.assertEqual(
            [str(n) for n in static.connection_limit_exempt], ["127.0.0.0/8", "::1/128"]
        )

    def test_paths_get_their_slash_with_a_warning(self):
        static = self.static(
            STATIC.replace(
                "\t\tSMTP:", "\t\tAdminHTTP:\n\t\t\tEnabled: true\n\t\t\tPath: /a\n\t\tSMTP:"
            )
        )
        self.assertEqual(static.listeners["public"].admin_http.effective_path, "/a/")
        self.assertEqual(len(static.warnings), 1)
        self.assertIn("mox.conf:", static.warnings[0])

    def test_updates(self):
        static = self.static("CheckUpdates: true\n" + STATIC)
        self.assertEqual(len(static.warnings), 1)
        self.assertIn("CheckUpdates: has no effect without Updates", static.warnings[0])
        section = f"Updates:\n\tDomain: moxtw.example\n\tPublicKey: {'A' * 43}=\n"
        static = self.static("CheckUpdates: true\n" + section + STATIC)
        self.assertEqual(static.warnings, ())
        assert static.updates is not None
        self.assertEqual(static.updates.dns_domain.ascii, "moxtw.example")
        self.assertEqual(static.updates.key, bytes(32))

    def test_syntax_errors_come_with_file_and_line(self):
        self.assertEqual(
            self.errors(self.static, STATIC.replace("LogLevel", "Loglevel")),
            [
                "mox.conf: missing required field LogLevel",
                "mox.conf:2: unknown field 'Loglevel', did you mean LogLevel?",
            ],
        )

    def test_checks(self):
        top = "LogLevel: error\n"
        ips = "\t\tIPs:\n\t\t\t- 127.0.0.1\n"
        smtp = "\t\t\tNoSTARTTLS: true\n"
        self.check(
            self.static,
            STATIC,
            [
                ("data", "", "DataDir: must not be empty"),
                ("error", "loud", "LogLevel: unknown log level 'loud'"),
                (
                    top,
                    top + "PackageLogLevels:\n\tX Y: debug\n\tqueue: x\n",
                    "bad package name 'X Y'",
                    "PackageLogLevels.queue: unknown log level 'x'",
                ),
                (top, top + "User: a b\n", "User: bad user name"),
                ("Hostname: mail.example.org", "Hostname: mail_x", "bad domain 'mail_x'"),
                (top, top + "Resolvers:\n\t- x\n\t- 1.1.1.1:0\n\t- [::1\n", *["bad resolver"] * 3),
                (top, top + "ConnectionLimitExemptions:\n\t- x/8\n", "bad network 'x/8'"),
                (
                    top,
                    top + "Updates:\n\tDomain: x y\n\tPublicKey: AAAA\n",
                    "Updates.Domain: bad domain 'x y'",
                    "Updates.PublicKey: need 32 bytes, not 3",
                ),
                (
                    top,
                    top + "Updates:\n\tDomain: x.example\n\tPublicKey: A\n",
                    "Updates.PublicKey: bad base64",
                ),
                (top, top + "DatabaseURL: secret\n", "DatabaseURL: bad URL, need for example"),
                (top, top + "TLS:\n\tCA:\n\t\tCertFiles:\n\t\t\t- no.pem\n", "cannot read"),
                (
                    top,
                    top + "ACME:\n\ta:\n\t\tDirectoryURL: ftp://x\n\t\tContactEmail: x\n"
                    "\t\tPort: 65536\n\t\tRenewBefore: -1s\n\t\tIssuerDomainName: -\n",
                    "bad URL 'ftp://x'",
                    "bad address 'x'",
                    "bad port 65536",
                    "RenewBefore: must not be negative",
                    "bad domain '-'",
                ),
                (
                    top,
                    top + "ACME:\n\ta:\n\t\tDirectoryURL: https://x\n\t\tContactEmail: a@b.c\n"
                    "\t\tExternalAccountBinding:\n\t\t\tKeyID: \n\t\t\tKeyFile: k\n",
                    "KeyID: must not be empty",
                    "KeyFile: cannot read",
                ),
                (ips, "\t\tIPs: nil\n", "IPs: need at least one"),
                (ips, ips.replace("127.0.0.1", "127.0.0.x"), "IPs[0]: bad IP address"),
                (
                    ips,
                    ips + "\t\tNATIPs:\n\t\t\t- 127.0.0.2\n\t\tIPsNATed: true\n",
                    "NATIPs[0]: must be a public address",
                    "IPsNATed: not together",
                ),
                (ips, ips + "\t\tSMTPMaxMessageSize: -1\n", "must not be negative"),
                (
                    ips,
                    ips + "\t\tTLS:\n\t\t\tACME: no\n\t\t\tMinVersion: SSLv3\n",
                    "no ACME provider 'no'",
                    "unknown TLS version 'SSLv3'",
                ),
                (smtp, "", "Listeners.public: needs a TLS section, for SMTP"),
                (smtp, "\t\tTLS: nil\n", "Listeners.public.TLS: needs ACME or KeyCerts, for SMTP"),
                (smtp, smtp + "\t\t\tRequireSTARTTLS: true\n", "RequireSTARTTLS: not together"),
                (smtp, smtp + "\t\t\tDNSBLs:\n\t\t\t\t- x y\n", "DNSBLs[0]: bad domain 'x y'"),
                (
                    smtp,
                    smtp + "\t\t\tFirstTimeSenderDelay: -1s\n",
                    "FirstTimeSenderDelay: must not be negative",
                ),
                (
                    smtp,
                    smtp + "\t\t\tGreetingDelay: 61s\n",
                    "GreetingDelay: must be from 0s to 60s",
                ),
                (
                    smtp,
                    smtp + "\t\tWebmailHTTP:\n\t\t\tEnabled: true\n\t\t\tPath: x\n",
                    "bad path 'x'",
                ),
                (
                    smtp,
                    smtp + "\t\tMetricsHTTP:\n\t\t\tEnabled: true\n\t\t\tPort: 25\n",
                    "port 25 is used by SMTP too",
                ),
                (
                    smtp,
                    smtp + "\t\tPprofHTTP:\n\t\t\tEnabled: true\n\t\t\tPort: 80\n"
                    "\t\tAdminHTTP:\n\t\t\tEnabled: true\n",
                    "PprofHTTP needs port 80 for itself",
                ),
                (
                    smtp,
                    smtp + "\tother:\n\t\tIPs:\n\t\t\t- 127.0.0.1\n\t\tSMTP:\n"
                    "\t\t\tEnabled: true\n\t\t\tNoSTARTTLS: true\n",
                    "127.0.0.1 port 25 is used by listener 'public' (SMTP) too",
                ),
                (
                    "\tAccount: me\n\tMailbox: Postmaster\n",
                    "\tAccount: \n\tMailbox: a//b\n",
                    "Postmaster.Account: must not be empty",
                    "bad mailbox name 'a//b'",
                ),
                ("tlsreports", "tls reports", "HostTLSRPT.Localpart: bad localpart"),
                ("tlsreports", "öreports", "must be ASCII"),
                (
                    top,
                    top + "InitialMailboxes:\n\tSpecialUse:\n\t\tSent: Inbox\n\t\tJunk: J\n"
                    "\tRegular:\n\t\t- J\nDefaultMailboxes:\n\t- #x\n",
                    "InitialMailboxes: not together with DefaultMailboxes",
                    "SpecialUse.Sent: must not be Inbox",
                    "mailbox 'J' is named twice",
                    "DefaultMailboxes[0]: bad mailbox name '#x': starts with #",
                ),
            ],
        )

    def test_transports(self):
        base = STATIC + "Transports:\n\tt:\n"
        for text, *expected in [
            ("\t\tDirect: nil\n\t\tFail: nil\n", "need exactly one of"),
            ("\t\tDirect:\n\t\t\tDisableIPv4: true\n\t\t\tDisableIPv6: true\n", "cannot disable"),
            ("\t\tFail:\n\t\t\tSMTPCode: 250\n", "bad code 250"),
            ("\t\tSMTP:\n\t\t\tHost: a b\n\t\t\tPort: -1\n", "bad domain", "bad port -1"),
            (
                "\t\tSubmissions:\n\t\t\tHost: a\n\t\t\tNoSTARTTLS: true\n",
                "TLS is used from the start",
            ),
            (
                "\t\tSMTP:\n\t\t\tHost: a\n\t\t\tAuth:\n\t\t\t\tUsername: u\n\t\t\t\tPassword: p\n"
                "\t\t\t\tMechanisms:\n\t\t\t\t\t- X\n",
                "Mechanisms[0]: unknown mechanism 'X'",
            ),
            (
                "\t\tSocks:\n\t\t\tAddress: x\n\t\t\tRemoteIPs: nil\n\t\t\tRemoteHostname: \n",
                "bad address 'x'",
                "need at least one IP",
                "bad domain ''",
            ),
        ]:
            errors = self.errors(self.static, base + text)
            self.assertEqual(len(errors), len(expected), errors)
            for error, part in zip(errors, expected, strict=True):
                self.assertIn(part, error)
        static = self.static(
            base + "\t\tSocks:\n\t\t\tAddress: [::1]:1080\n\t\t\tRemoteIPs:\n\t\t\t\t- ::1\n"
            "\t\t\tRemoteHostname: x.example\n\tf:\n\t\tFail: nil\n\td:\n\t\tDirect: nil\n"
            "\ts:\n\t\tSubmission:\n\t\t\tHost: h.example\n\t\t\tAuth:\n\t\t\t\tUsername: u\n"
            "\t\t\t\tPassword: p\n"
        )
        socks = static.transports["t"].socks
        self.assertEqual((socks.host, socks.port), ("::1", 1080))
        self.assertEqual(static.transports["f"].fail.effective_code, 554)
        self.assertIsNotNone(static.transports["d"].direct)
        smtp = static.transports["s"].submission
        self.assertEqual(smtp.effective_port, 587)
        self.assertEqual(smtp.auth.effective_mechanisms[0], "SCRAM-SHA-256-PLUS")

    def test_keys_and_certificates(self):
        key = ec.generate_private_key(ec.SECP256R1())
        other = ec.generate_private_key(ec.SECP384R1())
        (self.directory / "key.pem").write_bytes(pem(key))
        (self.directory / "cert.pem").write_bytes(certificate(key))
        (self.directory / "other.pem").write_bytes(pem(other))
        (self.directory / "secret.pem").write_bytes(pem(other, b"password"))
        (self.directory / "junk.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\njunk\n")
        (self.directory / "empty.pem").write_bytes(b"")
        text = STATIC.replace(
            "\t\t\tNoSTARTTLS: true\n",
            "\t\tTLS:\n\t\t\tKeyCerts:\n\t\t\t\t-\n\t\t\t\t\tCertFile: CERT\n"
            "\t\t\t\t\tKeyFile: KEY\n\t\t\tHostPrivateKeyFiles:\n\t\t\t\t- HOST\n",
        )

        def static(cert="cert.pem", key="key.pem", host="key.pem", **options):
            changed = text.replace("CERT", cert).replace("KEY", key).replace("HOST", host)
            return self.static(changed, **options)

        tls = static().listeners["public"].tls
        self.assertEqual(
            tls.key_certs[0].cert_pem, certificate(key)[:0] + tls.key_certs[0].cert_pem
        )
        self.assertEqual(tls.key_certs[0].key_pem, pem(key))
        self.assertEqual(len(tls.key_certs[0].chain), 1)
        self.assertEqual(len(tls.host_private_keys), 1)
        for options, expected in [
            ({"cert": "no.pem"}, "CertFile: cannot read"),
            ({"cert": "junk.pem"}, "CertFile: no usable certificate in"),
            ({"cert": "empty.pem"}, "empty.pem is empty"),
            ({"key": "junk.pem"}, "KeyFile: no usable private key in"),
            ({"key": "secret.pem"}, "KeyFile: no usable private key in"),
            ({"key": "other.pem"}, "does not belong to the certificate"),
            ({"host": "other.pem"}, "HostPrivateKeyFiles[0]: need the curve P-256"),
        ]:
            errors = self.errors(static, **options)
            self.assertEqual(len(errors), 1, errors)
            self.assertIn(expected, errors[0])
        self.assertEqual(
            static(cert="no.pem", check_files=False).listeners["public"].tls.key_certs[0].cert_pem,
            b"",
        )

    def test_unreadable_files(self):
        self.assertEqual(
            self.errors(load_static, self.directory / "no.conf"),
            ["no.conf: No such file or directory"],
        )
        (self.directory / "mox.conf").write_bytes(b"DataDir: x\nLogLevel: \xff\n")
        self.assertEqual(
            self.errors(load_static, self.directory / "mox.conf"),
            ["mox.conf:2: not valid UTF-8"],
        )


RULES = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org:
				Rulesets:
					-
						VerifiedDomain: example.org
						Mailbox: X
"""

HANDLER = """\
WebHandlers:
	-
		Domain: example.org
		PathRegexp: ^/
		WebStatic:
			Root: web
"""


class DynamicTests(Base):
    def test_domains(self):
        line = "\t\tLocalpartCatchallSeparator: +\n"
        self.check(
            self.dynamic,
            DYNAMIC,
            [
                ("\texample.org:\n", "\tExample.org:\n", "must be written as 'example.org'"),
                (
                    "Accounts",
                    "\txn--bcher-kva.example: nil\nAccounts",
                    "must be written as 'bücher.example'",
                ),
                ("Accounts", "\tx y: nil\nAccounts", "bad domain 'x y'"),
                (
                    line,
                    line + "\t\tLocalpartCatchallSeparators:\n\t\t\t- -\n",
                    "not together with LocalpartCatchallSeparator",
                ),
                (
                    line,
                    "\t\tLocalpartCatchallSeparators:\n\t\t\t- +\n\t\t\t- +\n"
                    "\t\t\t- @\n\t\t\t- X\n",
                    "duplicate separator '+'",
                    "bad separator '@'",
                    "bad separator 'X': localparts are compared in lower case",
                ),
                (line, line + "\t\tClientSettingsDomain: -\n", "ClientSettingsDomain: bad domain"),
                (
                    line,
                    line + "\t\tDMARC:\n\t\t\tLocalpart: ö\n\t\t\tDomain: no.example\n"
                    "\t\t\tAccount: no\n\t\t\tMailbox: \n",
                    "DMARC.Localpart: the localpart of an address for reports must be ASCII",
                    "DMARC.Domain: domain no.example is not configured",
                    "DMARC.Account: no account 'no' is configured",
                    "DMARC.Mailbox: bad mailbox name '': empty",
                ),
                (
                    line,
                    line + "\t\tTLSRPT:\n\t\t\tLocalpart: a@b\n\t\t\tAccount: \n\t\t\tMailbox: X\n",
                    "TLSRPT.Localpart: bad localpart 'a@b'",
                    "TLSRPT.Account: must not be empty",
                ),
                (
                    line,
                    line + "\t\tMTASTS:\n\t\t\tPolicyID: a-b\n\t\t\tMode: x\n\t\t\tMaxAge: 0s\n"
                    "\t\t\tMX:\n\t\t\t\t- *.*.x\n",
                    "PolicyID: need 1 to 32 letters and digits",
                    "unknown mode 'x'",
                    "MaxAge: must be between 1s and 8766h",
                    "MX[0]: bad domain",
                ),
                (
                    line,
                    line + "\t\tRoutes:\n\t\t\t-\n\t\t\t\tFromDomain:\n\t\t\t\t\t- ..x\n"
                    "\t\t\t\tMinimumAttempts: -1\n\t\t\t\tTransport: no\n",
                    "FromDomain[0]: bad domain",
                    "MinimumAttempts: must not be negative",
                    "no transport 'no' is configured",
                ),
                (
                    line,
                    line + "\t\tAliases:\n\t\t\ta+b:\n\t\t\t\tAddresses: nil\n"
                    "\t\t\tme:\n\t\t\t\tAddresses:\n\t\t\t\t\t- me@example.org\n"
                    "\t\t\tx:\n\t\t\t\tAddresses:\n\t\t\t\t\t- no@example.org\n"
                    "\t\t\t\t\t- me@example.org\n\t\t\t\t\t- ME@example.org\n"
                    "\t\t\tX:\n\t\t\t\tAddresses:\n\t\t\t\t\t- x@example.org\n",
                    "Aliases.a+b: the localpart holds a catchall separator",
                    "Aliases.a+b.Addresses: need at least one address",
                    "duplicate address me@example.org, also of account 'me'",
                    "no@example.org is not an address of an account",
                    "duplicate address me@example.org",
                    "duplicate alias x@example.org",
                    "x@example.org is not an address of an account",
                ),
            ],
        )

    def test_dkim(self):
        keys = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "weak": rsa.generate_private_key(65537, 1024),
            "ed": ed25519.Ed25519PrivateKey.generate(),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        for name, key in keys.items():
            (self.directory / f"{name}.pem").write_bytes(pem(key))

        def text(selectors, sign=""):
            lines = ["\t\tDKIM:\n\t\t\tSelectors:\n"]
            for name, rest in selectors:
                lines.append(f"\t\t\t\t{name}:\n" + "".join(f"\t\t\t\t\t{r}\n" for r in rest))
            line = "\t\tLocalpartCatchallSeparator: +\n"
            return DYNAMIC.replace(line, line + "".join(lines) + sign)

        sign = "\t\t\tSign:\n\t\t\t\t- b_1\n\t\t\t\t- a\n"
        dynamic = self.dynamic(
            text(
                [
                    ("a", ["Headers:", "\t- from", "Expiration: 1h", "PrivateKeyFile: rsa.pem"]),
                    ("b_1", ["PrivateKeyFile: ed.pem"]),
                    ("weak", ["Hash: sha1", "PrivateKeyFile: weak.pem"]),
                ],
                sign,
            )
        )
        dkim = dynamic.domains["example.org"].dkim
        self.assertEqual([name for name, _ in dkim.sign_selectors], ["b_1", "a"])
        self.assertEqual(
            [s.algorithm for s in dkim.selectors.values()], ["rsa-2048", "ed25519", "rsa-1024"]
        )
        self.assertEqual(dkim.selectors["a"].private_key.key_size, 2048)
        self.assertEqual(dkim.selectors["a"].effective_headers, ("from",))
        self.assertEqual(dkim.selectors["a"].expiration_seconds, 3600)
        self.assertEqual(len(dynamic.warnings), 2)
        for selector, *expected in [
            (["PrivateKeyFile: no.pem"], "PrivateKeyFile: cannot read"),
            (["PrivateKeyFile: "], "PrivateKeyFile: must not be empty"),
            (["PrivateKeyFile: ec.pem"], "need an RSA or ed25519 key"),
            (["Hash: md5", "PrivateKeyFile: rsa.pem"], "unknown hash 'md5'"),
            (["Hash: sha1", "PrivateKeyFile: ed.pem"], "ed25519 needs sha256"),
            (
                ["Headers:", "\t- To", "\t- to", "\t- a b", "PrivateKeyFile: rsa.pem"],
                "Headers: From must be signed",
                "Headers[1]: duplicate header field to",
                "bad header field name 'a b'",
            ),
            (["Expiration: x", "PrivateKeyFile: rsa.pem"], "bad duration 'x'"),
            (["Expiration: 0s", "PrivateKeyFile: rsa.pem"], "must be at least a second"),
        ]:
            errors = self.errors(self.dynamic, text([("a", selector)]))
            self.assertEqual(len(errors), len(expected), errors)
            for error, part in zip(errors, expected, strict=True):
                self.assertIn(part, error)
        errors = self.errors(
            self.dynamic,
            text([("a b", ["PrivateKeyFile: rsa.pem"])], "\t\t\tSign:\n\t\t\t\t- no\n"),
        )
        self.assertIn("bad selector 'a b'", errors[0])
        self.assertIn("Sign[0]: no selector 'no' is configured", errors[1])

    def test_introbox_that_marks_messages_gives_a_warning(self):
        domain = "\t\tDomain: example.org\n"

        def warnings(enabled, *lines):
            flags = "".join(f"\t\t\t{line}\n" for line in (f"Enabled: {enabled}", *lines))
            return self.dynamic(
                DYNAMIC.replace(
                    domain, f"{domain}\t\tIntrobox: New\n\t\tAutomaticJunkFlags:\n{flags}"
                )
            ).warnings

        junk, neutral = "JunkMailboxRegexp: ^junk", "NeutralMailboxRegexp: ^inbox"
        for text, lines in [
            ("marked as not junk", [junk, neutral]),
            ("marked as not junk", [junk, "NotJunkMailboxRegexp: ^new"]),
            ("marked as junk", ["JunkMailboxRegexp: ^(junk|new)", neutral]),
        ]:
            (warning,) = warnings("true", *lines)
            self.assertIn("Introbox", warning)
            self.assertIn(text, warning)
            self.assertEqual(warnings("false", *lines), ())
        for lines in [
            [junk, "NeutralMailboxRegexp: ^(inbox|new)"],
            [junk, "NotJunkMailboxRegexp: ^archive"],
            [junk],
        ]:
            self.assertEqual(warnings("true", *lines), (), lines)

    def test_accounts(self):
        domain = "\t\tDomain: example.org\n"
        entry = "\t\t\tme@example.org: nil\n"
        self.check(
            self.dynamic,
            DYNAMIC,
            [
                (
                    "\tme:\n",
                    "\ta/b:\n",
                    "no account 'me' is configured",
                    "no account 'me' is configured",
                    "bad account name 'a/b'",
                ),
                (domain, "\t\tDomain: no.example\n", "domain no.example is not configured"),
                (entry, entry + "\t\t\tx@no.example: nil\n", "domain no.example is not configured"),
                (entry, entry + "\t\t\tx y@example.org: nil\n", "bad address 'x y@example.org'"),
                (
                    entry,
                    entry + "\t\t\tME@example.org: nil\n",
                    "duplicate address me@example.org, also of account 'me'",
                ),
                (entry, entry + "\t\t\tme: nil\n", "duplicate address me@example.org"),
                (
                    entry,
                    entry + "\t\t\ta+b@example.org: nil\n",
                    "the localpart holds the catchall separator '+'",
                ),
                (
                    entry,
                    entry + "\t\t\t@example.org: nil\n\t\t\t@EXAMPLE.org: nil\n",
                    "duplicate address @example.org",
                ),
                (
                    domain,
                    "\t\tFromIDLoginAddresses:\n\t\t\t- x\n\t\t\t- you@example.org\n" + domain,
                    "FromIDLoginAddresses[0]: bad address 'x'",
                    "you@example.org is not an address of an account",
                ),
                (domain, "\t\tKeepRetiredMessagePeriod: -1s\n" + domain, "must not be negative"),
                (domain, "\t\tLoginDisabled: " + "x" * 300 + "\n" + domain, "longer than 256"),
                (domain, domain + "\t\tRejectsMailbox: INBOX\n", "must not be Inbox"),
                (
                    domain,
                    domain + "\t\tRejectsMailbox: R\n\t\tIntrobox: R\n",
                    "must not be the rejects mailbox",
                ),
                (
                    domain,
                    domain + "\t\tAutomaticJunkFlags:\n\t\t\tEnabled: true\n"
                    "\t\t\tJunkMailboxRegexp: (\n",
                    "JunkMailboxRegexp: bad regular expression '(': missing )",
                ),
                (
                    domain,
                    domain + "\t\tJunkFilter:\n\t\t\tThreshold: 2\n\t\t\tParams:\n"
                    "\t\t\t\tMaxPower: 0.6\n\t\t\t\tTopWords: -1\n",
                    "Threshold: must be between 0 and 1",
                    "MaxPower: must be between 0 and 0.5",
                    "TopWords: must be between 0 and 1000000",
                ),
                (domain, domain + "\t\tMaxOutgoingMessagesPerDay: -1\n", "must not be negative"),
                (
                    domain,
                    domain + "\t\tIMAPCapabilitiesDisabled:\n\t\t\t- A B\n",
                    "bad capability 'A B'",
                ),
                (
                    domain,
                    "\t\tOutgoingWebhook:\n\t\t\tURL: example.org\n\t\t\tEvents:\n"
                    "\t\t\t\t- failed\n\t\t\t\t- failed\n\t\t\t\t- x\n"
                    "\t\tIncomingWebhook:\n\t\t\tURL: http://\n" + domain,
                    "OutgoingWebhook.URL: bad URL",
                    "duplicate event failed",
                    "unknown event 'x'",
                    "IncomingWebhook.URL: bad URL",
                ),
            ],
        )

    def test_destinations(self):
        ruleset = "\t\t\t\t\t\tVerifiedDomain: example.org\n"
        mailbox = "\t\t\t\t\t\tMailbox: X\n"
        rulesets = "\t\t\t\tRulesets:\n"
        self.check(
            self.dynamic,
            RULES,
            [
                (ruleset, "", "Rulesets[0]: needs a condition"),
                (
                    ruleset,
                    "\t\t\t\t\t\tMsgFromRegexp: *\n",
                    "MsgFromRegexp: bad regular expression",
                ),
                (ruleset, "\t\t\t\t\t\tVerifiedDomain: x y\n", "VerifiedDomain: bad domain"),
                (
                    ruleset,
                    ruleset + "\t\t\t\t\t\tHeadersRegexp:\n\t\t\t\t\t\t\tList-Id: a\n"
                    "\t\t\t\t\t\t\tx: A\n\t\t\t\t\t\t\ty: (\n",
                    "HeadersRegexp.List-Id: must be in lower case",
                    "HeadersRegexp.x: must be in lower case",
                    "HeadersRegexp.y: bad regular expression",
                ),
                (
                    ruleset,
                    ruleset + "\t\t\t\t\t\tIsForward: true\n"
                    "\t\t\t\t\t\tListAllowDomain: example.org\n",
                    "IsForward: not together with ListAllowDomain",
                    "IsForward: needs SMTPMailFromRegexp and VerifiedDomain",
                ),
                (mailbox, "\t\t\t\t\t\tMailbox: \n", "Mailbox: bad mailbox name ''"),
                (
                    mailbox,
                    "\t\t\t\t\t\tAcceptRejectsToMailbox: inbox\n" + mailbox,
                    "AcceptRejectsToMailbox: must not be Inbox",
                ),
                (
                    rulesets,
                    "\t\t\t\tMailbox: Y\n\t\t\t\tSMTPError: 451 x\n" + rulesets,
                    "SMTPError: need 421 or 550",
                    "SMTPError: not together with Mailbox",
                    "SMTPError: not together with Rulesets",
                ),
                (
                    rulesets,
                    "\t\t\t\tForwardTo:\n" + "\t\t\t\t\t- x\n" * 11 + rulesets,
                    "ForwardTo: at most 10 addresses",
                    *["bad address 'x'"] * 11,
                ),
                (
                    rulesets,
                    "\t\t\t\tMessageAuthRequiredSMTPError: " + "x" * 300 + "\n" + rulesets,
                    "longer than 256 characters",
                ),
            ],
        )
        for text, expected in [
            ("421", (451, "4.3.0", "mailbox is temporarily unavailable")),
            ("550", (550, "5.1.1", "no such user")),
            ("550 gone fishing", (550, "5.1.1", "gone fishing")),
        ]:
            dynamic = self.dynamic(DYNAMIC.replace("org: nil", f"org:\n\t\t\t\tSMTPError: {text}"))
            found = dynamic.accounts["me"].destinations["me@example.org"]
            self.assertEqual(
                (found.smtp_error_code, found.smtp_error_secode, found.smtp_error_text), expected
            )

    def test_rulesets_are_compiled(self):
        text = RULES.replace(
            "\t\t\t\t\t\tMailbox",
            "\t\t\t\t\t\tHeadersRegexp:\n\t\t\t\t\t\t\t^list-id$: \n\t\t\t\t\t\tMailbox",
        )
        ruleset = self.dynamic(text).accounts["me"].destinations["me@example.org"].rulesets[0]
        self.assertEqual(ruleset.verified_dns_domain.name, "example.org")
        self.assertTrue(ruleset.headers[0][0].search("list-id"))
        self.assertTrue(ruleset.headers[0][1].search("anything"))

    def test_web(self):
        static = "\t\tWebStatic:\n\t\t\tRoot: web\n"
        self.check(
            self.dynamic,
            DYNAMIC + HANDLER,
            [
                ("\t\tPathRegexp: ^/", "\t\tPathRegexp: /(", "must start with ^", "bad regular"),
                ("\t-\n\t\tDomain: example.org", "\t-\n\t\tDomain: ", "bad domain ''"),
                (static, "", "need exactly one of WebStatic"),
                (
                    static,
                    static + "\t\tWebInternal:\n\t\t\tBasePath: x\n\t\t\tService: y\n",
                    "need exactly one of",
                    "bad path 'x'",
                    "unknown service 'y'",
                ),
                (
                    static,
                    "\t\tWebStatic:\n\t\t\tStripPrefix: x\n\t\t\tRoot: \n"
                    "\t\t\tResponseHeaders:\n\t\t\t\ta b: c\n",
                    "StripPrefix: must start with /",
                    "Root: must not be empty",
                    "bad header name 'a b'",
                ),
                (static, "\t\tWebRedirect: nil\n", "needs BaseURL, or OrigPathRegexp"),
                (
                    static,
                    "\t\tWebRedirect:\n\t\t\tBaseURL: x\n\t\t\tOrigPathRegexp: (\n"
                    "\t\t\tStatusCode: 200\n",
                    "bad URL 'x'",
                    "needs a ReplacePath",
                    "bad regular expression",
                    "bad status code 200",
                ),
                (static, "\t\tWebForward:\n\t\t\tURL: unix:/x\n", "bad URL 'unix:/x'"),
                (
                    "WebHandlers:",
                    "WebDomainRedirects:\n\ta.example: a.example\n\tb.example: -\n"
                    "\tB.example: c.example\nWebHandlers:",
                    "redirects to itself",
                    "bad domain '-'",
                    "duplicate redirect for b.example",
                ),
                (
                    "WebHandlers:",
                    "Routes:\n\t-\n\t\tTransport: no\nMonitorDNSBLs:\n\t- x y\nWebHandlers:",
                    "Routes[0].Transport: no transport 'no'",
                    "MonitorDNSBLs[0]: bad domain",
                ),
            ],
        )
        dynamic = self.dynamic(DYNAMIC + HANDLER)
        handler = dynamic.web_handlers[0]
        self.assertEqual(handler.name, "0")
        self.assertTrue(handler.path.search("/x"))
        self.assertEqual(handler.web_static.root_path, self.directory.absolute() / "web")

    def test_errors_name_file_line_and_place(self):
        self.assertEqual(
            self.errors(self.dynamic, RULES.replace("Mailbox: X", "Mailbox: #X")),
            [
                "domains.conf:12: Accounts.me.Destinations[me@example.org].Rulesets[0].Mailbox: "
                "bad mailbox name '#X': starts with #"
            ],
        )
        self.assertEqual(
            self.errors(
                self.dynamic,
                DYNAMIC,
                STATIC.replace("Account: me\n\tMailbox: P", "Account: no\n\tMailbox: P"),
            ),
            ["mox.conf: Postmaster.Account: no account 'no' is configured"],
        )

    def test_report_addresses_of_others(self):
        line = "\t\tLocalpartCatchallSeparator: +\n"
        reports = "\t\tDMARC:\n\t\t\tLocalpart: LP\n\t\t\tAccount: ACC\n\t\t\tMailbox: DMARC\n"
        other = "\tother:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\to@example.org: nil\n"

        def load(localpart, account):
            text = reports.replace("LP", localpart).replace("ACC", account)
            return self.dynamic(DYNAMIC.replace(line, line + text) + other)

        # An ordinary address of the same account may get reports too.
        dynamic = load("me", "me")
        found = dynamic.index.domains["example.org"].addresses["me"]
        self.assertEqual((found.dmarc_reports, found.mailbox), (True, "DMARC"))
        self.assertEqual(len(dynamic.index.account_destinations["me"]), 1)
        (error,) = self.errors(load, "me", "other")
        self.assertIn("me@example.org belongs to account 'me', not to 'other'", error)
