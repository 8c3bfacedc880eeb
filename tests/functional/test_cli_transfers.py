"""Import and export by commands, against a server and without one."""

from __future__ import annotations

import mailbox as library
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.functional.test_account_http import make_mbox
from tests.functional.test_cli_commands import MOXTW, Case, environment
from tests.support.server import poll


class TransferTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.server = self.mail_server(accounts={"me": ["me@a.example"]})
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def file(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def subjects(self, found: Any) -> list[str]:
        return sorted(str(each["Subject"]) for each in found)

    def test_import_and_export(self) -> None:
        mbox = self.file("in.mbox", make_mbox(1200))
        out = self.good("import", "mbox", "me", "Old/Mail", mbox)
        self.assertIn("1000 messages\n", out)
        self.assertTrue(out.endswith("imported 1200 messages\n"), out)
        self.file("md/cur/5.1:2,Fa", b"Subject: m\n\nx\n")
        self.file("md/new/6.2", b"Subject: n\n\nx\n")
        self.file("md/dovecot-keywords", b"0 Label\n")
        self.file("md/tmp/7.3", b"Subject: o\n\nx\n")
        self.good("import", "maildir", "me", "Dir", self.directory / "md")

        exported = self.directory / "out"
        out = self.good("export", "mbox", exported, "me")
        self.assertIn("Old/Mail.mbox", out)
        want = [str(n) for n in range(1200)]
        self.assertEqual(
            self.subjects(library.mbox(str(exported / "Old" / "Mail.mbox"))), sorted(want)
        )
        self.assertTrue((exported / "Sent.mbox").exists())
        out = self.good("export", "maildir", "-single", self.directory / "one", "me", "Old/Mail")
        self.assertIn("1000 messages\nexported 1200 messages", out)
        made = library.Maildir(str(self.directory / "one" / "Mail"), create=False)
        self.assertEqual(self.subjects(made), sorted(want))
        (again,) = (
            path
            for path in (self.directory / "one" / "Mail" / "cur").iterdir()
            if b"Subject: 7\n" in path.read_bytes()
        )
        self.assertTrue(again.name.endswith(":2,Sg"), again)

        for args in [
            ("import", "mbox", "you", "x", mbox),
            ("import", "mbox", "me", "x", self.directory / "none"),
            ("import", "maildir", "me", "x", self.directory),
            ("export", "mbox", exported, "me"),  # the files are there
            ("export", "mbox", self.directory / "a", "me", "none"),
            ("export", "mbox", self.directory / "a", self.directory / "me"),
        ]:
            code, out, err = self.moxtw(*args)
            self.assertEqual((code, out), (1, ""), (args, err))
            self.assertNotIn("Traceback", err)
        self.assertEqual(self.moxtw("export", "mbox", "-single", exported, "me")[0], 2)

        imap = self.server.imap("me")
        imap.select("Dir")
        self.assertEqual(imap.search(None, "FLAGGED", "KEYWORD", "label")[1], [b"1"])
        imap.logout()
        self.finish(self.server)
        # Without a server the database is opened.
        path = self.server.data_dir / "accounts" / "me"
        out = self.good("export", "maildir", self.directory / "off", path, "Old")
        self.assertIn("exported 1200 messages", out)
        self.assertEqual(len(os.listdir(self.directory / "off" / "Old" / "Mail" / "cur")), 1200)
        self.assertEqual(self.moxtw("export", "mbox", self.directory / "b", "you")[0], 1)

    def test_an_import_goes_on_after_a_crash(self) -> None:
        mbox = self.file("in.mbox", make_mbox(3000))
        command = [*MOXTW, "-config", str(self.server.config_path), "import", "mbox", "me", "Big"]
        process = subprocess.Popen(
            [*command, str(mbox)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )

        def some() -> bool:
            imap = self.server.imap("me")
            try:
                status, found = imap.select("Big")
                return status == "OK" and int(found[0] or b"0") >= 200
            finally:
                imap.logout()

        poll(some, 30, "messages")
        self.server.kill()
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.server.start()
        out = self.good("import", "mbox", "me", "Big", mbox)
        self.assertIn("going on after", out)
        self.assertTrue(out.endswith("imported 3000 messages\n"), out)
        imap = self.server.imap("me")
        self.assertEqual(imap.select("Big"), ("OK", [b"3000"]))
        imap.logout()
        self.finish(self.server)
