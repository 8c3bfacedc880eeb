"""Other programs on a mailbox of 5,000 messages; connections that are cut in between."""

import email
import mailbox
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.imapload import IMAPLoad
from tests.support.peers import curl, need, run, run_on_terminal
from tests.support.relay import Relay
from tests.support.server import PASSWORD, ZONE, LiveCase, MailServer, expect_ok

USER = "mjl@a.example"
COUNT = 5000

SEEN, FLAGGED, DELETED = 1, 4, 8

MESSAGE = (
    b"From: <x%(n)d@b.example>\r\nTo: <mjl@a.example>\r\nSubject: number %(n)d\r\n"
    b"Date: Tue, 2 Jun 2026 10:00:00 +0000\r\nMessage-ID: <%(n)d@b.example>\r\n"
    b"\r\ntext of number %(n)d\r\nFrom the start\r\n.\r\n"
)

_LINE = re.compile(rb"\* (\d+) FETCH \((.*?)\}?\r?\n?$")
_NAME = re.compile(rb"(?im)^Subject: number (\d+)")


def message(number):
    return MESSAGE % {b"n": number}


class ManyCase(LiveCase):
    """A server with so many messages; number n is seen if n % 2, flagged if n % 10 is 0."""

    def setUp(self):
        super().setUp()
        server = MailServer(
            self.mktemp(),
            accounts={"mjl": [USER]},
            resolver=self.name_server(ZONE).address,
            log_level="info",
        )
        server.fill(
            map(message, range(COUNT)),
            flags=lambda n: (SEEN if n % 2 else 0) | (0 if n % 10 else FLAGGED),
            received=lambda n: (1_780_000_000 + n) * 1_000_000,
        )
        self.server = self.start(server)
        self.relay = Relay(server.ip, server.ports.imap)
        self.addCleanup(self.relay.stop)
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    def far(self, name="INBOX"):
        """How many there are of each number in a mailbox, and the flags of each."""
        client = self.server.imap()
        if expect_ok(client.select(f'"{name}"', readonly=True)) == [b"0"]:
            return Counter(), {}
        data = expect_ok(client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
        client.logout()
        count, flags = Counter(), {}
        for item in data:
            if isinstance(item, tuple):
                number = int(_NAME.search(item[1])[1])
                count[number] += 1
                found = item[0].partition(b"FLAGS (")[2].partition(b")")[0].split()
                flags[number] = "".join(
                    sorted(flag[1:2].decode() for flag in found if flag[:1] == b"\\")
                )
        return count, flags

    def change_far(self):
        """As another client: flag each 7th, remove each 11th, add 100."""
        session = IMAPLoad(self.server.ip, self.server.ports.imap, USER, PASSWORD)
        self.addCleanup(session.close)
        session.command(b"SELECT INBOX")

        def numbers(step):
            return b",".join(b"%d" % (n + 1) for n in range(0, COUNT, step))

        session.command(rb"STORE %b +FLAGS.SILENT (\Answered)" % numbers(7))
        session.command(rb"STORE %b +FLAGS.SILENT (\Deleted)" % numbers(11))
        session.command(b"EXPUNGE")
        session.append(b"INBOX", map(message, range(COUNT, COUNT + 100)))

    def expected(self):
        """Flags of each number after `change_far` and `change_near`."""
        found = {}
        for n in range(COUNT):
            if n % 11 and n % 13:
                flagged = n % 10 == 0 or n % 17 == 0
                found[n] = "A" * (n % 7 == 0) + "F" * flagged + "S" * (n % 2)
        return found | dict.fromkeys(range(COUNT, COUNT + 200), "")

    # A Maildir here.

    def near(self, path):
        """As `far`, of a Maildir."""
        count, flags = Counter(), {}
        for folder in ("cur", "new"):
            for file in (path / folder).iterdir():
                number = int(_NAME.search(file.read_bytes())[1])
                count[number] += 1
                flags[number] = "".join(
                    sorted(
                        {"R": "A"}.get(flag, flag) for flag in file.name.partition(":2,")[2]
                    )
                )
        return count, flags

    def change_near(self, path):
        """Remove each 13th, flag each 17th, add 100."""
        for folder in ("cur", "new"):
            for file in (path / folder).iterdir():
                number = int(_NAME.search(file.read_bytes())[1])
                base, _, flags = file.name.partition(":2,")
                if number % 13 == 0:
                    file.unlink()
                elif number % 17 == 0:
                    flags = "".join(sorted({*flags, "F"}))
                    file.rename(path / "cur" / f"{base}:2,{flags}")
        for number in range(COUNT + 100, COUNT + 200):
            data = message(number).replace(b"\r\n", b"\n")
            (path / "new" / f"1.{number}.here").write_bytes(data)

    def same(self, path, expected):
        """Each message is there once, here and there, with its flags."""
        for count, flags in (self.far(), self.near(path)):
            self.assertEqual(count, Counter(expected.keys()))
            self.assertEqual(
                {n: (flags[n], expected[n]) for n in expected if flags[n] != expected[n]}, {}
            )


MBSYNC = """
FSync no

IMAPAccount a
Host 127.0.0.1
Port {port}
User {user}
Pass "{password}"
SSLType None
{more}

IMAPStore far
Account a

MaildirStore near
Path {home}/
Inbox {home}/INBOX

Channel all
Far :far:
Near :near:
Create Both
Expunge Both
SyncState *
Sync All
"""


class MbsyncTests(ManyCase):
    def setUp(self):
        need("mbsync")
        super().setUp()
        self.config = self.home / "mbsyncrc"
        self.configure("")

    def configure(self, more):
        self.config.write_text(
            MBSYNC.format(
                port=self.relay.port, user=USER, password=PASSWORD, home=self.home, more=more
            )
        )

    def sync(self, *, cut=False):
        cuts = self.relay.cuts
        run(
            ["mbsync", "-c", self.config, "all"],
            env={"HOME": str(self.home)},
            status=1 if cut else 0,
        )
        self.assertEqual(self.relay.cuts, cuts + cut)

    def test_cut_connections(self):
        box = self.home / "INBOX"
        self.relay.cut(to_client=60_000)
        self.sync(cut=True)
        self.sync()
        self.assertEqual(self.near(box), self.far())
        self.change_far()
        self.change_near(box)
        expected = self.expected()
        # Not compressed, so that what has gone by then does not depend on how that is done.
        self.configure("DisableExtension COMPRESS=DEFLATE")
        # While flags are written, while messages go up, and while answers come.
        for cut in ({"to_server": 3000}, {"to_server": 25_000}, {"to_client": 190_000}):
            self.relay.cut(**cut)
            self.sync(cut=True)
        self.sync()
        self.same(box, expected)
        self.sync()
        self.same(box, expected)
        self.finish(self.server)


OFFLINEIMAP = """
[general]
accounts = a
metadata = {metadata}
ui = quiet
fsync = no
socktimeout = 30
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {home}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = {user}
remotepass = {password}
ssl = no
starttls = no
auth_mechanisms = CRAM-MD5
maxconnections = 1
usecompression = no
folderfilter = lambda name: name.upper() == 'INBOX'
"""


class OfflineIMAPTests(ManyCase):
    def setUp(self):
        need("offlineimap")
        super().setUp()
        # It waits for the disk after each message, unless there is none below.
        memory = "/dev/shm"
        metadata = tempfile.mkdtemp(
            prefix="moxtw-offlineimap.", dir=memory if os.access(memory, os.W_OK) else self.home
        )
        self.addCleanup(shutil.rmtree, metadata)
        self.config = self.home / "offlineimaprc"
        self.config.write_text(
            OFFLINEIMAP.format(
                port=self.relay.port,
                user=USER,
                password=PASSWORD,
                home=self.home,
                metadata=metadata,
            )
        )

    def sync(self, *, cut=False):
        return run(
            ["offlineimap", "-c", self.config, "-o"],
            env={"HOME": str(self.home), "LC_ALL": "C.UTF-8"},
            status=None if cut else 0,
            seconds=90,
        )

    def test_cut_connections(self):
        box = self.home / "mail" / "Inbox"
        self.relay.cut(to_client=500_000)
        # It tries again by itself.
        self.sync(cut=True)
        self.assertEqual(self.relay.cuts, 1)
        self.sync()
        self.assertEqual(self.near(box), self.far())
        self.change_far()
        self.change_near(box)
        # Not cut while messages go up: it cannot know then whether one arrived, and adds it again.
        self.sync()
        self.same(box, self.expected())
        self.finish(self.server)


NEOMUTT = """
set imap_user="{user}" imap_pass="{password}" imap_authenticators="plain"
set folder="imap://127.0.0.1:{port}/" spoolfile="imap://127.0.0.1:{port}/INBOX"
set ssl_starttls=no ssl_force_tls=no
set sleep_time=0 wait_key=no confirmappend=no confirmcreate=no beep=no
set move=no delete=yes mark_old=no imap_passive=no quit=yes
set header_cache="{home}/cache" message_cachedir="{home}/bodies"
set mbox_type=Maildir
"""


class NeomuttTests(ManyCase):
    def test_tagged(self):
        need("neomutt")
        config = self.home / "neomuttrc"
        config.write_text(
            NEOMUTT.format(
                port=self.relay.port, user=USER, password=PASSWORD, home=self.home
            )
        )

        def keys(text):
            run_on_terminal(
                ["neomutt", "-n", "-F", config, "-f", "=INBOX", "-e", f'push "{text}<quit>"'],
                env={"HOME": str(self.home), "LC_ALL": "C.UTF-8"},
            )

        def tag(pattern):
            return f"<tag-pattern>{pattern}<enter><tag-prefix>"

        keys(
            tag("~s 7$") + "<save-message><kill-line>=Archive<enter>"
            + "<untag-pattern>~A<enter>" + tag("~s 3$") + "<flag-message>"
            + "<untag-pattern>~A<enter>" + tag("~s 9$") + "<delete-message><sync-mailbox>"
        )
        moved = [n for n in range(COUNT) if n % 10 == 7]
        self.assertEqual(self.far("Archive")[0], Counter(moved))
        count, flags = self.far()
        rest = [n for n in range(COUNT) if n % 10 not in (7, 9)]
        self.assertEqual(count, Counter(rest))
        marked = [n for n in rest if "F" in flags[n]]
        self.assertEqual(marked, [n for n in rest if n % 10 in (0, 3)])
        # Changed by another client, with what the program keeps of the mailbox (QRESYNC).
        self.change_far_again()
        copy = self.home / "copy"
        keys(tag("~m 3500-3700") + f"<copy-message><kill-line>{copy}<enter>")
        box = mailbox.Maildir(copy, create=False)
        found = Counter(int(_NAME.search(box.get_bytes(key))[1]) for key in box.iterkeys())
        self.assertEqual(found, Counter(list(self.far()[0])[3499:]))
        self.assertEqual(len(found), 101)
        self.finish(self.server)

    def change_far_again(self):
        with IMAPLoad(self.server.ip, self.server.ports.imap, USER, PASSWORD) as session:
            session.command(b"SELECT INBOX")
            session.command(rb"STORE 1:500 +FLAGS.SILENT (\Deleted)")
            session.command(b"EXPUNGE")
            session.append(b"INBOX", map(message, range(COUNT, COUNT + 100)))


class CurlTests(ManyCase):
    def test_whole_mailbox(self):
        need("curl")
        url = f"imap://127.0.0.1:{self.relay.port}/"

        def ask(path="INBOX", command=None):
            more = () if command is None else ("-X", command)
            return curl(f"{url}{path}", "--user", f"{USER}:{PASSWORD}", *more)

        # One by one, in one session; they are seen then.
        got = ask("INBOX;UID=[2001-3000]")
        self.assertEqual(got, b"".join(map(message, range(2000, 3000))))
        # It does not take much more of responses at once.
        found = ask(command="FETCH 2300:2319 (UID FLAGS RFC822.SIZE ENVELOPE)").splitlines()
        self.assertEqual(len(found), 20)
        for n, line in enumerate(found, 2299):
            self.assertIn(b'"number %d"' % n, line)
            self.assertIn(b"RFC822.SIZE %d " % len(message(n)), line)
        data = ask(command="SEARCH SEEN FLAGGED").replace(b"* SEARCH", b"")
        self.assertEqual([int(n) for n in data.split()], list(range(2001, 3001, 10)))
        data = ask(command="UID SEARCH FLAGGED 1:*").replace(b"* SEARCH", b"")
        self.assertEqual(len(data.split()), COUNT // 10)
        self.assertEqual(ask("INBOX;UID=4321"), message(4320))
        ask(command="STORE 1:* +FLAGS.SILENT ($Many)")
        ask(command="UID COPY 1:* Archive")
        ask(command="UID MOVE 1:100 Trash")
        self.assertIn(b"MESSAGES 4900", ask("", command="STATUS INBOX (MESSAGES)"))
        self.assertEqual(self.far("Archive")[0], Counter(range(COUNT)))
        self.assertEqual(self.far("Trash")[0], Counter(range(100)))
        self.finish(self.server)


class ImaplibTests(ManyCase):
    def test_whole_mailbox(self):
        client = self.server.imap()
        other = self.server.imap()
        self.assertEqual(expect_ok(client.select("INBOX")), [b"%d" % COUNT])
        expect_ok(other.select("INBOX"))
        data = expect_ok(client.fetch("1:*", "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[])"))
        parts = [item for item in data if isinstance(item, tuple)]
        self.assertEqual([part[1] for part in parts], [message(n) for n in range(COUNT)])
        for n in (0, 2500, COUNT - 1):
            parsed = email.message_from_bytes(parts[n][1])
            self.assertEqual(parsed["Subject"], f"number {n}")
        data = expect_ok(client.store("1:*", "+FLAGS", r"(\Draft $Work)"))
        self.assertEqual(len(data), COUNT)
        expect_ok(client.copy("1:*", "Archive"))
        expect_ok(client.uid("STORE", "1:*", "-FLAGS.SILENT", r"(\Draft)"))
        even = ",".join(str(n) for n in range(2, COUNT + 1, 2))
        expect_ok(client.store(even, "+FLAGS.SILENT", r"(\Deleted)"))
        gone = expect_ok(client.expunge())
        self.assertEqual(len(gone), COUNT // 2)
        (found,) = expect_ok(client.search(None, "KEYWORD", "$Work", "NOT", "DRAFT"))
        self.assertEqual(found.split(), [b"%d" % n for n in range(1, COUNT // 2 + 1)])
        # The other session hears of all that.
        expect_ok(other.noop())
        self.assertEqual(len(other.response("EXPUNGE")[1]), COUNT // 2)
        (found,) = expect_ok(other.uid("SEARCH", "ALL"))
        self.assertEqual(found.split(), [b"%d" % n for n in range(1, COUNT + 1, 2)])
        expect_ok(other.uid("MOVE", "1:*", "Trash"))
        expect_ok(client.noop())
        self.assertEqual(expect_ok(client.search(None, "ALL")), [b""])
        count, flags = self.far("Archive")
        self.assertEqual(count, Counter(range(COUNT)))
        self.assertTrue(all("D" in found for found in flags.values()))
        self.assertEqual(self.far("Trash")[0], Counter(range(0, COUNT, 2)))
        client.logout()
        other.logout()
        self.finish(self.server)
