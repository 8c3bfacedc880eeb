"""Clients with a mailbox of 5,000 messages: in full, in sync, and with a connection cut."""

import imaplib
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.interop.test_mbsync import CONFIG as MBSYNC
from tests.support.imapload import IMAPLoad, messages
from tests.support.peers import curl, need, run, run_on_terminal
from tests.support.server import PASSWORD, LiveCase, expect_ok

USER = "mjl@a.example"
COUNT = 5000
SIZE = 1500

OFFLINEIMAP = """
[general]
accounts = a
metadata = {home}/metadata
ui = quiet
fsync = False

[Account a]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {home}/mail

[Repository far]
type = IMAP
remotehost = localhost
remoteport = {port}
remoteuser = {user}
remotepass = {password}
# It wants the name in another place of a certificate than it is today.
ssl = no
starttls = no
auth_mechanisms = PLAIN
folderfilter = lambda name: name == 'INBOX' or name == 'Inbox'
"""

NEOMUTT = """
set from="{user}" imap_user="{user}" imap_pass="{password}"
set folder="imaps://localhost:{port}/" spoolfile="imaps://localhost:{port}/INBOX"
set certificate_file="{certificate}" ssl_force_tls imap_authenticators="plain"
set sleep_time=0 wait_key=no beep=no move=no delete=yes mark_old=no quit=yes
set header_cache="{home}/cache" charset="utf-8" confirmappend=no confirmcreate=no
"""


class LargeTests(LiveCase):
    def fill(self, server, count=COUNT):
        with IMAPLoad(server.ip, server.ports.imap, USER, PASSWORD) as client:
            client.append(b"INBOX", messages(count, SIZE))

    def home(self):
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        return path

    def far(self, server, mailbox="INBOX"):
        """Message-IDs in order with their flags."""
        client = server.imap()
        if expect_ok(client.select(mailbox, readonly=True)) == [b"0"]:
            return []
        items = "(FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"
        found = []
        for item in expect_ok(client.fetch("1:*", items)):
            if isinstance(item, tuple):
                flags = item[0].partition(b"FLAGS (")[2].partition(b")")[0].split()
                shown = "".join(sorted(f.decode()[1] for f in flags if f[:1] == b"\\"))
                found.append((item[1].strip().partition(b": ")[2].decode(), shown))
        client.logout()
        return found

    def near(self, path):
        """Message-IDs with Maildir flags, sorted, and the files."""
        found = {}
        for folder in ("cur", "new"):
            for file in (path / folder).iterdir():
                head = file.read_bytes().partition(b"\n\n")[0].replace(b"\r", b"")
                name = head.lower().partition(b"\nmessage-id:")[2].split(b"\n")[0].strip()
                self.assertNotIn(name, found, "a message is here twice")
                found[name.decode()] = (file.name.partition(":2,")[2], file)
        return found

    def same(self, server, path):
        far = self.far(server)
        names = [name.lower() for name, _ in far]
        self.assertEqual(len(set(names)), len(names), "a message is there twice")
        near = {name: flags for name, (flags, _) in self.near(path).items()}
        self.assertEqual(
            {name.lower(): flags.replace("A", "R") for name, flags in far},
            {name: "".join(sorted(flags)) for name, flags in near.items()},
        )

    def flag(self, file, flags):
        file.rename(file.parent.parent / "cur" / (file.name.partition(":2,")[0] + ":2," + flags))

    def test_mbsync(self):
        need("mbsync")
        server = self.mail_server(log_level="info")
        self.fill(server)
        home = self.home()
        config = home / "mbsyncrc"
        config.write_text(
            MBSYNC.format(
                port=server.ports.imaps,
                user=USER,
                password=PASSWORD,
                tls="IMAPS",
                certificate=server.certificate,
                path=home,
            ).replace("Patterns *", "Patterns INBOX")
        )
        command = ["mbsync", "-c", str(config), "-a"]
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        run(command, env=environment, seconds=60)
        inbox = home / "INBOX"
        self.assertEqual(len(self.near(inbox)), COUNT)
        self.same(server, inbox)

        # Changes on both sides; then the client is killed again and again at its work.
        files = sorted(self.near(inbox).values(), key=lambda entry: entry[1].name)
        for number, (flags, file) in enumerate(files[:1500]):
            if number % 5 == 0:
                file.unlink()
            else:
                self.flag(file, "".join(sorted(set(flags) | {"F", "S"})))
        for number in range(400):
            new = inbox / "cur" / f"{number}.{os.getpid()}.new:2,S"
            new.write_bytes(
                b"From: <x@b.example>\nSubject: new %d\nMessage-ID: <new%d@b.example>\n\ntext\n"
                % (number, number)
            )
        client = server.imap()
        expect_ok(client.select("INBOX"))
        expect_ok(client.store("3001:3500", "+FLAGS.SILENT", r"(\Answered)"))
        expect_ok(client.store("4001:4300", "+FLAGS.SILENT", r"(\Deleted)"))
        expect_ok(client.expunge())
        client.logout()
        killed = 0
        for wait in (0.15, 0.3, 0.5, 0.8):
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
        self.assertGreater(killed, 0)
        run(command, env=environment, seconds=60)
        run(command, env=environment, seconds=60)
        self.assertEqual(len(self.near(inbox)), COUNT - 300 - 300 + 400)
        self.same(server, inbox)
        self.finish(server)

    def test_offlineimap(self):
        need("offlineimap")
        server = self.mail_server(log_level="info")
        self.fill(server)
        home = self.home()
        config = home / "offlineimaprc"
        config.write_text(
            OFFLINEIMAP.format(
                home=home,
                port=server.ports.imap,
                user=USER,
                password=PASSWORD,
            )
        )
        command = ["offlineimap", "-o", "-c", str(config)]
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        run(command, env=environment, seconds=120)
        [inbox] = [path for path in (home / "mail").iterdir() if (path / "cur").is_dir()]
        self.assertEqual(len(self.near(inbox)), COUNT)
        self.same(server, inbox)
        files = sorted(self.near(inbox).values(), key=lambda entry: entry[1].name)
        for number, (flags, file) in enumerate(files[:600]):
            if number % 3 == 0:
                file.unlink()
            else:
                self.flag(file, "".join(sorted(set(flags) | {"F"})))
        client = server.imap()
        expect_ok(client.select("INBOX"))
        expect_ok(client.store("3001:3100", "+FLAGS.SILENT", r"(\Answered)"))
        expect_ok(client.store("4001:4050", "+FLAGS.SILENT", r"(\Deleted)"))
        expect_ok(client.expunge())
        client.logout()
        run(command, env=environment, seconds=120)
        run(command, env=environment, seconds=120)
        self.assertEqual(len(self.near(inbox)), COUNT - 200 - 50)
        self.same(server, inbox)
        self.finish(server)

    def test_neomutt(self):
        need("neomutt")
        server = self.mail_server(log_level="info")
        self.fill(server)
        home = self.home()
        config = home / "neomuttrc"
        config.write_text(
            NEOMUTT.format(
                user=USER,
                password=PASSWORD,
                port=server.ports.imaps,
                certificate=server.certificate,
                home=home,
            )
        )
        environment = {"HOME": str(home), "LC_ALL": "C.UTF-8"}
        keys = (
            "<delete-pattern>~m 1-1000<enter>"
            "<tag-pattern>~m 2001-2500<enter><tag-prefix><flag-message>"
            "<untag-pattern>~A<enter><sync-mailbox>"
        )
        for wanted in (keys, "<tag-pattern>~F<enter><tag-prefix><save-message><kill-line>"
                       "=Archive<enter><sync-mailbox>"):  # fmt: skip
            run_on_terminal(
                ["neomutt", "-n", "-F", config, "-e", f'push "{wanted}<quit>"'],
                env=environment,
            )
        flags = [flags for _, flags in self.far(server)]
        self.assertEqual(len(flags), COUNT - 1000 - 500)
        self.assertFalse([each for each in flags if "F" in each])
        self.assertEqual(len(self.far(server, "Archive")), 500)
        self.finish(server)

    def test_curl(self):
        need("curl")
        server = self.mail_server(log_level="info")
        self.fill(server)

        def ask(path, *args):
            return curl(
                *(f"imaps://localhost:{server.ports.imaps}/{path}", "--user"),
                *(f"{USER}:{PASSWORD}", *args),
                certificate=server.certificate,
            )

        # curl counts all that it has read once more for each line, and gives up at 300 KB.
        lines = ask("INBOX", "-X", f"FETCH {COUNT - 99}:* (UID FLAGS)").splitlines()
        self.assertEqual(sum(b" FETCH (UID " in line for line in lines), 100)
        self.assertIn(b"* SEARCH", ask("INBOX?SUBJECT%20%22meeting%2077%22"))
        ask("INBOX", "-X", r"STORE 1:2500 +FLAGS.SILENT (\Seen)")
        found = ask("INBOX?UNSEEN").split()
        self.assertEqual(len(found) - 2, COUNT - 2500)
        first, last = ask("INBOX;MAILINDEX=1"), ask(f"INBOX;UID={COUNT}")
        self.assertNotEqual(first, last)
        self.assertTrue(SIZE * 0.9 < len(last) < SIZE * 1.1, len(last))
        self.finish(server)

    def test_imaplib(self):
        server = self.mail_server(log_level="info")
        self.fill(server)
        client = imaplib.IMAP4(server.ip, server.ports.imap, 60)
        client.login(USER, PASSWORD)
        self.assertEqual(expect_ok(client.select("INBOX")), [b"%d" % COUNT])
        self.assertEqual(len(expect_ok(client.fetch("1:*", "(FLAGS UID)"))), COUNT)
        self.assertEqual(len(expect_ok(client.fetch("1:*", "(ENVELOPE BODYSTRUCTURE)"))), COUNT)
        data = expect_ok(client.fetch("1:*", "(BODY.PEEK[])"))
        bodies = [item[1] for item in data if isinstance(item, tuple)]
        self.assertEqual(len(set(bodies)), COUNT)
        expect_ok(client.store("1:*", "+FLAGS", r"(\Flagged)"))
        self.assertEqual(len(expect_ok(client.search(None, "FLAGGED"))[0].split()), COUNT)
        expect_ok(client.create("Copy"))
        expect_ok(client.copy("1:*", "Copy"))
        self.assertEqual(
            expect_ok(client.status("Copy", "(MESSAGES)")), [b"Copy (MESSAGES %d)" % COUNT]
        )
        odd = ",".join(str(number) for number in range(1, COUNT, 2))
        expect_ok(client.uid("STORE", odd, "+FLAGS.SILENT", r"(\Deleted)"))
        self.assertEqual(len(expect_ok(client.expunge())), COUNT // 2)
        begun = time.monotonic()
        self.assertEqual(
            expect_ok(client.uid("SEARCH", None, "ALL"))[0].split(),
            [b"%d" % number for number in range(2, COUNT + 1, 2)],
        )
        self.assertLess(time.monotonic() - begun, 30)
        expect_ok(client.select("Copy"))
        copies = [item[1] for item in expect_ok(client.fetch("1:*", "(BODY.PEEK[])")) if item[1:]]
        self.assertEqual(bodies, [item for item in copies if isinstance(item, bytes)])
        client.logout()
        self.finish(server)
