"""The junk filter of a running server: what IMAP clients do trains it."""

from __future__ import annotations

import imaplib
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.server import PASSWORD, ROOT, LiveCase, MailServer, expect_ok, poll

OPTIONS = {
    "RejectsMailbox": "Rejects",
    "AutomaticJunkFlags": {
        "Enabled": True,
        "JunkMailboxRegexp": "^(junk|spam)",
        "NeutralMailboxRegexp": "^(inbox|rejects)",
    },
    "JunkFilter": {
        "Threshold": 0.95,
        "Params": {
            "Onegrams": True,
            "MaxPower": 0.01,
            "TopWords": 10,
            "IgnoreWords": 0.1,
            "RareWords": 2,
        },
    },
}


class JunkTests(LiveCase):
    """One server, one client."""

    def setUp(self) -> None:
        super().setUp()
        self.server: MailServer = self.mail_server(account_options=OPTIONS)
        self.client = self.login()

    def login(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4(self.server.ip, self.server.ports.imap)
        self.addCleanup(client.shutdown)
        client.login("mjl@a.example", PASSWORD)
        client.select("Inbox")
        return client

    def append(self, text: str, mailbox: str = "Inbox", flags: str = "") -> None:
        data = f"Subject: note\r\n\r\n{text}\r\n".encode()
        expect_ok(self.client.append(mailbox, flags, "", data))

    def counted(self) -> tuple[int, int, dict[str, tuple[int, int]]]:
        """What the filter has counted: hams, spams, words."""
        database = sqlite3.connect(f"file:{self.server.data_dir}/moxtw.db?mode=ro", uri=True)
        try:
            row = database.execute(
                "SELECT id, ham, spam FROM junk_filters WHERE state IN (0, 3)"
            ).fetchone()
            if row is None:
                return 0, 0, {}
            words = database.execute(
                "SELECT word, ham, spam FROM junk_words WHERE filter_id = ?", row[:1]
            )
            return row[1], row[2], {word: (ham, spam) for word, ham, spam in words}
        finally:
            database.close()

    def until(self, ham: int, spam: int, **words: tuple[int, int]) -> None:
        """Wait until this has been counted, besides the word of all subjects."""
        subject = {"Subject:note": (ham, spam)} if ham or spam else {}
        expected: tuple[Any, ...] = (ham, spam, {**subject, **words})
        try:
            poll(lambda: self.counted() == expected, 10, "training")
        except TimeoutError:
            self.assertEqual(self.counted(), expected)

    def test_what_clients_do(self) -> None:
        """APPEND, STORE, MOVE, COPY and EXPUNGE."""
        client = self.client
        self.append("neutral")
        # Neutral mailboxes take junk flags from what comes there.
        self.append("alpha beta", flags="$Junk")
        self.append("alpha gamma", mailbox="Archive")
        self.until(1, 0, alpha=(1, 0), gamma=(1, 0))
        client.noop()
        expect_ok(client.store("2", "+FLAGS", "($Junk)"))
        self.until(1, 1, alpha=(1, 1), beta=(0, 1), gamma=(1, 0))
        expect_ok(client.store("2", "FLAGS", "($NotJunk)"))
        self.until(2, 0, alpha=(2, 0), beta=(1, 0), gamma=(1, 0))
        expect_ok(client.store("2", "-FLAGS", "($NotJunk)"))
        self.until(1, 0, alpha=(1, 0), gamma=(1, 0))
        expect_ok(client.copy("1:2", "Junk"))
        self.until(1, 2, alpha=(1, 1), beta=(0, 1), gamma=(1, 0), neutral=(0, 1))
        expect_ok(client.select("Junk"))
        expect_ok(client._simple_command("MOVE", "1:2", "Archive"))  # type: ignore[attr-defined]
        self.until(3, 0, alpha=(2, 0), beta=(1, 0), gamma=(1, 0), neutral=(1, 0))
        expect_ok(client.select("Archive"))
        expect_ok(client.store("1", "+FLAGS", "(\\Deleted)"))
        expect_ok(client.expunge())
        self.until(2, 0, alpha=(1, 0), beta=(1, 0), neutral=(1, 0))
        expect_ok(client.select("Inbox"))
        expect_ok(client.delete("Archive"))
        self.until(0, 0)
        self.finish(self.server)

    def test_killed_while_it_learns(self) -> None:
        """After any kill, all is learned, once."""
        for _ in range(3):
            for _ in range(20):
                self.append("common words", mailbox="Archive")
            self.server.kill()
            self.server.start()
            self.client = self.login()
        self.until(60, 0, common=(60, 0), words=(60, 0))
        self.finish(self.server)

    def test_retrain(self) -> None:
        """The command waits until all is trained; a wrong account is refused."""
        for _ in range(5):
            self.append("common words", mailbox="Archive")
        self.until(5, 0, common=(5, 0), words=(5, 0))

        def moxtw(*args: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "moxtw.cli.main", "-config",
                 str(self.server.config_path), *args],
                capture_output=True, text=True, cwd=Path(ROOT), timeout=60, check=False,
            )  # fmt: skip

        done = moxtw("retrain")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "mjl: done, trained with 5 messages\n")
        self.assertEqual(moxtw("retrain", "mjl").returncode, 0)
        self.until(5, 0, common=(5, 0), words=(5, 0))
        done = moxtw("retrain", "nobody")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no account 'nobody'", done.stderr)
        self.finish(self.server)
