"""The SMTP server: message content, arguments of commands, whole conversations."""

from __future__ import annotations

import contextlib
import random
import re
import zlib

from moxtw import metrics
from moxtw.smtp import grammar
from moxtw.smtp.reply import SMTPError
from tests.fuzz.engine import FuzzCase
from tests.support.smtp import World
from tests.unit.smtp.test_datascan import cut, reference, scan
from tests.unit.smtp.test_hostile import LINES, REPLY


class ContentTests(FuzzCase):
    def test_every_chunking_gives_what_the_slow_scanner_gives(self) -> None:
        tokens = [b"\r\n.\r\n", b"\n.\n", b"\r\n.", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\n..", b"."]

        def check(data: bytes) -> None:
            rng = random.Random(zlib.crc32(data))
            content, bad, done, rest = reference(data)
            if not done:
                data += b"\r\n.\r\nQUIT\r\n"
                content, bad, done, rest = reference(data)
            sizes = [rng.choice((0, 1, 2, 3, 7, 100)) for _ in range(min(len(data), 500))]
            for chunks in ([data], cut(data, sizes)):
                got = scan(chunks)
                self.assertEqual(got[1:], (bad, done, rest))
                if not bad:
                    self.assertEqual(got[0], content)
            if not bad:
                # What was accepted holds nothing that another server could see an end in.
                self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n", content))

        self.fuzz(check, [b"Subject: x\r\n\r\n..a\r\n.b\nc\r\n.\r\nQUIT\r\n", b".\r\n"], tokens)


class GrammarTests(FuzzCase):
    def test_arguments_are_understood_or_refused(self) -> None:
        def check(line: bytes) -> None:
            grammar.verb(line)
            try:
                args = grammar.arguments(line)
            except SMTPError:
                return
            for pedantic in (False, True):
                with contextlib.suppress(SMTPError):
                    grammar.ehlo(args)
                with contextlib.suppress(SMTPError):
                    grammar.auth(args, pedantic=pedantic, trailing=True)
                with contextlib.suppress(SMTPError):
                    grammar.nothing(args)
                with contextlib.suppress(SMTPError):
                    path = grammar.rcpt(args, pedantic=pedantic, trailing=False)
                    again = grammar.rcpt(f" TO:<{path}>", pedantic=False, trailing=False)
                    self.assertEqual(again, path)
                for submission in (False, True):
                    with contextlib.suppress(SMTPError):
                        mail = grammar.mail(
                            args, submission=submission, pedantic=pedantic, trailing=False
                        )
                        self.assertIsInstance(mail.path.is_zero, bool)

        examples = [
            b"EHLO mail.example.org",
            b"EHLO [192.0.2.1] Thunderbird",
            b"EHLO [IPv6:2001:db8::1]",
            b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8 REQUIRETLS AUTH=<>",
            b'MAIL FROM:<"a b\\""@example.org> AUTH=a+20b@example.org',
            b"MAIL FROM:<@a.example,@b.example:x@example.org> HOLDFOR=100",
            b"MAIL FROM:<x@[IPv6:::1]> HOLDUNTIL=2030-01-01T00:00:00Z",
            b"RCPT TO:<Postmaster>",
            "RCPT TO:<jö@bücher.example>".encode(),
            b"RCPT TO:<x@xn--bcher-kva.example>",
            b"AUTH PLAIN AGEAYg==",
            b"AUTH SCRAM-SHA-256 =",
        ]
        self.fuzz(check, examples, [b"<", b">:", b"@", b"=", b"+3D", b"xn--", b"[", b".", b'"'])


class ConversationTests(FuzzCase):
    def test_every_line_has_an_answer_and_nothing_breaks(self) -> None:
        world = World(self)
        panics = metrics.panic_total.labels("smtpserver")
        before = panics._value.get()

        def check(data: bytes) -> None:
            rng = random.Random(zlib.crc32(data))
            peer = world.peer(rng.choice(("smtp", "submission")), ip="198.51.100.9")
            for piece in cut(data, [rng.randint(1, 3000) for _ in range(20)]):
                if not peer.transport.closed:
                    peer.send(piece)
            for _ in range(12):
                world.clock.advance(29)
                if not peer.transport.closed:
                    peer.send(b"\r\n.\r\nNOOP\r\n")
            got = peer.received()
            self.assertTrue(got.startswith((b"220 ", b"421 ")), got)
            self.assertRegex(got, REPLY)
            peer.disconnect()
            self.assertEqual(panics._value.get(), before)
            world.failed_auth.reset("198.51.100.9", world.clock.seconds())

        begin = b"EHLO client.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<me@example.org>\r\n"
        examples = [
            begin + b"DATA\r\nFrom: <a@example.net>\r\nSubject: x\r\n\r\n..hi\r\n.\r\nQUIT\r\n",
            begin + b"RCPT TO:<nobody@example.org>\r\nRSET\r\nNOOP x\r\nVRFY x\r\nHELP\r\n",
            b"HELO x\r\nAUTH PLAIN\r\nAG1lQGV4YW1wbGUub3JnAHg=\r\nAUTH LOGIN\r\nbWU=\r\n*\r\n",
        ]
        self.fuzz(check, examples, [*LINES, *(line + b"\r\n" for line in LINES)])
