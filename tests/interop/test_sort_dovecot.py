"""SORT and THREAD beside Dovecot's, on the same messages."""

import imaplib
import random
import re

from tests.support.imapload import IMAPLoad
from tests.support.peers import Dovecot, need
from tests.support.server import PASSWORD, LiveCase, expect_ok

USER = "mjl@a.example"
SORTS = (
    *("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"),
    *("REVERSE SUBJECT", "REVERSE DATE", "SUBJECT REVERSE DATE", "FROM REVERSE SUBJECT SIZE"),
)
THREADS = ("ORDEREDSUBJECT", "REFERENCES", "REFS")
SUBJECTS = (
    *("", "a", "b", "B", "Re: a", "re: B", "RE: Fwd: a", "Fw: b", "[list] a"),
    *("Re: [list] b", "[x]", "a (fwd)", "[Fwd: b]", "Re[3]: c", "=?utf-8?q?=C3=84?=", "c  c"),
    *("=?utf-8?q?=C3=A4?=", "C c", "=?iso-8859-1?q?Re:_=E4?=", "=?utf-8?b?YQ==?= b"),
    *("_", "z", "Re:", "Re: (fwd)"),
    "[y] Re: [z] d",
)
ADDRESSES = (
    *("", "ann@x.org", "Bob <bob@x.org>", '"bob" <zoe@x.org>', "ANN@y.org", "<carl@x.org>"),
    *("=?utf-8?q?=C3=84nne?= <d@x.org>", "=?utf-8?q?=C3=A4nne?= <e@x.org>", "aMy@x.org, b@x.org"),
    *('"Smith, J." <j@x.org>', "Zoe (comment) <f@x.org>", "g@x.org (Gil)", "Friends: ann@x.org;"),
)


EXTENDED = (
    b"SORT RETURN () (SUBJECT) UTF-8 ALL",
    b"UID SORT RETURN (MIN MAX COUNT) (REVERSE FROM) UTF-8 ALL",
    b"SORT RETURN (COUNT ALL) (DATE) US-ASCII 3:9",
    b"SEARCH RETURN (PARTIAL 2:5) ALL",
    b"SEARCH RETURN (UPDATE) SEEN",
    b"SEARCH RETURN (UPDATE COUNT) UNSEEN",
    b"UID SEARCH RETURN (UPDATE ALL) OR FLAGGED 3:*",
    rb"STORE 2,4:5 +FLAGS (\Seen)",
    rb"STORE 2 -FLAGS.SILENT (\Seen)",
    rb"UID STORE 1 +FLAGS (\Flagged)",
    rb"UID STORE 4 +FLAGS (\Deleted)",
    b"EXPUNGE",
    b'CANCELUPDATE "t8"',
    rb"UID STORE 6 +FLAGS (\Seen)",
    b"NOOP",
)


def _message(rng: random.Random, number: int, dated: bool) -> bytes:
    lines = []

    def header(name: str, value: str) -> None:
        if value:
            lines.append(f"{name}: {value}")

    header("Subject", rng.choice(SUBJECTS))
    for name in ("From", "To", "Cc"):
        header(name, rng.choice(ADDRESSES))
    if dated or rng.random() < 0.9:
        day, hour = rng.randint(1, 28), rng.randint(0, 23)
        zone = rng.choice(("+0000", "+0200", "-0500", "+0530"))
        header("Date", f"{day} Nov 2025 {hour:02}:{number % 60:02}:00 {zone}")
    if rng.random() < 0.95:
        # Some have the id of another one.
        own = number if rng.random() < 0.97 else rng.randint(0, number)
        header("Message-ID", rng.choice((f"<{own}@x>", f"<{own}@x>", f'<"{own}"@x>')))
    links = sorted(rng.randint(0, 130) for _ in range(rng.choice((0, 0, 0, 1, 2, 4))))
    if links and rng.random() < 0.2:
        links = rng.choices(links, k=len(links) + 1)
    if links and rng.random() < 0.8:
        header("References", "\r\n ".join(f"<{link}@x>" for link in links))
    elif links:
        header("In-Reply-To", " ".join(f"<{link}@x>" for link in links))
    return ("\r\n".join(lines) + "\r\n\r\n" + "x" * rng.randint(0, 50) + "\r\n").encode()


def _threads(text: str) -> list[str]:
    """The threads of a response."""
    found = []
    depth = 0
    for piece in re.findall(r"[^()]*[()]", text):
        depth += 1 if piece[-1] == "(" else -1
        if depth == 1 and piece == "(":
            found.append("")
        found[-1] += piece
    return found


class DovecotTests(LiveCase):
    def test_same_order_and_same_threads(self) -> None:
        need("dovecot", root=True)
        server = self.mail_server()
        peer = Dovecot().start()
        self.addCleanup(peer.stop)
        clients = []
        for ip, port, user, secret in (
            (server.ip, server.ports.imap, USER, PASSWORD),
            (peer.ip, peer.port, "u", peer.password),
        ):
            client = imaplib.IMAP4(ip, port)
            expect_ok(client.login(user, secret))
            load = IMAPLoad(ip, port, user, secret)
            self.addCleanup(load.close)
            clients.append((client, load))
        for seed in range(3):
            rng = random.Random(seed)
            found = []
            mail = [
                (_message(rng, number, seed > 0), 1_760_000_000 + rng.randint(0, 300) * 3600)
                for number in range(120)
            ]
            # All in one command, as each waits for the disk.
            pieces = [
                b" %b {%d+}\r\n%b"
                % (imaplib.Time2Internaldate(received).encode(), len(data), data)
                for data, received in mail
            ]
            for client, load in clients:
                name = f"box{seed}"
                expect_ok(client.create(name))
                load.command(b"APPEND %b%b" % (name.encode(), b"".join(pieces)))
                expect_ok(client.select(name))
                found.append(
                    {
                        what: expect_ok(ask(what, "UTF-8", "ALL"))
                        for ask, criteria in ((client.sort, SORTS), (client.thread, THREADS))
                        for what in criteria
                    }
                )
            # Dovecot has the threads of REFS in the order of sent dates.
            for answers in found:
                answers["REFS"] = sorted(_threads(answers["REFS"][0].decode()))
            for what in found[0]:
                self.assertEqual(found[0][what], found[1][what], (seed, what))
        for client, _ in clients:
            client.logout()
        self.finish(server)

    def test_same_extended_results_and_updates(self) -> None:
        need("dovecot", root=True)
        server = self.mail_server()
        peer = Dovecot().start()
        self.addCleanup(peer.stop)
        rng = random.Random(9)
        mail = [_message(rng, number, True) for number in range(30)]
        answers = []
        for session in (
            IMAPLoad(server.ip, server.ports.imap, USER, PASSWORD),
            IMAPLoad(peer.ip, peer.port, "u", peer.password),
        ):
            with session:
                session.multiappend(b"INBOX", mail)
                session.command(b"SELECT INBOX")
                found = []
                for command in EXTENDED:
                    data = session.command(command, keep=True).data
                    lines = [line for line in data.split(b"\r\n") if line[:9] == b"* ESEARCH"]
                    found.append((command, sorted(lines)))
                answers.append(found)
        self.assertEqual(answers[0], answers[1])
        self.finish(server)
