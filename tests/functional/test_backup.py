"""A backup of a server under load is whole: restored, it serves the same messages."""

from __future__ import annotations

import os
import shutil
import smtplib
import threading
from pathlib import Path
from typing import Any

from moxtw.admin.backupfiles import read_manifest
from tests.support.server import ZONE, LiveCase, MailServer, expect_ok
from tests.unit.cli.calls import call

BIG = b"Subject: big\r\n\r\n" + b"0123456789\r\n" * 10_000
SMALL = b"Subject: small\r\n\r\nbody\r\n"


def state(server: MailServer) -> dict[str, Any]:
    """UIDVALIDITY, MODSEQ, UIDs, flags and digests of all messages, by mailbox."""
    found = {}
    client = server.imap()
    try:
        for name in ("Inbox", "Archive"):
            client.select(name, readonly=True)
            found[name] = (
                client.response("UIDVALIDITY")[1],
                client.response("UIDNEXT")[1],
                expect_ok(client.uid("FETCH", "1:*", "(UID FLAGS MODSEQ RFC822.SIZE BODY.PEEK[])")),
            )
    finally:
        client.logout()
    return found


class BackupTests(LiveCase):
    def server(self, **options: Any) -> MailServer:
        server = MailServer(self.mktemp(), accounts={"mjl": ["mjl@a.example"]}, **options)
        self._servers.append(server)
        self.addCleanup(server.kill)
        return server

    def moxtw(self, server: MailServer, *args: object) -> str:
        """What a command prints."""
        done = call("-config", server.config_path, *args)
        self.assertEqual((done.code, done.err), (0, ""), args)
        return done.out

    def refused(self, server: MailServer, *args: object) -> str:
        """The errors of a command that fails."""
        done = call("-config", server.config_path, *args)
        self.assertEqual(done.code, 1, args)
        return done.err

    def deliver(self, server: MailServer, stop: threading.Event, told: list[int]) -> None:
        with smtplib.SMTP(server.ip, server.ports.smtp, timeout=30) as smtp:
            number = 0
            while not stop.is_set():
                data = BIG if number % 3 == 0 else SMALL
                smtp.sendmail("x@b.example", ["mjl@a.example"], b"X-N: %d\r\n" % number + data)
                number += 1
                told.append(number)

    def read_and_change(self, server: MailServer, stop: threading.Event) -> None:
        client = server.imap()
        client.select("Inbox")
        while not stop.is_set():
            client.noop()
            client.store("1:3", "+FLAGS", "\\Seen")
            client.append("Archive", "", None, BIG)
            # What is removed while the backup runs must be in it all the same.
            client.store("1", "+FLAGS", "\\Deleted")
            client.expunge()
        client.logout()

    def test_under_load(self) -> None:
        server = self.server(resolver=self.name_server(ZONE).address)
        server.fill([SMALL] * 200)
        server.start()
        stop = threading.Event()
        told: list[int] = []
        threads = [
            threading.Thread(target=self.deliver, args=(server, stop, told)),
            threading.Thread(target=self.read_and_change, args=(server, stop)),
        ]
        top = Path(self.mktemp()).absolute()
        top.mkdir()
        for thread in threads:
            thread.start()
        try:
            while len(told) < 10:
                if not any(thread.is_alive() for thread in threads):
                    self.fail("no load")
                stop.wait(0.01)
            before = len(told)
            out = self.moxtw(server, "backup", "-verbose", str(top / "one"))
            during = len(told)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertIn("database: 100 %", out)
        self.assertIn("backup complete", out)
        self.assertGreater(during, before)
        # It checks clean, and so does another that has what came since.
        self.assertIn("would serve", self.moxtw(server, "restoredrill", str(top / "one")))
        manifest = read_manifest(top / "one")
        self.assertGreater(manifest.content_files, 0)
        expected = state(server)
        out = self.moxtw(server, "backup", str(top / "two"))
        self.assertNotIn("0 linked", out)
        server.stop()
        self.assertEqual(server.errors(), [])

        # In place of what the server had.
        shutil.rmtree(server.data_dir)
        shutil.copytree(top / "two" / "data", server.data_dir)
        self.assertEqual(
            self.moxtw(server, "verifydata", str(server.data_dir)), f"{server.data_dir}: OK\n"
        )
        server.start()
        self.assertEqual(state(server), expected)
        with smtplib.SMTP(server.ip, server.ports.smtp, timeout=30) as smtp:
            smtp.sendmail("x@b.example", ["mjl@a.example"], SMALL)
        server.stop()
        server.check()
        # The first one serves, too.
        shutil.rmtree(server.data_dir)
        shutil.copytree(top / "one" / "data", server.data_dir)
        server.start()
        uids = {line for line, _ in state(server)["Inbox"][2][::2]}
        self.assertTrue(uids)
        server.stop()
        server.check()

    def test_interrupted(self) -> None:
        server = self.server()
        server.fill([SMALL] * 20)
        server.start()
        top = Path(self.mktemp()).absolute()
        (top / "half" / "data").mkdir(parents=True)
        self.moxtw(server, "backup", str(top / "whole"))
        # As a kill leaves it.
        shutil.copytree(top / "whole" / "data", top / "half" / "data", dirs_exist_ok=True)
        (top / "half" / "data" / "backup-incomplete").write_text("")
        for command in ("verifydata", "restoredrill"):
            self.assertIn("not completed", self.refused(server, command, str(top / "half")))
        self.moxtw(server, "backup", str(top / "half"))
        self.moxtw(server, "restoredrill", str(top / "half"))
        self.assertIn("none is overwritten", self.refused(server, "backup", str(top / "half")))
        # The running server's own data is left alone by what wants it for itself.
        self.assertIn("in use by a server", self.refused(server, "verifydata", server.data_dir))
        self.assertIn("in use", self.refused(server, "bumpuidvalidity", "mjl"))

        # Damage is found, and a damaged backup would not serve.
        (top / "whole" / "config" / "domains.conf").write_text("Domains:\n\tbad\n")
        errors = self.refused(server, "restoredrill", top / "whole")
        self.assertIn("domains.conf differs", errors)
        self.assertIn("would not serve", errors)
        self.assertEqual(sorted(os.listdir(top)), ["half", "whole"])
        self.moxtw(server, "restoredrill", "-dir", str(top / "kept"), str(top / "half"))
        self.assertTrue((top / "kept" / "data" / "moxtw.db").exists())

    def test_repair(self) -> None:
        server = self.server()
        server.fill([SMALL] * 20)
        before = _uidvalidity(server)
        self.assertIn("becomes", self.moxtw(server, "bumpuidvalidity", "mjl", "Inbox"))
        self.assertNotEqual(_uidvalidity(server), before)
        server.edit_store(
            lambda tx: tx.raw("UPDATE messages SET size = size + 1 WHERE uid < 5") and None
        )
        server.edit_store(
            lambda tx: tx.raw("UPDATE mailboxes SET total = 7 WHERE name = 'Inbox'") and None
        )
        server.edit_store(
            lambda tx: tx.raw("UPDATE mailboxes SET uidnext = 2 WHERE name = 'Inbox'") and None
        )
        self.assertIn("uidnext 2 becomes 21", self.moxtw(server, "fixuidmeta", "mjl"))
        server.start()
        self.assertIn("sizes of 4 messages", self.moxtw(server, "fixmsgsize"))
        self.assertIn("20 messages, 0 changed", self.moxtw(server, "reparse"))
        # They have no Message-ID.
        self.assertIn("20 messages in 20 threads", self.moxtw(server, "reassignthreads", "mjl"))
        out = self.moxtw(server, "recalculatemailboxcounts", "mjl")
        self.assertIn("total 7 becomes 20", out)
        self.assertIn("no account", self.refused(server, "recalculatemailboxcounts", "nobody"))
        server.stop()
        self.assertEqual(server.errors(), [])
        out = self.moxtw(server, "ensureparsed", "-all", "mjl")
        self.assertEqual(out, "20 messages looked at, 20 parsed, 0 changed\n")
        self.assertIn("UIDs of 20 messages", self.moxtw(server, "reassignuids", "mjl"))
        server.check()


def _uidvalidity(server: MailServer) -> Any:
    return server.edit_store(
        lambda tx: tx.raw("SELECT uidvalidity FROM mailboxes WHERE name = 'Inbox'").fetchone()
    )
