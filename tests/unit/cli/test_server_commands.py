"""Commands that ask the running server, on the real control protocol and operations."""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw import log as logs
from moxtw.admin import tlskeys
from moxtw.admin.context import Caller, OperationError
from moxtw.cli import server
from moxtw.ctl import client
from moxtw.net.certs import fingerprint
from moxtw.sasl import password as passwords
from moxtw.store import accounts, credentials, hooksdb, queuedb, queuelists
from moxtw.store.hooksdb import NewHook
from moxtw.store.queuelists import Order, Query
from moxtw.store.queuerecord import NewQueued, Queued, Result
from tests.support.admin import START, make_admin_context
from tests.support.ctl import serve_in_memory
from tests.support.store import job, now
from tests.unit.cli import calls

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
Accounts:
	me:
		Domain: example.org
		KeepRetiredWebhookPeriod: 1h
		Destinations:
			me@example.org: nil
			you@example.org: nil
"""
BODY = b"From: me@example.org\r\nSubject: hi\r\n\r\nbody \xff\r\n"
SECOND = 1_000_000


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC)
        self.config = self.ctx.config.static.path
        self.paths = serve_in_memory(self, self.ctx)

    def call(self, *args: Any, stdin: bytes = b"") -> calls.Result:
        return calls.call("-config", self.config, *args, stdin=stdin)

    def good(self, *args: Any, stdin: bytes = b"") -> str:
        """What a command prints that succeeds."""
        result = self.call(*args, stdin=stdin)
        self.assertEqual((result.code, result.err), (0, ""), args)
        return result.out

    def bad(self, *args: Any, stdin: bytes = b"") -> str:
        """The error of a command that fails."""
        result = self.call(*args, stdin=stdin)
        self.assertEqual((result.code, result.out), (1, ""), args)
        self.assertTrue(result.err.startswith("moxtw: "), result.err)
        return result.err[7:]


class ServerTests(Case):
    def test_socket_is_in_the_data_directory(self) -> None:
        self.good("loglevels")
        self.assertEqual(self.paths, [str(self.ctx.config.static.data_path / "ctl")])

    def test_stop(self) -> None:
        stopped: list[bool] = []
        object.__setattr__(self.ctx, "stop", lambda: stopped.append(True))
        self.assertEqual(self.good("stop"), "Server stopped.\n")
        self.assertEqual(stopped, [True])

    def test_ended_watches_a_process(self) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        with server.ended(pid) as wait:
            self.assertFalse(wait(0))
            os.close(write)
            self.assertTrue(wait(30))
        os.waitpid(pid, 0)
        for unknown in (0, os.getpid(), 1 << 30):
            with server.ended(unknown) as wait:
                self.assertTrue(wait(0))

    def test_log_levels(self) -> None:
        levels = logs.levels
        self.addCleanup(levels.configure, "info", {})
        levels.configure("info", {"queue": "debug"})
        self.assertEqual(self.good("loglevels"), "(default): info\nqueue: debug\n")
        self.assertIn("level of package imap is trace now", self.good("loglevels", "trace", "imap"))
        self.assertIn("without a level of their own is error now", self.good("loglevels", "error"))
        self.assertEqual(levels.names(), {"": "error", "queue": "debug", "imap": "trace"})
        self.assertIn("queue has the default", self.good("loglevels", "", "queue"))
        self.assertEqual(levels.names(), {"": "error", "imap": "trace"})
        self.assertIn("bla", self.bad("loglevels", "bla"))

    def test_account_password(self) -> None:
        out = self.good("setaccountpassword", "me", stdin="pässwörd\nmore\n".encode())
        self.assertEqual(out, "Password of account me set.\n")
        account = job(self.ctx.store, accounts.get, "me")
        verifiers = job(self.ctx.store, credentials.verifiers, account.id)
        self.assertTrue(passwords.verify("pässwörd", verifiers.bcrypt))
        self.assertIn("no account 'nobody'", self.bad(
            "setaccountpassword", "nobody", stdin=b"long enough\n"))
        self.assertIn("no password", self.bad("setaccountpassword", "me"))
        self.assertIn("no password", self.bad("setaccountpassword", "me", stdin=b"\n"))
        self.bad("setaccountpassword", "me", stdin=b"short\n")

    def test_password_at_a_terminal(self) -> None:
        typed = ["password one", "password one"]
        with (
            mock.patch.object(calls.Stdin, "isatty", lambda self: True),
            mock.patch("getpass.getpass", lambda prompt: typed.pop(0)),
        ):
            self.good("setaccountpassword", "me")
            typed[:] = ["password one", "password two"]
            self.assertIn("differ", self.bad("setaccountpassword", "me"))
            typed[:] = [""]
            self.assertIn("no password given", self.bad("setaccountpassword", "me"))


class NoServerTests(SynchronousTestCase):
    def test_is_told(self) -> None:
        ctx = make_admin_context(self, DYNAMIC)
        result = calls.call("-config", ctx.config.static.path, "queue", "list")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn("moxtw: no server is running: control socket ", result.err)

    def test_peer(self) -> None:
        """The client knows the process of the server."""
        import socket

        left, right = socket.socketpair()
        self.addCleanup(right.close)
        made = client.ControlClient.__new__(client.ControlClient)
        made._socket = left
        self.addCleanup(left.close)
        self.assertEqual(made.peer_pid, os.getpid())


class ConfigTests(Case):
    def test_accounts(self) -> None:
        self.assertEqual(self.good("config", "account", "list"), "me\n")
        out = self.good("config", "account", "add", "new", "new@example.org")
        self.assertIn("Account new added, with address new@example.org.", out)
        self.assertIn("moxtw setaccountpassword new", out)
        self.assertEqual(self.good("config", "account", "list"), "me\nnew\n")
        self.assertEqual(
            self.good("config", "account", "addresses", "me"), "me@example.org\nyou@example.org\n"
        )
        self.assertIn("exists", self.bad("config", "account", "add", "new", "x@example.org"))
        self.assertIn("sessions were ended", self.good(
            "config", "account", "disable", "new", "not now"))
        self.assertEqual(self.ctx.ended, ["new"])
        self.assertEqual(
            self.good("config", "account", "list"), "me\nnew  (login disabled)\n"
        )
        self.good("config", "account", "enable", "new")
        self.assertEqual(self.ctx.config.dynamic.accounts["new"].login_disabled, "")
        self.assertEqual(
            self.good("config", "account", "rm", "new"), "Account new removed, with its mail.\n"
        )
        self.assertNotIn("new", self.ctx.config.dynamic.accounts)
        self.bad("config", "account", "rm", "new")

    def test_addresses(self) -> None:
        self.good("config", "address", "add", "x@example.org", "me")
        self.assertEqual(self.good("config", "address", "account", "x@example.org"), "me\n")
        self.good("config", "address", "rm", "x@example.org")
        self.bad("config", "address", "account", "x@example.org")
        self.bad("config", "address", "add", "x@elsewhere.example", "me")

    def test_domains(self) -> None:
        out = self.good("config", "domain", "add", "-disabled", "b.example", "me")
        self.assertEqual(
            out, "Domain b.example added, with DKIM keys. The domain is disabled.\n"
        )
        self.assertTrue(self.ctx.config.dynamic.domains["b.example"].disabled)
        self.good("config", "domain", "enable", "b.example")
        self.assertFalse(self.ctx.config.dynamic.domains["b.example"].disabled)
        self.good("config", "domain", "disable", "b.example")
        self.assertTrue(self.ctx.config.dynamic.domains["b.example"].disabled)
        out = self.good("config", "domain", "add", "c.example", "c", "info")
        self.assertIn("New account c has address info@c.example.", out)
        self.assertIn("info@c.example", self.ctx.config.dynamic.accounts["c"].destinations)
        self.good("config", "domain", "rm", "b.example")
        self.assertNotIn("b.example", self.ctx.config.dynamic.domains)
        self.bad("config", "domain", "rm", "b.example")

    def test_aliases(self) -> None:
        alias = "team@example.org"
        out = self.good("config", "alias", "add", alias, "me@example.org", "you@example.org")
        self.assertEqual(out, f"Alias {alias} added, with 2 members.\n")
        self.assertEqual(self.good("config", "alias", "list", "example.org"), alias + "\n")
        self.good("config", "alias", "update", alias, "-postpublic", "true", "-listmembers=false")
        self.assertEqual(
            self.good("config", "alias", "print", alias),
            "# postpublic true\n# listmembers false\n# allowmsgfrom false\n# members:\n"
            "me@example.org\nyou@example.org\n",
        )
        self.good("config", "alias", "update", "-allowmsgfrom", "true", alias)
        self.good("config", "alias", "rmaddr", alias, "you@example.org")
        out = self.good("config", "alias", "print", alias)
        self.assertIn("# postpublic true\n", out)
        self.assertIn("# allowmsgfrom true\n", out)
        self.assertNotIn("you@", out)
        self.assertIn("you@example.org added", self.good(
            "config", "alias", "addaddr", alias, "you@example.org"))
        self.good("config", "alias", "rm", alias)
        self.bad("config", "alias", "print", alias)

    def test_line_breaks_are_refused(self) -> None:
        before = self.ctx.config.path.read_bytes()
        self.assertIn("line breaks", self.bad(
            "config", "account", "disable", "me", "no\naccountrm\nme"))
        self.assertEqual(self.ctx.config.path.read_bytes(), before)


class TLSKeyTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.changed: list[bool] = []

        async def keys_changed() -> None:
            self.changed.append(True)

        object.__setattr__(self.ctx, "keys_changed", keys_changed)
        self.stem = Path(self.mktemp()).absolute()

    def test_made_added_listed_and_removed(self) -> None:
        out = self.good("config", "tlspubkey", "gen", self.stem)
        made = dict(line.split(maxsplit=1) for line in out.splitlines()[2:5])
        combined, seed, found = made["both"], made["seed"], made["fingerprint"]
        key = load_pem_private_key(Path(combined).read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self.assertEqual(base64.urlsafe_b64decode(seed + "="), key.private_bytes_raw())
        self.assertEqual(Path(combined).stat().st_mode & 0o777, 0o600)
        pem = Path(f"{self.stem}.ed25519.certificate.pem").read_bytes()
        self.assertTrue(Path(combined).read_bytes().endswith(pem))
        self.assertEqual(fingerprint(load_pem_x509_certificate(pem)), found)
        self.assertIn("exists already", self.bad("config", "tlspubkey", "gen", self.stem))

        args = ("config", "tlspubkey", "add", "Me+x@example.org")
        out = self.good(*args, "laptop", stdin=pem)
        self.assertIn(found, out)
        self.assertEqual(self.changed, [True])
        self.assertIn("registered already", self.bad(*args, stdin=pem))
        for account in ((), ("me",)):
            head, row = self.good("config", "tlspubkey", "list", *account).splitlines()
            self.assertEqual(row.split()[0], found)
            self.assertEqual(row.split()[2:], ["ed25519", "laptop", "yes", "me", "me@example.org"])
        self.assertIn("no account", self.bad("config", "tlspubkey", "list", "nobody"))
        printed = self.good("config", "tlspubkey", "get", found)
        self.assertIn("# name laptop\n", printed)
        self.assertEqual(
            load_pem_x509_certificate(printed.encode()), load_pem_x509_certificate(pem)
        )
        self.good("config", "tlspubkey", "rm", found)
        self.assertEqual(self.changed, [True, True])
        self.assertEqual(self.good("config", "tlspubkey", "list"), "(none)\n")
        self.bad("config", "tlspubkey", "rm", found)
        self.bad("config", "tlspubkey", "get", found)
        self.good(*args, "-no-imap-preauth", stdin=pem)
        row = self.good("config", "tlspubkey", "list").splitlines()[1]
        # Without a name it is that of the certificate.
        self.assertEqual(row.split()[3:5], [self.stem.name[:64], "no"])

    def certificate(self, key: Any) -> bytes:
        now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
        name = x509.Name([])
        return (
            x509.CertificateBuilder(name, name, key.public_key(), 0xABCD, now, now)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    def test_kinds(self) -> None:
        cases = [
            (ec.generate_private_key(ec.SECP256R1()), "ecdsa-p256"),
            (rsa.generate_private_key(65537, 2048), "rsa-2048"),
            (ec.generate_private_key(ec.SECP384R1()), ""),
            (rsa.generate_private_key(65537, 1024), ""),
        ]
        args = ("config", "tlspubkey", "add", "me@example.org")
        for key, kind in cases:
            pem = self.certificate(key)
            if not kind:
                self.assertIn("the key must be", self.bad(*args, stdin=pem))
                continue
            self.good(*args, stdin=pem)
            rows = self.good("config", "tlspubkey", "list").splitlines()
            self.assertEqual(rows[-1].split()[2:4], [kind, "abcd"])

    def test_other_input(self) -> None:
        pem = self.certificate(ec.generate_private_key(ec.SECP256R1()))
        args = ("config", "tlspubkey", "add")
        for data in (b"", b"bla", pem[:200], pem + pem):
            self.bad(*args, "me@example.org", stdin=data)
        self.assertIn("no account", self.bad(*args, "x@example.org", stdin=pem))
        self.assertIn("bad name", self.bad(*args, "me@example.org", "x" * 201, stdin=pem))
        self.assertEqual(self.changed, [])
        for der in (b"", b"\x30\x80", b"\x30" * 200, b"x" * 70_000):
            failure = self.failureResultOf(
                Deferred.fromCoroutine(
                    tlskeys.add(self.ctx, Caller("ctl", "x"), "me@example.org", "", der)
                ),
                OperationError,
            )
            self.assertEqual(failure.value.kind, "user")


class QueueTests(Case):
    def add(self, *recipients: str, **fields: Any) -> list[int]:
        content = now(self.ctx.store.contents.from_bytes(BODY))
        values: dict[str, Any] = {
            "sender_account": "me",
            "sender_localpart": "me",
            "sender_domain": "example.org",
            "message_id": "<1@x>",
            **fields,
        }
        news = [
            NewQueued(
                recipient_localpart=recipient.partition("@")[0],
                recipient_domain=recipient.partition("@")[2],
                content=content,
                **values,
            )
            for recipient in recipients
        ]
        return job(self.ctx.store, queuedb.add, news)

    def queued(self) -> list[Queued]:
        rows = job(self.ctx.store, queuelists.queued, Query(), Order("queued", True))
        return sorted((row[0] for row in rows), key=lambda row: row.id)

    def rows(self, *args: Any) -> Sequence[str]:
        return self.good("queue", "list", *args).splitlines()

    def test_list(self) -> None:
        self.assertEqual(self.good("queue", "list"), "(none)\n")
        first, second = self.add("a@dst.example", "a-longer-name@other.example")
        head, *rows = self.rows("-asc", "-sort", "queued")
        titles = "ID QUEUED NEXT HOLD TRIES SIZE ACCOUNT FROM TO TRANSPORT LAST-RESULT"
        self.assertEqual(" ".join(head.split()), titles)
        self.assertEqual(len(rows), 2)
        self.assertEqual(rows[0].split()[:2], [str(first), "2025-06-15T15:06:40Z"])
        for title, text in (("FROM", "me@example.org"), ("TO", "a@dst.example")):
            self.assertEqual(rows[0].index(text), head.index(title))
        self.assertIn("a-longer-name@other.example", rows[1])
        self.assertEqual(self.rows("-n", "1", "-sort", "queued")[1].split()[0], str(second))

    def test_what_strangers_sent_is_made_harmless(self) -> None:
        (message_id,) = self.add("a@dst.example")
        row = self.queued()[0]
        error = Result(START * SECOND, 1, False, 550, "5.1.1", "no \x1b[2J\x07way\r\nfake")
        changed = [*row.results, error]

        def fail(tx: Any) -> None:
            queuedb.begin(tx, [row], row.next_attempt)
            started = queuedb.get(tx, message_id)
            started.results[:] = changed
            queuedb.postpone(tx, started)

        now(self.ctx.store.write(fail))
        out = self.good("queue", "list")
        self.assertIn("no \\x1b[2J\\x07way", out)
        self.assertEqual(len(out.splitlines()), 2)
        self.assertNotIn("\x1b", out)

    def test_filters(self) -> None:
        first, second = self.add("a@dst.example", "b@other.example")
        self.good("queue", "hold", "-ids", second)
        cases = [
            (["-ids", f"{first},{second}"], {first, second}),
            (["-ids", second], {second}),
            (["-account", "me"], {first, second}),
            (["-account", "other"], set()),
            (["-to", "@dst.example"], {first}),
            (["-from", "me@example.org"], {first, second}),
            (["-hold", "true"], {second}),
            (["-hold=false"], {first}),
            (["-submitted", "<now"], set()),
            (["-submitted", ">-1h"], {first, second}),
            (["-nextattempt", "<1h"], {first, second}),
            (["-transport", "x"], set()),
            (["-transport", ""], {first, second}),
        ]
        for args, ids in cases:
            found = {int(row.split()[0]) for row in self.rows(*args)[1:]}
            self.assertEqual(found, ids, args)
        self.assertIn("2h-", self.bad("queue", "list", "-submitted", "<2h-"))

    def test_changes(self) -> None:
        first, _second = self.add("a@dst.example", "b@other.example")
        self.assertEqual(self.good("queue", "hold"), "2 messages on hold.\n")
        self.assertEqual([row.hold for row in self.queued()], [True, True])
        self.assertEqual(
            self.good("queue", "unhold", "-ids", first), "1 message no longer on hold.\n"
        )
        self.assertEqual([row.hold for row in self.queued()], [False, True])
        due = self.queued()[0].next_attempt
        self.good("queue", "schedule", "-ids", first, "1h30m")
        self.assertEqual(self.queued()[0].next_attempt, due + 5400 * SECOND)
        self.good("queue", "schedule", "-ids", first, "-30m")
        self.assertEqual(self.queued()[0].next_attempt, due + 3600 * SECOND)
        self.good("queue", "schedule", "-now", "0s")
        self.assertEqual({row.next_attempt for row in self.queued()}, {START * SECOND})
        self.bad("queue", "schedule", "soon")
        self.assertIn("with transport x.", self.good("queue", "transport", "-ids", first, "x"))
        self.assertEqual([row.transport for row in self.queued()], ["x", ""])
        self.assertIn("as routes say.", self.good("queue", "transport", ""))
        self.assertEqual([row.transport for row in self.queued()], ["", ""])
        for word, value in (("yes", True), ("no", False), ("default", None)):
            self.good("queue", "requiretls", word)
            self.assertEqual({row.require_tls for row in self.queued()}, {value})

    def test_give_up(self) -> None:
        first, second, third = self.add("a@dst.example", "b@other.example", "c@x.example")
        self.assertEqual(self.good("queue", "drop", "-ids", first), "1 message dropped.\n")
        self.assertEqual(
            self.good("queue", "fail", "-ids", second), "1 message failed, senders are told.\n"
        )
        self.assertEqual([row.id for row in self.queued()], [third])
        self.assertEqual(self.good("queue", "drop", "-ids", first), "0 messages dropped.\n")

    def test_dump(self) -> None:
        (message_id,) = self.add("a@dst.example", prefix=b"X: 1\r\n")
        raw = (b"X: 1\r\n" + BODY).decode("latin-1")
        with mock.patch.object(calls, "decode", lambda data: data.decode("latin-1")):
            self.assertEqual(self.good("queue", "dump", message_id), raw)
        self.bad("queue", "dump", "12345")

    def test_retired(self) -> None:
        (message_id,) = self.add("a@dst.example")

        def retire(tx: Any) -> None:
            queuedb.retire(tx, queuedb.get(tx, message_id), True, 3600 * SECOND)

        now(self.ctx.store.write(retire))
        found = self.good("queue", "retired", "list", "-result", "success", "-sort", "queued")
        self.assertEqual(found.splitlines()[1].split()[0], str(message_id))
        failed = self.good("queue", "retired", "list", "-result", "failure")
        self.assertEqual(failed, "(none)\n")
        recent = self.good("queue", "retired", "list", "-lastactivity", ">-1h")
        self.assertIn("a@dst.example", recent)
        printed = json.loads(self.good("queue", "retired", "print", message_id))
        self.assertEqual(printed["RecipientAddress"], "a@dst.example")
        self.bad("queue", "retired", "print", "12345")

    def test_hold_rules(self) -> None:
        (message_id,) = self.add("a@dst.example")
        out = self.good("queue", "holdrules", "add", "-recipientdom", "dst.example")
        number = out.split()[2]
        self.assertEqual(out, f"Hold rule {number} added.\n")
        self.assertEqual([row.hold for row in self.queued()], [True])
        head, row = self.good("queue", "holdrules", "list").splitlines()
        self.assertEqual(row.split(), [number, "*", "*", "dst.example"])
        # The domain stands under its own heading.
        self.assertEqual(row.index("dst.example"), head.index("RECIPIENT"))
        self.assertIn("matches all", self.good("queue", "holdrules", "add"))
        self.good("queue", "holdrules", "remove", number)
        self.bad("queue", "holdrules", "remove", number)
        self.assertTrue(self.queued()[0].hold)
        self.assertEqual(self.queued()[0].id, message_id)


    def test_lists_as_json(self) -> None:
        self.assertEqual(json.loads(self.good("queue", "list", "-json")), [])
        ids = self.add("a@dst.example", "b@dst.example", subject="caf\u00e9 \u009b2J \U000e0001")
        out = self.good("queue", "list", "-json", "-asc", "-sort", "queued")
        self.assertNotIn("\u009b", out)
        listed = json.loads(out)
        self.assertEqual([each["ID"] for each in listed], ids)
        self.assertEqual(listed[0]["Subject"], "caf\u00e9 \u009b2J \U000e0001")
        self.good("queue", "holdrules", "add", "-account", "me")
        (rule,) = json.loads(self.good("queue", "holdrules", "list", "-json"))
        self.assertEqual(rule["Account"], "me")
        self.assertEqual(json.loads(self.good("queue", "retired", "list", "-json")), [])

    def test_suppressions(self) -> None:
        self.assertEqual(self.good("queue", "suppress", "list"), "(none)\n")
        out = self.good("queue", "suppress", "add", "me", "Some.One+x@dst.example")
        self.assertEqual(out, "Account me sends nothing to someone@dst.example any more.\n")
        again = self.bad("queue", "suppress", "add", "me", "someone@dst.example")
        self.assertIn("on the list already", again)
        self.assertIn("nobody", self.bad("queue", "suppress", "add", "nobody", "x@dst.example"))
        self.assertIn("address", self.bad("queue", "suppress", "add", "me", "bad"))
        self.good("queue", "suppress", "add", "me", "other@dst.example")
        head, *rows = self.good("queue", "suppress", "list", "-account", "me").splitlines()
        self.assertEqual(len(rows), 2)
        self.assertEqual(head.index("ADDRESS"), rows[0].index("someone@"))
        self.assertIn("no account", self.bad("queue", "suppress", "list", "-account", "nobody"))
        for account in ((), ("-account", "me")):
            args = (*account, "-json", "s.omeone@dst.example")
            found = self.good("queue", "suppress", "lookup", *args)
            (entry,) = json.loads(found)
            self.assertEqual(
                (entry["Account"], entry["OriginalAddress"], entry["Manual"]),
                ("me", "Some.One+x@dst.example", True),
            )
        nothing = self.good("queue", "suppress", "lookup", "x@dst.example")
        self.assertEqual(nothing, "(none)\n")
        self.good("queue", "suppress", "remove", "me", "someone@dst.example")
        self.bad("queue", "suppress", "remove", "me", "someone@dst.example")
        self.assertEqual(len(self.good("queue", "suppress", "list").splitlines()), 2)


class WebhookTests(Case):
    def add(self, event: str = "delivered", **fields: Any) -> int:
        values: dict[str, Any] = {
            "account": "me",
            "url": "http://hooks.example/in",
            "payload": '{"a":1}',
            "authorization": "secret",
            "event": event,
            **fields,
        }
        number: int = job(self.ctx.store, hooksdb.add, NewHook(**values), 3600 * SECOND)
        return number

    def ids(self, *args: Any) -> list[int]:
        return [each["ID"] for each in json.loads(self.good("queue", "webhook", *args, "-json"))]

    def test_lists_and_filters(self) -> None:
        self.assertEqual(self.good("queue", "webhook", "list"), "(none)\n")
        first = self.add(queue_msg_id=7)
        second = self.add("failed", account="other")
        third = self.add("", is_incoming=True)
        out = self.good("queue", "webhook", "list", "-asc", "-sort", "submitted")
        head, *rows = out.splitlines()
        titles = "ID SUBMITTED NEXT TRIES ACCOUNT EVENT MESSAGE URL LAST-RESULT"
        self.assertEqual(" ".join(head.split()), titles)
        self.assertEqual(
            rows[0].split()[3:], ["0", "me", "delivered", "7", "http://hooks.example/in"]
        )
        self.assertIn(" incoming ", rows[2])
        cases = [
            (["-event", "failed"], {second}),
            (["-event", "incoming"], {third}),
            (["-account", "me"], {first, third}),
            (["-ids", f"{first},{second}"], {first, second}),
            (["-nextattempt", ">now"], set()),
            (["-submitted", ">-1h"], {first, second, third}),
        ]
        for args, ids in cases:
            self.assertEqual(set(self.ids("list", *args)), ids, args)
        self.assertEqual(len(self.ids("list", "-n", "2")), 2)
        self.assertEqual(self.call("queue", "webhook", "list", "-event", "bla").code, 2)

    def test_schedule_cancel_and_print(self) -> None:
        first, second = self.add(), self.add("failed")
        printed = json.loads(self.good("queue", "webhook", "print", first))
        self.assertEqual((printed["Payload"], printed["Attempts"]), ('{"a":1}', 0))
        self.assertEqual(
            self.good("queue", "webhook", "schedule", "-ids", first, "1h"),
            "1 webhook call rescheduled.\n",
        )
        self.assertEqual(self.ids("list", "-nextattempt", ">30m"), [first])
        self.good("queue", "webhook", "schedule", "-now", "0s")
        self.assertEqual(self.ids("list", "-nextattempt", ">30m"), [])
        self.bad("queue", "webhook", "schedule", "soon")
        self.assertEqual(
            self.good("queue", "webhook", "cancel", "-event", "failed"),
            "1 webhook call canceled.\n",
        )
        self.assertEqual(self.ids("list"), [first])
        self.assertEqual(self.ids("retired", "list", "-lastactivity", ">-1h"), [second])
        row = self.good("queue", "webhook", "retired", "list").splitlines()[1]
        self.assertIn(" failed ", row)
        self.assertIn("canceled by admin", row)
        printed = json.loads(self.good("queue", "webhook", "retired", "print", second))
        self.assertEqual((printed["Authorization"], printed["Success"]), (True, False))
        self.assertIn("no webhook call", self.bad("queue", "webhook", "print", second))
        self.bad("queue", "webhook", "retired", "print", first)

    def test_superseded(self) -> None:
        first, second = self.add("delayed", queue_msg_id=7), self.add(queue_msg_id=7)
        row = self.good("queue", "webhook", "retired", "list").splitlines()[1]
        self.assertEqual(row.split()[0], str(first))
        self.assertIn(f"superseded by {second}", row)


class AdminPasswordTests(SynchronousTestCase):
    def test_file(self) -> None:
        from moxtw.config.testing import STATIC

        ctx = make_admin_context(self, DYNAMIC, STATIC + "AdminPasswordFile: adminpasswd\n")
        path = Path(ctx.config.static.directory) / "adminpasswd"
        args = ("-config", ctx.config.static.path, "setadminpassword")
        result = calls.call(*args, stdin=b"a new password\r\n")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn(str(path), result.out)
        self.assertTrue(passwords.verify("a new password", path.read_text().strip()))
        self.assertEqual(path.stat().st_mode & 0o027, 0)
        before = path.read_text()
        self.assertEqual(calls.call(*args, stdin=b"short\n").code, 1)
        self.assertEqual(calls.call(*args).code, 1)
        self.assertEqual(path.read_text(), before)

    def test_without_a_file(self) -> None:
        ctx = make_admin_context(self, DYNAMIC)
        result = calls.call(
            "-config", ctx.config.static.path, "setadminpassword", stdin=b"a new password\n"
        )
        self.assertEqual(result.code, 1)
        self.assertIn("no AdminPasswordFile", result.err)
