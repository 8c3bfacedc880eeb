"""Delivery to a user with a junk filter, rejects mailbox and introbox, who moves messages."""

from __future__ import annotations

import re
import smtplib
import sqlite3
from typing import cast

from tests.functional.test_junk import OPTIONS
from tests.support.server import ZONE, LiveCase, expect_ok, poll

AUTOMATIC = cast(dict[str, object], OPTIONS["AutomaticJunkFlags"])
REASON = re.compile(rb" reason=([^ ]+) ")
ADDRESS = "mjl@a.example"
HAM = "meeting agenda budget minutes quarterly planning"
SPAM = "viagra casino jackpot winner lottery pills"


def message(number: int, text: str, author: str = "some@b.example") -> bytes:
    """One of many that are alike."""
    return (
        f"From: <{author}>\r\nTo: <{ADDRESS}>\r\nSubject: number {number}\r\n"
        f"Message-ID: <{number}@b.example>\r\n\r\n{text}\r\n"
    ).encode()


class JunkDeliveryTests(LiveCase):
    """One server, whose user has told junk from other messages by moving them."""

    def begin(self, **options: object) -> None:
        # Only authors who are sure to be themselves get known.
        zone = {**ZONE, "b.example": {**ZONE["b.example"], "TXT": ['"v=spf1 ip4:127.0.0.1 -all"']}}
        self.server = self.mail_server(
            resolver=self.name_server(zone).address, account_options={**OPTIONS, **options}
        )
        self.client = self.server.imap()

    def move_all(self, source: str, target: str) -> None:
        expect_ok(self.client.select(source))
        expect_ok(self.client._simple_command("MOVE", "1:*", target))  # type: ignore[attr-defined]

    def learn(self) -> None:
        """60 messages to Archive, 30 to Junk."""
        for count, text, target in ((60, HAM, "Archive"), (30, SPAM, "Junk")):
            for number in range(count):
                data = message(number, text, author="old@c.example")
                expect_ok(self.client.append("Inbox", "", "", data))
            self.move_all("Inbox", target)
        poll(lambda: self.trained() == (60, 30), 20, "training")

    def trained(self) -> tuple[int, int]:
        """Messages of each kind that the filter has counted."""
        database = sqlite3.connect(f"file:{self.server.data_dir}/moxtw.db?mode=ro", uri=True)
        try:
            row = database.execute("SELECT ham, spam FROM junk_filters").fetchone()
        finally:
            database.close()
        return row or (0, 0)

    def send(self, data: bytes, *, tls: bool = True) -> str:
        """Deliver one message; the reason for which it was refused, empty if it was taken.

        From the log, as the reply to refused ones comes very slowly.
        """
        client = smtplib.SMTP(self.server.ip, self.server.ports.smtp, "client.example")
        try:
            if tls:
                client.starttls(context=self.server.trust())
            client.ehlo("client.example")
            client.mail("news@b.example")
            client.rcpt(ADDRESS)
            client.docmd("DATA")
            known = len(self.decided())
            client.send(data + b".\r\n")
            [decided] = poll(lambda: self.decided()[known:], 20, "decision")
            if b" result=delivered " in decided:
                self.assertEqual(client.getreply()[0], 250)
                return ""
            assert client.sock is not None
            self.assertEqual(client.sock.recv(1), b"4")
            found = REASON.search(decided)
            assert found is not None
            return found[1].decode()
        finally:
            client.close()

    def decided(self) -> list[bytes]:
        """What the log says of messages."""
        lines = self.server.log_bytes().splitlines(keepends=True)
        return [x for x in lines if b'm="incoming message"' in x and x.endswith(b"\n")]

    def send_until(self, data: bytes, reason: bytes) -> None:
        """Deliver until the message is taken for a reason: senders are known a moment later."""

        def taken() -> bool:
            return not self.send(data) and b" reason=" + reason in self.decided()[-1]

        poll(taken, 20, f"a message taken for {reason!r}", 0.5)

    def test_similar_messages(self) -> None:
        """What is like junk is refused and kept among the rejects; what is like ham comes in."""
        self.begin()
        # The filter knows nothing yet.
        self.assertEqual(self.send(message(1000, SPAM)), "")
        self.move_all("Inbox", "Trash")
        self.client.select("Trash")
        self.client.store("1:*", "+FLAGS", "(\\Deleted)")
        self.client.expunge()
        self.learn()
        self.assertEqual(self.send(message(1001, HAM, "a@d.example")), "")
        self.assertEqual(self.send(message(1002, SPAM, "b@e.example")), "junk-content")
        reason = self.send(message(1003, SPAM, "c@f.example"), tls=False)
        self.assertEqual(reason, "junk-content-strict")
        [taken] = self.server.messages()
        self.assertIn(b"X-Mox-Reason: no-bad-signals;", taken)
        refused, strict = self.server.messages("Rejects")
        self.assertIn(b"X-Mox-Reason: junk-content;", refused)
        self.assertIn(b"content junk probability 1.00", refused)
        self.assertIn(b"X-Mox-Reason: junk-content-strict;", strict)
        self.finish(self.server)

    def test_out_of_the_rejects_mailbox(self) -> None:
        """A refused message that its user wants, and one that comes again and is taken."""
        self.begin()
        self.learn()
        for number in (1001, 1002):
            self.assertEqual(self.send(message(number, SPAM)), "junk-content")
            # The same once more is kept once.
            self.assertEqual(self.send(message(number, SPAM)), "junk-content")
        self.assertEqual(len(self.server.messages("Rejects")), 2)
        expect_ok(self.client.select("Rejects"))
        expect_ok(self.client._simple_command("MOVE", "1", "Inbox"))  # type: ignore[attr-defined]
        # In the inbox it says nothing; in the archive it makes its author known.
        self.assertEqual(self.send(message(1003, SPAM)), "junk-content")
        self.move_all("Inbox", "Archive")
        self.send_until(message(1002, SPAM), b"msgfromfull")
        [taken] = self.server.messages()
        self.assertIn(b"X-Mox-Reason: msgfrom", taken)
        [left] = self.server.messages("Rejects")
        self.assertIn(b"<1003@b.example>", left)
        self.finish(self.server)

    def test_introbox(self) -> None:
        """Strangers come into the introbox until their user moves one of theirs to the inbox."""
        flags = {**AUTOMATIC, "NeutralMailboxRegexp": "^(inbox|introbox|rejects)"}
        self.begin(Introbox="Introbox", AutomaticJunkFlags=flags)
        self.assertEqual(self.send(message(1, HAM)), "")
        [taken] = self.server.messages("Introbox")
        self.assertIn(b"X-Mox-Reason: no-bad-signals;", taken)
        self.assertEqual(self.server.messages(), [])
        self.move_all("Introbox", "Inbox")
        expect_ok(self.client.select("Inbox"))
        flags = expect_ok(self.client.fetch("1", "FLAGS"))
        self.assertIn(b"$NotJunk", flags[0])
        poll(lambda: self.trained() == (1, 0), 20, "training")
        self.send_until(message(2, HAM), b"msgfromfull")
        strangers = len(self.server.messages("Introbox"))
        self.assertIn(b"X-Mox-Reason: msgfromfull", self.server.messages()[1])
        self.assertEqual(self.send(message(3, HAM, "other@g.example")), "")
        self.assertEqual(len(self.server.messages("Introbox")), strangers + 1)
        self.finish(self.server)
