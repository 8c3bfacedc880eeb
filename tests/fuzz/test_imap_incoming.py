"""What clients send to be kept, and compressed input: APPEND, REPLACE, CATENATE, COMPRESS."""

from __future__ import annotations

import random
import zlib

from twisted.internet.defer import Deferred

from moxtw.imap.imapurl import URLError, parse_url
from moxtw.store import verify
from tests.fuzz.engine import FuzzCase
from tests.unit.imap.support import MAIL, IMAPTestCase

URLS = [
    b"/Inbox/;UID=1/;SECTION=TEXT", b";UID=2/;SECTION=1.MIME/;PARTIAL=1.5", b"/Inbox;UIDVALIDITY=",
    b"imap://me@mail.example.org/a%20b/;uid=1", b"/Inbox/;UID=1/;SECTION=HEADER.FIELDS%20(To%20A)",
]  # fmt: skip
COMMANDS = [
    b"APPEND Inbox (\\Seen a) \"17-Jul-1996 02:44:25 -0700\" UTF8 (~{3+}\r\na\0b) {2+}\r\nab\r\n",
    b"APPEND Inbox {3+}\r\nabc {0+}\r\n\r\n",
    b"APPEND Inbox CATENATE (URL /Inbox/;UID=1 TEXT {1+}\r\nb URL ;UID=2 TEXT ~{1+}\r\n\0)\r\n",
    b"APPEND {5+}\r\nInbox CATENATE (URL {13+}\r\n/Inbox/;UID=1) (\\Draft) {3+}\r\nabc\r\n",
    b"UID REPLACE 1 Inbox (\\Seen) CATENATE (UTF8 (~{2+}\r\nab))\r\n",
    b"REPLACE * nope {3+}\r\nabc\r\n",
    b"REPLACE 2 Inbox \"01-Jan-2020 00:00:00 +0000\" ~{3+}\r\na\0c\r\n",
    b"UID REPLACE 9:10 Inbox {3+}\r\nabc\r\n",
    b"APPEND Inbox {999999+}\r\n" + b"x" * 100,
    b"FETCH 1:* (BINARY.PEEK[1]<1.2> BINARY.SIZE[] BINARY.PEEK[] PREVIEW (LAZY) SAVEDATE)\r\n",
    b"STATUS Inbox (DELETED-STORAGE SIZE MESSAGES DELETED)\r\n",
]
TOKENS = [
    b"{3+}\r\n", b"~{3+}\r\n", b"{0+}\r\n", b"{3}\r\n", b"CATENATE (", b"TEXT ", b"URL ", b"UTF8 (",
    b")", b"(", b"\r\n", b"t NOOP\r\n", b"REPLACE ", b"UID ", b"APPEND ", b"Inbox ", *URLS,
]  # fmt: skip


class URLTests(FuzzCase):
    def test_urls_are_understood_or_refused(self) -> None:
        def check(data: bytes) -> None:
            try:
                url = parse_url(data, "mail.example.org")
            except URLError:
                return
            self.assertGreater(url.uid, 0)

        self.fuzz(check, URLS, [b";UID=", b"/;", b";SECTION=", b"%41", b"%", b".MIME", b"%5D"])


class IncomingTests(IMAPTestCase, FuzzCase):
    def test_messages_are_kept_or_refused(self) -> None:
        self.deliver(MAIL, count=2)
        number = 0

        def check(data: bytes) -> None:
            nonlocal number
            rng = random.Random(zlib.crc32(data))
            number += 1
            client = self.connect(f"192.0.2.{number % 250 + 1}")
            client.output()
            client.login()
            client.command("SELECT Inbox")
            packed = rng.random() < 0.5
            if packed:
                client.command("COMPRESS DEFLATE")
                client.strict = False
                deflate = zlib.compressobj(rng.choice((1, 9)), zlib.DEFLATED, -15)
                pieces = []
                rest = data
                while rest:
                    size = rng.randint(1, 500)
                    mode = rng.choice((zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH))
                    pieces.append(deflate.compress(rest[:size]) + deflate.flush(mode))
                    rest = rest[size:]
                data = b"".join(pieces)
                if rng.random() < 0.2 and data:
                    # Damaged on its way.
                    place = rng.randrange(len(data))
                    data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
            while data and not client.closed:
                size = rng.randint(1, 2000)
                client.send(data[:size])
                data = data[size:]
                self.clock.pump([0, 0, 0.1])
            self.assertEqual(self.flushLoggedErrors(), [])
            output = client.output()
            if packed:
                inflate = zlib.decompressobj(-15)
                output = inflate.decompress(output)
                # All that is said can be read.
                self.assertIn(output[-2:], (b"", b"\r\n"))
            self.assertNotIn(b"SERVERBUG", output)
            self.assertNotIn(b"internal error", output)
            client.transport.loseConnection()

        examples = [b"t " + one for one in COMMANDS]
        self.fuzz(check, [*examples, b"".join(examples)], TOKENS)
        verified = Deferred.fromCoroutine(verify.verify_account(self.store, "me"))
        self.assertEqual(self.successResultOf(verified), [])
