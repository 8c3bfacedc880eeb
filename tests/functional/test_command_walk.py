"""Every command once with success and once with failure, as processes and scripts see them.

What they do in detail is tested with what they are about; here each has its exit code, its
output on standard output and its errors on standard error.
"""

from __future__ import annotations

import base64
import json
import re
import smtplib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor

from moxtw.cli.table import COMMANDS
from moxtw.net.certs import self_signed
from moxtw.updates import changelog
from tests.functional import (
    test_cli_commands,
    test_cli_dial,
    test_domain_check,
    test_quickstart,
    test_updates,
)
from tests.functional.test_account_http import make_mbox
from tests.functional.test_cli_commands import MOXTW, environment
from tests.functional.test_cli_senders import KEY, ZONE
from tests.functional.test_updates import start_front
from tests.support import signing
from tests.support.ca import Authority
from tests.support.server import PASSWORD, LiveCase, free_port
from tests.unit.authn.test_dmarcreport import REPORT, feedback_xml
from tests.unit.cli.calls import Result, call
from tests.unit.tlspolicy.test_tlsreport import EXAMPLE

MESSAGE = b"From: <me@a.example>\r\nTo: <x@b.example>\r\nSubject: walk\r\n\r\nhello\r\n"
# The modules whose commands run a reactor, or exchange the process's own input and output.
_PROCESSES = {"dns", "authn", "senders", "safety", "domaincheck", "sendmail"}
_ALSO = {"checkupdate", "admin imapserve"}


@dataclass
class Row:
    """How a command is called, and what it says then.

    args, stdin, out: a call that works, and a pattern for its output. bad, bad_stdin, why, code:
    one that fails, and a pattern for its error. apart: the bad call is one of a process, too.
    """

    name: str
    args: tuple[Any, ...]
    out: str
    bad: tuple[Any, ...]
    why: str
    stdin: bytes = b""
    bad_stdin: bytes = b""
    code: int = 1
    apart: bool = False


class _Page(BaseHTTPRequestHandler):
    """Answers from a dict of paths."""

    server: Web

    def do_GET(self) -> None:  # noqa: N802
        body = self.server.pages.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """No lines on standard error."""


class Web(ThreadingHTTPServer):
    """What a registry and a domain's policy host serve."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        url = f"http://{self.address}/"
        events = [{"eventAction": "registration", "eventDate": "2001-02-03T04:05:06Z"}]
        self.pages = {
            "/list": json.dumps({"services": [[["example"], [url]]]}).encode(),
            "/domain/a.example": json.dumps(
                {"objectClassName": "domain", "events": events}
            ).encode(),
            "/.well-known/mta-sts.txt": (
                b"version: STSv1\nmode: enforce\nmx: mail.a.example\nmax_age: 86400\n"
            ),
        }


class CommandWalkTests(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.web = Web()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        front_ip = self.front()
        zone: dict[str, Any] = {
            **ZONE,
            "mta-sts.a.example": {"A": [front_ip]},
            "1.2.0.192.bl.example": {"A": ["127.0.0.4"]},
            "_updates.prog.example": {"TXT": ['"v=UPDATES0; l=v0.0.1"']},
        }
        names = self.name_server(zone)
        self.resolver = ("-resolver", names.address)
        self.key = changelog.public_key(bytes(32))
        self.server = self.mail_server(
            accounts={"me": ["me@a.example"], "other": ["other@a.example"]},
            resolver=names.address,
            static={
                "AdminPasswordFile": "adminpasswd",
                "Transports": {"no": {"Fail": {"SMTPCode": 554, "SMTPMessage": "no"}}},
                "Updates": {
                    "Domain": "prog.example",
                    "PublicKey": base64.b64encode(self.key).decode(),
                },
            },
            account_options={
                "KeepRetiredMessagePeriod": "1h",
                "KeepRetiredWebhookPeriod": "1h",
                "OutgoingWebhook": {"URL": f"http://127.0.0.1:{free_port()}/"},
                "JunkFilter": {
                    "Threshold": 0.95,
                    "Params": {
                        "Onegrams": True, "MaxPower": 0.01, "TopWords": 10, "IgnoreWords": 0.1,
                        "RareWords": 2,
                    },
                },
            },
        )  # fmt: skip
        self.config = str(self.server.config_path.absolute())
        self.walked: list[str] = []
        self.wrong: list[str] = []

    def front(self) -> str:
        """Serve the same with TLS on port 443, and trust its authority; the address."""
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.addCleanup(self.web.server_close)
        self.addCleanup(self.web.shutdown)
        authority = Authority()
        self.file("ca.pem", authority.pem)
        front = start_front(self, self.folder, authority.issue("mta-sts.a.example"))
        front.behind = self.web.address
        return str(front.server_address[0])

    # -- Files -------------------------------------------------------------------------

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def messages(self, name: str, text: bytes) -> Path:
        for number in range(60):
            self.file(f"{name}/{number}", b"Subject: %s\r\n\r\n%s %d\r\n" % (text, text, number))
        return self.folder / name

    def signed(self) -> Path:
        head = b"From: <x@a.example>\r\nSubject: hi\r\n\r\n"
        hashed = signing.body_hash([b"hello\r\n"])
        field = signing.signature(KEY, "a.example", head, hashed, names=["from", "subject"])
        return self.file("signed", field + head + b"hello\r\n")

    # -- Calls -------------------------------------------------------------------------

    def run_command(self, *args: Any, stdin: bytes, apart: bool) -> Result:
        words = ["-config", self.config, *map(str, args)]
        if not apart:
            # A reactor runs once only, and that is not for a command.
            with mock.patch.object(reactor, "run", side_effect=AssertionError("runs a reactor")):
                return call(*words, stdin=stdin)
        done = subprocess.run(
            [*MOXTW, *words],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=environment() | {"MOXSUBMITCONF": str(self.folder / "moxsubmit.conf"),
                                 "SSL_CERT_FILE": str(self.folder / "ca.pem"),
                                 "HOME": str(self.folder)},
            timeout=120,
            check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def walk(self, rows: Iterator[Row]) -> None:
        for row in rows:
            self.walked.append(row.name)
            words = row.name.split()
            module = COMMANDS[tuple(words)].run.partition(":")[0]
            apart = module in _PROCESSES or row.name in _ALSO
            found = self.run_command(*words, *row.bad, stdin=row.bad_stdin, apart=row.apart)
            if found.code != row.code or not re.search(row.why, found.err):
                self.wrong.append(f"{row.name} {row.bad}: {found}")
            found = self.run_command(*words, *row.args, stdin=row.stdin, apart=apart)
            if found.code or not re.search(row.out, found.out) or "Traceback" in found.err:
                self.wrong.append(f"{row.name} {row.args}: {found}")

    def queued(self) -> str:
        """The id of the first message in the queue."""
        out = call("-config", self.config, "queue", "list", "-json").out
        found = re.search(r'"ID": ?"?(\d+)', out)
        assert found is not None, out
        return found[1]

    def submit(self) -> None:
        with smtplib.SMTP(self.server.ip, self.server.ports.submission, timeout=60) as smtp:
            smtp.login("me@a.example", PASSWORD)
            smtp.sendmail("me@a.example", ["x@b.example", "y@b.example"], MESSAGE)

    def test_all(self) -> None:
        for part in (
            self.plain, self.setup, self.queue, self.accounts, self.keys, self.names, self.files,
            self.junk, self.transfers, self.data, self.updates,
        ):  # fmt: skip
            self.walk(part())
        self.assertEqual(self.wrong, [], "\n".join(self.wrong))
        walked = [*self.walked, *self.ELSEWHERE]
        self.assertEqual(sorted(walked), sorted(command.name for command in COMMANDS.values()))

    # -- Commands ----------------------------------------------------------------------

    def plain(self) -> Iterator[Row]:
        """What needs nothing; wrong arguments are all that can fail."""
        usage = r"usage: moxtw "
        for name, out in (
            ("config describe-static", r"\A# mox\.conf"),
            ("config describe-domains", r"\A# domains\.conf"),
            ("config describe-sendmail", "Host:"),
            ("config printservice", r"\[Service\]"),
            ("dkim gened25519", "BEGIN PRIVATE KEY"),
            ("dkim genrsa", "BEGIN PRIVATE KEY"),
            ("updates genkey", r"\A[A-Za-z0-9+/]{43}=\n\Z"),
            ("helpall", "usage: moxtw queue list"),
            ("licenses", "(?i)twisted"),
            ("version", r"\Amoxtw \S+ \(Python "),
        ):
            yield Row(name, (), out, ("too", "many"), usage, code=2)
        yield Row("help", ("queue", "list"), "usage: moxtw queue list", ("nope",), "nope", code=2)
        yield Row("completion", ("bash",), "complete", ("fish",), "fish", code=2)
        for name in ("example", "config example"):
            yield Row(name, ("alias",), "Aliases:", ("nope",), "nope")
        yield Row("webapi", ("Send",), "Example of a request", ("Nope",), "no method 'Nope'")

    def setup(self) -> Iterator[Row]:
        domains = self.server.config_path.with_name("domains.conf")
        good = domains.read_bytes()
        domains.write_bytes(good + b"Nonsense: 1\n")
        found = self.run_command("config", "test", stdin=b"", apart=False)
        self.assertEqual(found.code, 1)
        self.assertIn("Nonsense", found.err)
        domains.write_bytes(good)
        yield Row("config test", (), "config OK", ("x",), "usage", code=2)
        yield Row(
            "setadminpassword", (), "", (), "password", stdin=b"a password of the admin\n",
            bad_stdin=b"short\n",
        )
        yield Row(
            "setaccountpassword", ("other",), "", ("nobody",), "nobody",
            stdin=b"one more password\n", bad_stdin=b"one more password\n",
        )
        yield Row("loglevels", ("info", "queue"), "", ("loud", "queue"), "loud")
        yield Row(
            "localserve", ("-initonly", "-dir", self.folder / "local"), "moxmoxmox",
            ("-initonly", "-dir", self.folder / "ls", "-ip", "x"), "x", code=2,
        )
        yield Row(
            "admin imapserve", ("me@a.example",), r"PREAUTH(?s:.*)a OK", ("no@a.example",),
            "no@a.example", stdin=b"a LOGOUT\r\n", apart=True,
        )
        yield Row("clientconfig", ("a.example",), "IMAP", ("z.example",), "z.example")
        yield Row("cid", (self.cid(),), r"\A[0-9a-f]+\n\Z", ("?",), ".")

    def cid(self) -> str:
        with smtplib.SMTP(self.server.ip, self.server.ports.smtp, timeout=60) as smtp:
            text = smtp.docmd("NOPE")[1].decode()
        return text.rpartition("(")[2].rstrip(")")

    def queue(self) -> Iterator[Row]:
        yield Row("queue holdrules add", ("-account", "me"), "", ("-account", "nobody"), "nobody")
        yield Row("queue holdrules list", (), "me", ("x",), "usage", code=2)
        self.submit()
        first = self.queued()
        yield Row("queue list", ("-to", "@b.example"), "x@b.example", ("-ids", "x"), "ids", code=2)
        yield Row("queue dump", (first,), "Subject: walk", ("999999",), "999999|no such")
        yield Row("queue unhold", ("-ids", "999999"), "0 messages", ("-n", "x"), "-n", code=2)
        yield Row("queue hold", (), "2 messages", ("-hold", "maybe"), "maybe", code=2)
        yield Row("queue schedule", ("1h",), "2 messages", ("soon",), "soon")
        yield Row("queue transport", ("no",), "2 messages", (), "usage", code=2)
        yield Row("queue requiretls", ("yes",), "2 messages", ("maybe",), "maybe", code=2)
        yield Row("queue fail", ("-ids", first), "1 message failed", ("-ids", "-"), "ids", code=2)
        yield Row("queue drop", (), "1 message dropped", ("-ids", ","), "ids", code=2)
        yield Row("queue holdrules remove", ("1",), "", ("77",), "77|no such")
        yield Row("queue retired list", (), "x@b.example", ("-result", "x"), "result", code=2)
        yield Row("queue retired print", (first,), "walk|x@b", ("999999",), "999999|no such")
        pair = ("me", "z@b.example")
        yield Row("queue suppress add", pair, "", ("nobody", "z@b.example"), "nobody")
        yield Row("queue suppress list", (), "z@b.example", ("-account",), "account", code=2)
        yield Row("queue suppress lookup", ("z@b.example",), "z@b.example", ("z",), "z")
        yield Row("queue suppress remove", pair, "", ("me", "nobody@b.example"), "nobody@b|not")
        yield Row(
            "queue webhook schedule", ("1h",), r"\d webhook", ("soon",), "soon",
        )
        yield Row("queue webhook list", (), "failed", ("-event", "x"), "event", code=2)
        out = call("-config", self.config, "queue", "webhook", "list", "-json").out
        hook = re.search(r'"ID": ?"?(\d+)', out)
        assert hook is not None, out
        yield Row("queue webhook print", (hook[1],), "walk", ("999999",), "999999|no such")
        yield Row("queue webhook cancel", (), r"\d webhook", ("-ids", "x"), "ids", code=2)
        yield Row(
            "queue webhook retired list", (), "failed", ("-sort", "x"), "sort", code=2,
        )
        yield Row(
            "queue webhook retired print", (hook[1],), "walk", ("999999",), "999999|no such",
        )
        yield Row("auditlog", ("-operation", "queuefail"), "queuefail", ("-n", "x"), "-n", code=2)

    def accounts(self) -> Iterator[Row]:
        yield Row(
            "config account add", ("new", "new@a.example"), "", ("me", "x@a.example"), "me",
        )
        yield Row("config account list", (), "new", ("x",), "usage", code=2)
        yield Row("config account addresses", ("new",), "new@a.example", ("nobody",), "nobody")
        yield Row("config account disable", ("new", "gone"), "", ("nobody", "gone"), "nobody")
        yield Row("config account enable", ("new",), "", ("nobody",), "nobody")
        yield Row(
            "config address add", ("more@a.example", "new"), "", ("x@z.example", "new"), "z.ex",
        )
        yield Row("config address account", ("more@a.example",), "new", ("x@a.example",), "x@a")
        yield Row("config address rm", ("more@a.example",), "", ("more@z.example",), "more|z.ex")
        yield Row("config account rm", ("new",), "", ("new2",), "new2")
        yield Row("config domain add", ("b.example", "me"), "", ("c.example", "nobody"), "nobody")
        yield Row("config domain disable", ("b.example",), "", ("z.example",), "z.example")
        yield Row("config domain enable", ("b.example",), "", ("z.example",), "z.example")
        alias = "team@a.example"
        yield Row(
            "config alias add", (alias, "me@a.example"), "", (alias, "x@z.example"), "x@z|z.ex",
        )
        yield Row("config alias list", ("a.example",), "team", ("z.example",), "z.example")
        yield Row("config alias print", (alias,), "me@a.example", ("x@a.example",), "x@a|x")
        yield Row("config alias addaddr", (alias, "other@a.example"), "", (alias, "x"), "x")
        yield Row(
            "config alias update", ("-postpublic=true", alias), "", ("-postpublic=x", alias), "x",
            code=2,
        )
        yield Row("config alias rmaddr", (alias, "other@a.example"), "", (alias, "x@a.example"), "")
        yield Row("config alias rm", (alias,), "", ("x@a.example",), "x")

    def keys(self) -> Iterator[Row]:
        yield Row(
            "config tlspubkey gen", (self.folder / "client",), "client", (self.folder / "no/x",),
            "no/x|No such",
        )
        pem = (self.folder / "client.ed25519.certificate.pem").read_bytes()
        yield Row(
            "config tlspubkey add", ("me@a.example", "laptop"), "", ("x@a.example",), "x@a",
            stdin=pem, bad_stdin=pem,
        )
        yield Row("config tlspubkey list", ("me",), "laptop", ("nobody",), "nobody")
        out = call("-config", self.config, "config", "tlspubkey", "list", "me").out
        mark = re.search(r"[A-Za-z0-9_-]{43}", out)
        assert mark is not None, out
        yield Row("config tlspubkey get", (mark[0],), "laptop", ("x" * 43,), "x|no")
        yield Row("config tlspubkey rm", (mark[0],), "", ("x" * 43,), "x|no")
        yield Row("config ensureacmehostprivatekeys", (), "", ("x",), "usage", code=2)
        key = call("dkim", "gened25519").out.encode()
        yield Row("dkim txt", (), "v=DKIM1", (), "no private key", stdin=key, bad_stdin=b"x")
        unsigned = self.file("unsigned", b"From: <me@b.example>\n\nhi\n")
        yield Row("dkim sign", (unsigned,), "DKIM-Signature", (self.signed(),), "a.example")
        certificate = self.file("certificate.pem", self_signed(["a.example"])[0])
        yield Row(
            "dane makerecord", ("3", "1", "1", certificate), "TLSA 3 1 1", ("9", "1", "1"),
            "need one of", code=2,
        )

    def names(self) -> Iterator[Row]:
        ask, unsigned = self.resolver, self.folder / "unsigned"
        yield Row("dns lookup", ("a", "mail.a.example"), "192.0.2.1", ("x", "y"), "type", code=2)
        yield Row("dkim lookup", ("s", "a.example"), "DKIM1", ("s", "z.example"), "", apart=True)
        yield Row("dkim verify", (self.folder / "signed", *ask), "pass", (unsigned,), "no DKIM",
                  apart=True)  # fmt: skip
        yield Row("dmarc lookup", ("a.example", *ask), "reject", ("b..example",), "empty label",
                  code=2)  # fmt: skip
        yield Row(
            "dmarc verify", ("192.0.2.1", "x@a.example", "mail.a.example", *ask), "dmarc: pass",
            ("x", "x@a.example", "a.example"), "x", code=2,
            stdin=(self.folder / "signed").read_bytes(),
        )
        yield Row("dmarc checkreportaddrs", ("a.example", *ask), "takes reports",
                  ("d.example", *ask), "", apart=True)  # fmt: skip
        yield Row("spf check", ("a.example", "192.0.2.1", *ask), "pass", ("a.example", "x"), "x",
                  code=2)  # fmt: skip
        yield Row("spf lookup", ("b.example", *ask), "ip6:", ("c.example", *ask), "moo", apart=True)
        yield Row("spf parse", ("v=spf1 mx ~all",), "softfail", ("v=spf1 mxx",), "mxx", apart=True)
        yield Row("iprev", ("192.0.2.1", *ask), "pass", ("x",), "x", code=2)
        registry = ("-list", f"http://{self.web.address}/list")
        yield Row("rdap domainage", ("a.example", *registry, *ask), "registered on 2001-02-03",
                  ("a..example",), "empty label", code=2)  # fmt: skip
        yield Row("dnsbl check", ("bl.example", "192.0.2.1", *ask), "fail",
                  ("bl.example", "x"), "x", code=2)  # fmt: skip
        yield Row("dnsbl checkhealth", ("bl.example", *ask), "healthy", ("sold.example", *ask),
                  "203.0.113.1", apart=True)  # fmt: skip
        yield Row("tlsrpt lookup", ("a.example", *ask), "tls@a", ("b.example", *ask), "ftp",
                  apart=True)  # fmt: skip
        yield Row("config dnsrecords", ("b.example", *ask), "DKIM1", ("z.example", *ask), "z.ex",
                  apart=True)  # fmt: skip

        yield Row("mtasts lookup", ("a.example", *ask), "mode: enforce", ("b.example", *ask),
                  "no mta-sts record", apart=True)  # fmt: skip

    def files(self) -> Iterator[Row]:
        dmarc = self.file("dmarc", b"Content-Type: text/xml\r\n\r\n" + feedback_xml(REPORT))
        tls = self.file("tls", b"Content-Type: application/tlsrpt+json\n\n" + EXAMPLE)
        yield Row("dmarc parsereportmsg", (dmarc,), "example.net", (tls,), "report")
        yield Row("tlsrpt parsereportmsg", (tls,), "policies", (dmarc,), "report")
        yield Row("message parse", (self.folder / "signed",), "hi", (self.folder / "no",), "no")
        self.file(
            "moxsubmit.conf",
            f"LocalHostname: localhost\nHost: {self.server.ip}\n"
            f"Port: {self.server.ports.submission}\n"
            f"TLS: false\nSTARTTLS: false\nUsername: me@a.example\nPassword: {PASSWORD}\n"
            "AuthMethod: PLAIN\nFrom: me@a.example\nDefaultDestination: me@a.example\n".encode(),
        )
        yield Row("sendmail", ("other@a.example",), "", ("x@a.example",), "no such user|x@a",
                  stdin=b"Subject: hi\n\nhello\n", bad_stdin=b"Subject: hi\n\nhello\n",
                  apart=True)  # fmt: skip

    def junk(self) -> Iterator[Row]:
        ham, spam = self.messages("ham", b"meeting minutes"), self.messages("spam", b"cheap pills")
        both, none = (ham, spam), (ham, self.folder / "none")
        yield Row("junk train", both, "", none, "none")
        yield Row("junk check", (spam / "1",), r"[01]\.\d", (spam / "x",), "spam/x")
        yield Row("junk test", both, "%|spam", none, "none")
        yield Row("junk analyze", both, "%|spam", none, "none")
        yield Row("junk play", both, "%|spam", none, "none")
        yield Row("retrain", ("me",), "", ("nobody",), "nobody")

    def transfers(self) -> Iterator[Row]:
        mbox = self.file("in.mbox", make_mbox(3))
        self.file("md/cur/1:2,S", b"Subject: m\n\nx\n")
        (self.folder / "md" / "new").mkdir()
        yield Row("import mbox", ("me", "A", mbox), "imported 3 messages", ("nobody", "A", mbox),
                  "nobody")  # fmt: skip
        yield Row("import maildir", ("me", "A", self.folder / "md"), "imported 1 message",
                  ("me", "A", self.folder / "none"), "none")  # fmt: skip
        yield Row("export mbox", (self.folder / "x1", "me", "A"), "exported 1 mailbox ",
                  (self.folder / "x2", "me", "Nope"), "Nope")  # fmt: skip
        yield Row("export maildir", (self.folder / "x3", "me"), "exported", (mbox, "me"), "in.mbox")

    def data(self) -> Iterator[Row]:
        """Of the running server, and of a backup of it; then of the stopped one."""
        yield Row("config domain rm", ("b.example",), "", ("z.example",), "z.example")
        for name in ("recalculatemailboxcounts", "fixmsgsize", "reparse", "reassignthreads"):
            yield Row(name, ("me",), "", ("nobody",), "nobody")
        backup = self.folder / "backup"
        yield Row("backup", (backup,), "", (self.folder / "md",), "md")
        yield Row("restoredrill", (backup,), "would serve", (self.folder / "md",), "md")
        self.stop()
        data = self.server.data_dir
        yield Row("verifydata", (data,), "OK", (self.folder / "none",), "none")
        yield Row("bumpuidvalidity", ("me", "A"), "A", ("nobody",), "nobody")
        yield Row("reassignuids", ("me",), "", ("me", "999999"), "999999")
        yield Row("fixuidmeta", ("me",), "", ("nobody",), "nobody")
        yield Row("ensureparsed", ("me",), "", ("nobody",), "nobody")

    def stop(self) -> None:
        self.walk(iter([Row("stop", (), "Server stopped", ("x",), "usage", code=2)]))
        found = self.run_command("stop", stdin=b"", apart=False)
        self.assertEqual(found.code, 1)
        self.assertIn("no server is running", found.err)

    def updates(self) -> Iterator[Row]:
        private = base64.b64encode(bytes(32))
        key = self.file("priv", private)
        text = b"version: v1.0.0\ndate: 2026-11-27\n\nNew.\n"
        log = self.folder / "changelog.json"
        yield Row("updates pubkey", (), "=", (), "need 32 bytes", stdin=private, bad_stdin=b"AAAA")
        yield Row("updates addsigned", (key, log), "v1.0.0 added", (key, log), "no version",
                  stdin=text, bad_stdin=b"?")  # fmt: skip
        public = base64.b64encode(self.key).decode()
        yield Row("updates verify", (public,), "1 changes verified", ("AAAA",), "need 32 bytes",
                  stdin=log.read_bytes())  # fmt: skip
        yield Row("checkupdate", (), "no new version", ("-resolver", "x"), "-resolver", code=2,
                  apart=True)  # fmt: skip

    ELSEWHERE = {
        # What they do takes more than a line: a server of their own, with names and keys.
        "quickstart": test_quickstart.QuickstartTests.test_the_server_starts_and_takes_mail,
        "serve": test_cli_commands.ServeTests.test_a_day_of_an_admin,
        "dane dial": test_cli_dial.DialTests.test_dial,
        "dane dialmx": test_cli_dial.DialTests.test_dial,
        "smtp dial": test_cli_dial.DialTests.test_dial,
        "config dnscheck": test_domain_check.CommandTests.test_records_and_check,
        "updates serve": test_updates.UpdateTests.test_commands,
    }
