"""mbsync (isync) keeps a Maildir and the server the same, in both directions."""

import os
import time
from pathlib import Path

from tests.support.peers import need, run
from tests.support.server import PASSWORD, LiveCase, expect_ok

USER = "mjl@a.example"

CONFIG = """
IMAPAccount a
Host localhost
Port {port}
User {user}
Pass "{password}"
SSLType {tls}
CertificateFile {certificate}

IMAPStore far
Account a

MaildirStore near
Path {path}/
Inbox {path}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Remove Both
SyncState *
Sync All
"""

MESSAGE = (
    b"From: <x@b.example>\nTo: <mjl@a.example>\nSubject: %(name)s\n"
    b"Message-ID: <%(name)s@b.example>\n\ntext of %(name)s\nFrom the start\n.\n"
)


def message(name):
    return MESSAGE % {b"name": name.encode()}


class MbsyncTests(LiveCase):
    def setUp(self):
        need("mbsync")
        super().setUp()

    def sync_with(self, server, tls, port):
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.config = self.path / "mbsyncrc"
        self.config.write_text(
            CONFIG.format(
                port=port,
                user=USER,
                password=PASSWORD,
                tls=tls,
                certificate=server.certificate,
                path=self.path,
            )
        )

    def sync(self):
        return run(["mbsync", "-c", self.config, "-a"], env={"HOME": str(self.path)}).stdout

    def near(self, mailbox="INBOX"):
        """Subjects and Maildir flags of what mbsync keeps here."""
        found = {}
        for folder in ("cur", "new"):
            for path in (self.path / mailbox / folder).glob("*"):
                name = path.read_bytes().partition(b"\nSubject: ")[2].split(b"\n")[0].decode()
                found[name] = (path, path.name.partition(":2,")[2])
        return found

    def near_flags(self, mailbox="INBOX"):
        return {name: flags for name, (_, flags) in self.near(mailbox).items()}

    def far_flags(self, server, mailbox="INBOX"):
        client = server.imap()
        if expect_ok(client.select(mailbox, readonly=True)) == [b"0"]:
            return {}
        data = expect_ok(client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
        client.logout()
        found = {}
        for item in data:
            if isinstance(item, tuple):
                flags = item[0].partition(b"FLAGS (")[2].partition(b")")[0].split()
                found[item[1].strip().removeprefix(b"Subject: ").decode()] = "".join(
                    sorted(flag.decode().lstrip("\\")[0] for flag in flags if flag[:1] == b"\\")
                )
        return found

    def test_two_way(self):
        server = self.mail_server()
        for tls, port in (("IMAPS", server.ports.imaps), ("STARTTLS", server.ports.imap)):
            self.sync_with(server, tls, port)
            self.two_way(server, tls.lower())
        self.finish(server)

    def two_way(self, server, prefix):
        client = server.imap()
        expect_ok(client.select("INBOX"))
        if self.far_flags(server):
            expect_ok(client.store("1:*", "+FLAGS.SILENT", r"(\Deleted)"))
            expect_ok(client.expunge())
        one, two, three, four = (f"{prefix}.{name}" for name in ("one", "two", "three", "four"))
        for name, flags in ((one, r"(\Seen)"), (two, ""), (three, "")):
            data = message(name).replace(b"\n", b"\r\n")
            expect_ok(client.append("INBOX", flags, time.time(), data))
        expect_ok(client.create(f"{prefix}-far"))
        self.sync()
        self.assertEqual(self.near_flags(), {one: "S", two: "", three: ""})
        text = self.near()[two][0].read_bytes()
        head, _, body = message(two).partition(b"\n\n")
        self.assertTrue(text.startswith(head) and text.endswith(b"\n\n" + body), text)
        self.assertTrue((self.path / f"{prefix}-far").is_dir())

        # Here: flags, a removal, a new message, a new mailbox.
        path, _ = self.near()[one]
        path.rename(path.parent.parent / "cur" / (path.name.partition(":2,")[0] + ":2,FRS"))
        path, _ = self.near()[two]
        path.rename(path.parent.parent / "cur" / (path.name.partition(":2,")[0] + ":2,ST"))
        new = self.path / "INBOX" / "cur" / f"1.{os.getpid()}.{prefix}:2,S"
        new.write_bytes(message(four))
        for folder in ("cur", "new", "tmp"):
            (self.path / f"{prefix}-near" / folder).mkdir(parents=True)
        (self.path / f"{prefix}-near" / "new" / "1.1.x").write_bytes(message("inside"))
        # There: a flag.
        (uid,) = expect_ok(client.uid("SEARCH", "SUBJECT", three))
        expect_ok(client.uid("STORE", uid, "+FLAGS.SILENT", r"(\Flagged)"))
        self.sync()
        expected = {one: "AFS", three: "F", four: "S"}
        self.assertEqual(self.far_flags(server), expected)
        self.assertEqual(self.near_flags(), {one: "FRS", three: "F", four: "S"})
        self.assertEqual(self.far_flags(server, f"{prefix}-near"), {"inside": ""})
        (got,) = (data for data in server.messages() if f"<{four}@".encode() in data)
        self.assertTrue(got.endswith(b"\r\nFrom the start\r\n.\r\n"))

        # There: a removal, and a mailbox goes.
        expect_ok(client.noop())
        (uid,) = expect_ok(client.uid("SEARCH", "SUBJECT", one))
        expect_ok(client.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)"))
        expect_ok(client.expunge())
        expect_ok(client.delete(f"{prefix}-far"))
        client.logout()
        self.sync()
        self.assertEqual(self.near_flags(), {three: "F", four: "S"})
        self.assertFalse((self.path / f"{prefix}-far" / "cur").exists())
        before = self.near()
        self.sync()
        self.assertEqual(self.near(), before)
        self.assertEqual(self.far_flags(server), {three: "F", four: "S"})
