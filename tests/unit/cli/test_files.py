"""Commands on files: configuration, keys, messages, data."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import import_module
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import localserve
from moxtw.authn.dkimkey import public_record
from moxtw.cli import config, dns
from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation
from moxtw.cli.table import COMMANDS
from moxtw.config.examples import EXAMPLES
from moxtw.config.testing import DYNAMIC, STATIC
from moxtw.dns.fake import ZoneResolver
from moxtw.net.cid import ConnectionIds, load_or_create_key
from moxtw.sasl import password as passwords
from moxtw.store import accounts, credentials, mailboxes, messages
from moxtw.store.db import Store
from tests.support.store import make_account, message, now
from tests.unit.cli.calls import call


class ConfigTests(SynchronousTestCase):
    def write(self, static: str = STATIC, dynamic: str = DYNAMIC) -> Path:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "domains.conf").write_text(dynamic)
        path = directory / "mox.conf"
        path.write_text(static)
        return path

    def test_good(self) -> None:
        result = call("-config", self.write(), "config", "test")
        self.assertEqual((result.code, result.out, result.err), (0, "config OK\n", ""))

    def test_errors_have_their_lines(self) -> None:
        path = self.write(static=STATIC.replace("127.0.0.1", "bla"))
        result = call("-config", path, "config", "test")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn(f"{path}:7: ", result.err)
        path = self.write(dynamic=DYNAMIC + "Bla: 1\n")
        result = call("-config", path, "config", "test")
        self.assertEqual((result.code, result.out), (1, ""))
        line = DYNAMIC.count("\n") + 1
        self.assertIn(f"{path.with_name('domains.conf')}:{line}: ", result.err)
        path.with_name("domains.conf").unlink()
        self.assertEqual(call("-config", path, "config", "test").code, 1)

    def test_described(self) -> None:
        static, domains = call("config", "describe-static"), call("config", "describe-domains")
        self.assertIn("\nDataDir:", static.out)
        self.assertIn("\nDomains:", domains.out)

    def test_examples(self) -> None:
        for words in (["example"], ["config", "example"]):
            listed = call(*words).out.splitlines()
            self.assertEqual([line.split()[0] for line in listed[1:]], sorted(EXAMPLES))
            name = listed[1].split()[0]
            self.assertIn(EXAMPLES[name].text, call(*words, name).out)
            result = call(*words, "bla")
            self.assertEqual((result.code, result.out), (1, ""))
            self.assertIn(name, result.err)

    def test_client_settings(self) -> None:
        path = self.write()
        localserve.prepare(path.parent / "l", "127.0.0.1")
        path = path.parent / "l" / "mox.conf"
        result = call("-config", path, "clientconfig", "localhost")
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertRegex(result.out, r"(?m)^IMAP  +localhost +1993 +local +TLS from the start$")
        self.assertIn("SCRAM-SHA-256", result.out)
        self.assertIn("not configured", call("-config", path, "clientconfig", "x.example").err)
        self.assertEqual(call("-config", path, "clientconfig", "..").code, 1)


class UnitTests(SynchronousTestCase):
    def settings(self, text: str) -> dict[str, str]:
        lines = [line for line in text.splitlines() if line and line[0] not in "#["]
        for line in lines:
            self.assertRegex(line, r"^[A-Z][A-Za-z]+=.+$")
        return dict(line.split("=", 1) for line in lines)

    def test_program_and_folders(self) -> None:
        unit = config.service_unit(
            ["/opt/moxtw/bin/moxtw"], Path("/srv/m/config/mox.conf"), Path("/srv/m/data")
        )
        found = self.settings(unit)
        self.assertEqual(
            found["ExecStart"], "/opt/moxtw/bin/moxtw -config /srv/m/config/mox.conf serve"
        )
        self.assertEqual(found["ReadWritePaths"], "/srv/m/config /srv/m/data")
        # Made before the first start, with the rights that the service itself lacks.
        self.assertEqual(found["ExecStartPre"], "+/bin/mkdir -p /srv/m/data")
        self.assertEqual(found["ProtectHome"], "yes")
        self.assertEqual(found["Restart"], "always")
        self.assertEqual(found["RestartSec"], "5s")
        self.assertEqual(found["LimitNOFILE"], "65535")
        self.assertEqual(found["NoNewPrivileges"], "yes")
        self.assertEqual(
            found["RestrictAddressFamilies"], "AF_INET AF_INET6 AF_UNIX AF_NETLINK"
        )
        # The server is root at first, so it must not be given another user.
        self.assertNotIn("User", found)

    def test_files_of_a_home(self) -> None:
        unit = config.service_unit(
            ["/usr/bin/moxtw"], Path("/home/mox/config/mox.conf"), Path("/home/mox/data")
        )
        self.assertEqual(self.settings(unit)["ProtectHome"], "read-only")

    def test_words_are_quoted(self) -> None:
        unit = config.service_unit(
            ["/a b/moxtw"], Path('/x%y/$c"d/mox.conf'), Path("/data dir")
        )
        found = self.settings(unit)
        self.assertEqual(
            found["ExecStart"], '"/a b/moxtw" -config "/x%%y/$$c\\"d/mox.conf" serve'
        )
        self.assertIn('"/data dir"', found["ReadWritePaths"])

    def test_command(self) -> None:
        directory = Path(self.mktemp()).absolute()
        localserve.prepare(directory, "127.0.0.1")
        result = call("-config", directory / "mox.conf", "config", "printservice")
        self.assertEqual((result.code, result.err), (0, ""))
        found = self.settings(result.out)
        self.assertEqual(found["ReadWritePaths"], f"{directory} {directory}/data")
        program = directory / "moxtw"
        program.write_text("")
        program.chmod(0o755)
        self.patch(sys, "argv", [str(program)])
        result = call("-config", directory / "none" / "mox.conf", "config", "printservice")
        self.assertIn("does not exist yet", result.err)
        self.assertTrue(self.settings(result.out)["ExecStart"].startswith(f"{program} -config "))


class DKIMTests(SynchronousTestCase):
    def test_keys_and_records(self) -> None:
        for kind, start in (
            ("gened25519", "v=DKIM1;h=sha256;k=ed25519;p="),
            ("genrsa", "v=DKIM1;h=sha256;p=MII"),
        ):
            pem = call("dkim", kind).out
            key = load_pem_private_key(pem.encode(), None)
            out = call("dkim", "txt", stdin=pem.encode()).out
            self.assertTrue(out.startswith("<selector>._domainkey.<domain>. TXT "))
            strings = re.findall(r'"([^"]*)"', out)
            self.assertTrue(all(len(text) <= 255 for text in strings))
            self.assertTrue("".join(strings).startswith(start))
            self.assertEqual("".join(strings), public_record(key))

    def test_other_input(self) -> None:
        for data in (b"", b"bla", call("dkim", "genrsa").out.encode()[:400]):
            result = call("dkim", "txt", stdin=data)
            self.assertEqual((result.code, result.out), (1, ""))
        self.assertRaises(TypeError, public_record, object())

    def test_sign(self) -> None:
        directory = Path(self.mktemp()).absolute()
        localserve.prepare(directory, "127.0.0.1")
        path = directory / "message"
        path.write_bytes(b"From: <mox@localhost>\nSubject: hi\n\nbody\n")
        result = call("-config", directory / "mox.conf", "dkim", "sign", path)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertTrue(result.out.startswith("DKIM-Signature: v=1; d=localhost; s=localserve;"))
        self.assertTrue(
            result.out.endswith("\r\nFrom: <mox@localhost>\r\nSubject: hi\r\n\r\nbody\r\n")
        )
        for data, error in (
            (b"From: <a@x.example>\n\n", "not configured"),
            (b"Subject: x\n\n", "needs a From"),
            (b"From: a@localhost, b@localhost\n\n", "needs a From"),
        ):
            path.write_bytes(data)
            result = call("-config", directory / "mox.conf", "dkim", "sign", path)
            self.assertEqual((result.code, result.out), (1, ""))
            self.assertIn(error, result.err)
        missing = call("-config", directory / "mox.conf", "dkim", "sign", directory / "none")
        self.assertEqual(missing.code, 1)


class LookupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resolver = ZoneResolver(
            {
                "a.example.": {
                    "A": ["192.0.2.1"],
                    "MX": [(10, "mx.example.")],
                    "TXT": ['v=x "y"\x1b'],
                    "SRV": [(1, 2, 3, "s.example.")],
                },
            }
        )

    def look(self, kind: str, name: str) -> list[str]:
        import io

        out = io.StringIO()
        command = COMMANDS["dns", "lookup"]
        invocation = Invocation(command, [kind, name], {}, "", stdout=out)
        self.successResultOf(
            Deferred.fromCoroutine(dns.print_lookup(invocation, self.resolver, kind, name))
        )
        return out.getvalue().splitlines()

    def test_records(self) -> None:
        self.assertEqual(
            self.look("a", "a.example"), ["records (1, without DNSSEC):", "- 192.0.2.1"]
        )
        self.assertEqual(self.look("ips", "a.example")[1:], ["- 192.0.2.1"])
        self.assertEqual(self.look("mx", "a.example")[1:], ["- mx.example., preference 10"])
        self.assertEqual(
            self.look("srv", "a.example")[1:], ["- s.example., port 3, priority 1, weight 2"]
        )
        self.assertEqual(self.look("txt", "a.example")[1:], ['- "v=x "y"\\x1b"'])

    def test_nothing_found(self) -> None:
        invocation = Invocation(COMMANDS["dns", "lookup"], [], {}, "")
        failure = self.failureResultOf(
            Deferred.fromCoroutine(
                dns.print_lookup(invocation, self.resolver, "mx", "b.example")
            ),
            CommandError,
        )
        self.assertIn("b.example", str(failure.value))


class ToolTests(SynchronousTestCase):
    def test_cid(self) -> None:
        directory = Path(self.mktemp()).absolute()
        localserve.prepare(directory, "127.0.0.1")
        args = ("-config", directory / "mox.conf", "cid")
        self.assertIn("never started", call(*args, "x").err)
        ids = ConnectionIds(load_or_create_key(directory / "data"), 0)
        result = call(*args, ids.encrypt(0x1234ABCD))
        self.assertEqual((result.code, result.out), (0, "1234abcd\n"))
        self.assertIn("not a connection id", call(*args, "x").err)

    def test_message(self) -> None:
        data = (
            b"From: =?utf-8?q?J=C3=BC?= <a@b.example>\r\nTo: x: c@d.example;\r\n"
            b"Date: Sat, 1 Jan 2022 12:00:00 +0100\r\nMessage-Id: <1@x>\r\n"
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\n\r\nhello\r\n--b\r\nContent-Type: image/png; name=p\r\n\r\n\x89\r\n--b--\r\n"
        )
        result = call("message", "parse", "-", stdin=data)
        self.assertEqual((result.code, result.err), (0, ""))
        found = json.loads(result.out)
        self.assertEqual(found["from"], [{"name": "Jü", "address": "a@b.example"}])
        self.assertEqual(found["date"], "2022-01-01T11:00:00Z")
        self.assertEqual(found["message_id"], "1@x")
        kinds = [part["content_type"] for part in found["part"]["parts"]]
        self.assertEqual(kinds, ["text/plain", "image/png"])
        path = Path(self.mktemp())
        path.write_bytes(data)
        self.assertEqual(call("message", "parse", path).out, result.out)
        self.assertEqual(call("message", "parse", path.with_name("none")).code, 1)

    def test_message_with_utf8(self) -> None:
        data = "From: ü@b.example\r\n\r\n".encode()
        self.assertIn("SMTPUTF8", call("message", "parse", "-", stdin=data).err)
        self.assertEqual(call("message", "parse", "-smtputf8", "-", stdin=data).err, "")

    def test_messages_that_are_none(self) -> None:
        for data in (b"", b"\x00\xff\xfe", b"From\xff: \xed\xa0\x80\r\n", b"Date: Mon, 1 Jan 9999"):
            result = call("message", "parse", "-", stdin=data)
            self.assertEqual(result.code, 0)
            json.loads(result.out)


class DataTests(SynchronousTestCase):
    def setUp(self) -> None:
        from twisted.internet.task import Clock

        self.directory = self.mktemp()
        store = Store(self.directory, Clock(), inline=True)
        store.open()
        account = make_account(store)

        def add(tx: object) -> None:
            inbox = mailboxes.find(tx, account.id, "Inbox")
            messages.add(tx, account.id, inbox.id, new)

        for size in (10, 100_000):
            new = message(store, b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * size)
            now(store.write(add))
        now(store.stopService())

    def test_good(self) -> None:
        result = call("verifydata", self.directory)
        self.assertEqual((result.code, result.out, result.err), (0, f"{self.directory}: OK\n", ""))

    def test_stray_files(self) -> None:
        stray = Path(self.directory) / "content" / "zz" / "stray"
        stray.parent.mkdir()
        stray.write_text("x")
        result = call("verifydata", self.directory)
        self.assertEqual((result.code, result.out), (0, f"{self.directory}: OK\n"))
        self.assertIn("warning: content file zz/stray", result.err)
        self.assertTrue(stray.exists())
        self.assertEqual(call("verifydata", "-fix", self.directory).code, 0)
        self.assertFalse(stray.exists())
        moved = Path(self.directory) / "moved" / "content" / "zz" / "stray"
        self.assertEqual(moved.read_text(), "x")
        self.assertEqual(call("verifydata", self.directory).err, "")

    def test_damage(self) -> None:
        (path,) = (p for p in (Path(self.directory) / "content").glob("*/*") if p.is_file())
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"?")
        result = call("verifydata", self.directory)
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn("error: ", result.err)
        self.assertEqual(call("verifydata", "-skip-size-check", self.directory).code, 0)
        path.unlink()
        self.assertEqual(call("verifydata", "-skip-size-check", self.directory).code, 1)

    def test_other_directories(self) -> None:
        empty = Path(self.mktemp())
        empty.mkdir()
        for path in (empty, empty / "none"):
            result = call("verifydata", path)
            self.assertEqual((result.code, result.out), (1, ""))
            self.assertIn("no data directory", result.err)
        self.assertEqual(os.listdir(empty), [])


class LocalserveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(passwords, "derive", _cheap(passwords.derive))
        self.directory = Path(self.mktemp()).absolute()
        self.args = ("localserve", "-initonly", "-dir", self.directory)

    def password_is(self, password: str) -> bool:
        store = Store(str(self.directory / "data"), None, inline=True)
        store.open()

        def job(tx: object) -> object:
            return credentials.verifiers(tx, accounts.get(tx, "mox").id)

        try:
            return passwords.verify(password, now(store.read(job)).bcrypt)
        finally:
            now(store.stopService())

    def test_first_use(self) -> None:
        result = call(*self.args, "-ip", "127.0.0.1")
        self.assertEqual((result.code, result.err), (0, ""))
        for text in (
            "mox@localhost, password moxmoxmox",
            "password moxadmin",
            "localhost:1025",
            "localhost:1993",
            "http://localhost:1080/admin/",
            f"moxtw -config {self.directory}/mox.conf stop",
        ):
            self.assertIn(text, result.out)
        self.assertTrue(self.password_is("moxmoxmox"))

    def test_later_use_keeps_what_was_changed(self) -> None:
        call(*self.args)
        store = Store(str(self.directory / "data"), None, inline=True)
        store.open()
        verifiers = passwords.derive("another password")
        now(
            store.write(
                lambda tx: credentials.set_password(tx, accounts.get(tx, "mox").id, verifiers)
            )
        )
        now(store.stopService())
        domains = self.directory / "domains.conf"
        domains.write_text(domains.read_text() + "# changed\n")
        result = call(*self.args)
        self.assertEqual((result.code, result.err), (0, ""))
        self.assertIn(f"Using {self.directory}.", result.out)
        self.assertTrue(self.password_is("another password"))
        self.assertTrue(domains.read_text().endswith("# changed\n"))

    def test_address_of_an_earlier_use(self) -> None:
        call(*self.args, "-ip", "127.0.0.1")
        self.assertEqual(call(*self.args, "-ip", "127.0.0.1").code, 0)
        result = call(*self.args, "-ip", "127.0.0.2")
        self.assertEqual((result.code, result.out), (1, ""))
        self.assertIn("was made for 127.0.0.1", result.err)

    def test_serves_what_was_made(self) -> None:
        served: list[tuple[Path, bool]] = []
        self.patch(
            import_module("moxtw.cli.server"),
            "_serve",
            lambda invocation, path, localserve: served.append((path, localserve)) or 15,
        )
        self.assertEqual(call("localserve", "-dir", self.directory).code, 15)
        self.assertEqual(served, [(self.directory / "mox.conf", True)])


def _cheap(derive: object) -> object:
    return lambda password, cost=4: derive(password, cost=4)
