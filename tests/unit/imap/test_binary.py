"""BINARY (RFC 3516): decoded parts, their sizes, ranges of them, and what cannot be decoded."""

from __future__ import annotations

import base64
import quopri
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from moxtw.imap import binary, sections
from moxtw.mail import transfer
from moxtw.store import messages
from moxtw.store.errors import NoContent
from tests.unit.imap.support import MAIL, Client, IMAPTestCase


def part(encoding: str, body: bytes, kind: str = "application/x") -> bytes:
    return (
        b"--b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
        % (kind.encode(), encoding.encode(), body)
    )


def mixed(*parts: bytes) -> bytes:
    head = b"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    return head + b"\r\n" + b"".join(parts) + b"--b--\r\n"


class BinaryTests(IMAPTestCase):
    def test_example(self) -> None:
        """RFC 3516 6, with a part that has a NUL."""
        data = b"\0 fish"
        self.deliver(mixed(part("base64", base64.b64encode(data)), part("8bit", b"text")))
        client = self.selected()
        client.send(b"001 FETCH 1 BINARY.SIZE[1]\r\n002 FETCH 1 BINARY.PEEK[1]\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY.SIZE[1] 6)\r\n001 OK FETCH done\r\n"
            b"* 1 FETCH (UID 1 BINARY[1] ~{6}\r\n\0 fish)\r\n002 OK FETCH done\r\n",
        )

    def test_encodings(self) -> None:
        self.deliver(
            mixed(
                part("BASE64", b"aGVs bG8\r\n  !!gd29y\r\n bGQ"),
                part("Quoted-Printable", b"a=3Db=\r\nc  \r\n=ZZ =C3=a4"),
                part("7bit", b"plain"),
                part("base64", b"aGVsbG8"),
                part("base64", b""),
            )
        )
        client = self.selected()
        items = " ".join(f"BINARY.PEEK[{n}] BINARY.SIZE[{n}]" for n in range(1, 6))
        client.send(f"a FETCH 1 ({items})\r\n".encode())
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY[1] {11}\r\nhello world BINARY.SIZE[1] 11"
            b" BINARY[2] {12}\r\na=bc\r\n=ZZ \xc3\xa4 BINARY.SIZE[2] 12"
            b" BINARY[3] {5}\r\nplain BINARY.SIZE[3] 5"
            b" BINARY[4] {5}\r\nhello BINARY.SIZE[4] 5"
            b" BINARY[5] {0}\r\n BINARY.SIZE[5] 0)\r\na OK FETCH done\r\n",
        )

    def test_whole_message(self) -> None:
        head = b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        self.deliver(head + b"AAEC\r\n")
        self.deliver()
        client = self.selected()
        client.send(b"a FETCH 1 (BINARY.PEEK[] BINARY.SIZE[] BINARY.PEEK[]<48.4>)\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY[] ~{52}\r\n%b\0\1\2 BINARY.SIZE[] 52"
            b" BINARY[]<48> ~{4}\r\n\n\0\1\2)\r\na OK FETCH done\r\n" % head,
        )
        client.send(b"b FETCH 2 (BINARY.PEEK[] BINARY.SIZE[])\r\n")
        self.assertEqual(
            client.output(),
            b"* 2 FETCH (UID 2 BINARY[] {%d}\r\n%b BINARY.SIZE[] %d)\r\nb OK FETCH done\r\n"
            % (len(MAIL), MAIL, len(MAIL)),
        )

    def test_missing_part(self) -> None:
        self.deliver()
        self.assertEqual(
            self.selected().ok("FETCH 1 (BINARY[7] BINARY.SIZE[7])"),
            ["* 1 FETCH (UID 1 FLAGS (\\Seen) BINARY[7] NIL BINARY.SIZE[7] 0)"],
        )

    def test_seen(self) -> None:
        self.deliver(count=3)
        client = self.selected()
        client.ok("FETCH 1 BINARY.PEEK[1]")
        client.ok("FETCH 2 BINARY.SIZE[1]")
        client.ok("FETCH 3 BINARY[1]")
        self.assertEqual(
            client.ok("FETCH 1:3 FLAGS"),
            [
                "* 1 FETCH (UID 1 FLAGS ())",
                "* 2 FETCH (UID 2 FLAGS ())",
                "* 3 FETCH (UID 3 FLAGS (\\Seen))",
            ],
        )

    def test_other_messages_are_sent_beside_one_that_cannot_be_decoded(self) -> None:
        self.deliver()
        self.deliver(mixed(part("x-uuencode", b"begin")))
        self.deliver(mixed(part("8bit", b"three")))
        self.deliver(mixed(part("8bit", b"", "multipart/mixed; boundary=c")))
        self.transcript(
            self.selected(),
            r"""
            C: a FETCH 1:4 BINARY[1]
            S: * 1 FETCH (UID 1 FLAGS (\Seen) BINARY[1] {6}
            S: body
            S: )
            S: * 3 FETCH (UID 3 FLAGS (\Seen) BINARY[1] {5}
            S: three)
            S: * 4 FETCH (UID 4 FLAGS (\Seen) BINARY[1] {0}
            S: )
            S: a NO [UNKNOWN-CTE] …
            C: b FETCH 2 FLAGS
            S: * 2 FETCH (UID 2 FLAGS ())
            S: b OK FETCH done
            C: c FETCH 2 (BINARY.SIZE[1] BODY.PEEK[1])
            S: * 2 FETCH (UID 2 BODY[1] {5}
            S: begin)
            S: c NO [UNKNOWN-CTE] …
            C: d UID FETCH 2 (BODY.PEEK[1] BINARY.PEEK[1])
            S: * 2 FETCH (UID 2 BODY[1] {5}
            S: begin)
            S: d NO [UNKNOWN-CTE] …
            """,
        )

    def test_what_has_no_encoding_of_its_own(self) -> None:
        """Parts of parts, headers and texts are given as they are."""
        inner = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner"
        self.deliver(mixed(b"--b\r\n" + inner + b"\r\n"))
        client = self.selected()
        self.transcript(
            client,
            """
            C: a FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])
            S: * 1 FETCH (UID 1 BINARY[1] {23}
            S: Subject: inner
            S:
            S: inner BINARY.SIZE[1] 23)
            S: a OK FETCH done
            C: b FETCH 1 (BINARY.PEEK[1.HEADER] BINARY.SIZE[1.HEADER] BINARY.PEEK[1.TEXT]<1.3>)
            S: * 1 FETCH (UID 1 BINARY[1.HEADER] {18}
            S: Subject: inner
            S:
            S:  BINARY.SIZE[1.HEADER] 18 BINARY[1.TEXT]<1> {3}
            S: nne)
            S: b OK FETCH done
            C: c FETCH 1 BINARY.PEEK[1.1]
            S: * 1 FETCH (UID 1 BINARY[1.1] {5}
            S: inner)
            S: c OK FETCH done
            C: d FETCH 1 (BINARY.PEEK[1.1]<2> BINARY.SIZE[HEADER.FIELDS (X)] BINARY[9.TEXT])
            S: * 1 FETCH (UID 1 FLAGS (\\Seen) BINARY[1.1]<2> {3}
            S: ner BINARY.SIZE[HEADER.FIELDS (X)] 2 BINARY[9.TEXT] NIL)
            S: d OK FETCH done
            """,
        )

    def test_large_and_as_it_is(self) -> None:
        content = b"x" * (sections.PIECE + 10) + b"\0"
        inner = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n" + content
        self.deliver(mixed(b"--b\r\n" + inner + b"\r\n"))
        client = self.selected()
        client.send(b"a FETCH 1 (BINARY.PEEK[1.TEXT] BINARY.SIZE[1.TEXT])\r\n")
        self.assertEqual(
            client.output(),
            b"* 1 FETCH (UID 1 BINARY[1.TEXT] ~{%d}\r\n%b BINARY.SIZE[1.TEXT] %d)\r\n"
            b"a OK FETCH done\r\n" % (len(content), content, len(content)),
        )

    def test_syntax(self) -> None:
        self.deliver()
        client = self.selected()
        for item in (
            "BINARY", "BINARY.PEEK", "BINARY.SIZE", "BINARY[TXT]", "BINARY[MIME]", "BINARY[0]",
            "BINARY[1", "BODY[1]<1>", "BINARY[1]<1.0>", "BINARY.SIZE[1]<0.1>",
            "BINARY.PEEK[1.]", "BODY.PEEK[1.]",
            "BINARY[1TEXT]", "BINARY.NOPE[1]", "BINARY[]<1.2.3>", "BINARY[01]",
        ):  # fmt: skip
            self.assertTrue(client.command(f"FETCH 1 {item}")[-1].startswith("t BAD"), item)

    def test_uidonly(self) -> None:
        self.deliver(mixed(part("x-other", b"x")))
        self.deliver()
        client = self.selected()
        client.ok("ENABLE UIDONLY")
        self.transcript(
            client,
            r"""
            C: a UID FETCH 1:2 BINARY.PEEK[1]
            S: * 2 UIDFETCH (BINARY[1] {6}
            S: body
            S: )
            S: a NO [UNKNOWN-CTE] …
            """,
        )


class LargeTests(IMAPTestCase):
    """Parts that are decoded in pieces."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(sections, "PIECE", 1000)
        self.patch(binary, "PIECE", 1000)
        self.patch(sections, "_DECODED", 500)
        self.patch(sections, "_DECODED_FOR_LESS", 500)
        self.decoded = 0
        feed = transfer._Base64.feed

        def counting(decoder: Any, data: bytes) -> bytes:
            self.decoded += len(data)
            return feed(decoder, data)

        self.patch(transfer._Base64, "feed", counting)

    def fetch(self, client: Client, item: str) -> bytes:
        client.send(f"a FETCH 1 ({item})\r\n".encode())
        output = client.output()
        self.assertTrue(output.endswith(b")\r\na OK FETCH done\r\n"), output[-200:])
        return output.split(b"\r\n", 1)[1].removesuffix(b")\r\na OK FETCH done\r\n")

    def test_base64(self) -> None:
        data = Random(1).randbytes(50_000)
        text = base64.encodebytes(data).replace(b"\n", b"\r\n")
        self.deliver(mixed(part("base64", text)))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]"), data)
        client.send(b"a FETCH 1 BINARY.SIZE[1]\r\n")
        self.assertIn(b"BINARY.SIZE[1] 50000)", client.output())
        for first, count in ((0, 1), (1, 10), (49_999, 5), (50_000, 3), (7_777, 20_000)):
            self.assertEqual(
                self.fetch(client, f"BINARY.PEEK[1]<{first}.{count}>"), data[first : first + count]
            )

    def test_whole_message(self) -> None:
        data = Random(2).randbytes(5_000)
        head = b"Content-Transfer-Encoding: base64\r\n\r\n"
        self.deliver(head + base64.encodebytes(data))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[]"), head + data)
        for first in (0, 10, len(head), len(head) + 3000):
            self.assertEqual(
                self.fetch(client, f"BINARY.PEEK[]<{first}.1500>"),
                (head + data)[first : first + 1500],
            )

    def test_quoted_printable(self) -> None:
        data = bytes(Random(3).choices(b"ab=\xe4\xf6 \t", k=20_000))
        self.deliver(mixed(part("quoted-printable", quopri.encodestring(data))))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]"), data)
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]<9999.5000>"), data[9999:14999])

    def test_identity(self) -> None:
        data = Random(4).randbytes(4_000).hex().encode()
        self.deliver(mixed(part("8bit", data)))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]"), data)
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]<99.3000>"), data[99:3099])

    def test_nul(self) -> None:
        data = b"\0 \1" * 1000
        self.deliver(mixed(part("binary", data)))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]"), data)
        self.assertEqual(self.fetch(client, "BODY.PEEK[1]"), data.replace(b"\0", b"\x80"))

    def test_many_ranges_cost_what_they_ask_for(self) -> None:
        data = Random(5).randbytes(200_000)
        text = base64.encodebytes(data)
        self.deliver(mixed(part("base64", text)))
        client = self.selected()
        self.decoded = 0
        whole = b""
        for first in range(0, len(data), 2000):
            whole += self.fetch(client, f"BINARY.PEEK[1]<{first}.2000>")
        self.assertEqual(whole, data)
        # Once to measure, then each range and what is around it.
        self.assertLess(self.decoded, 4 * len(text))

    def test_places_are_few(self) -> None:
        self.patch(binary, "_MAX_POINTS", 10)
        data = Random(6).randbytes(100_000)
        self.deliver(mixed(part("base64", base64.encodebytes(data))))
        client = self.selected()
        self.assertEqual(self.fetch(client, "BINARY.PEEK[1]<77777.5000>"), data[77777:82777])
        index = client.protocol.decoded
        assert index is not None
        self.assertLessEqual(len(index.points), 10)
        self.assertEqual(index.size, len(data))

    def test_missing_content_before_anything_is_sent(self) -> None:
        self.deliver(count=3)
        real = messages.read_parts

        def failing(tx: Any, content_id: int, *args: Any) -> bytes:
            if content_id == 2:
                raise NoContent("gone")
            return real(tx, content_id, *args)

        client = self.selected()
        self.patch(messages, "read_parts", failing)
        ids = [line for line in client.command("FETCH 1:3 BODY.PEEK[TEXT]") if "FETCH" in line]
        self.assertIn(len(ids), (3, 4))
        self.assertEqual(client.command("NOOP"), ["t OK NOOP done"])

    def test_content_that_is_missing_in_the_middle_ends_the_connection(self) -> None:
        self.deliver(mixed(part("base64", base64.encodebytes(bytes(9000)))))
        client = self.selected()
        client.strict = False
        calls = 0
        real = sections.read

        def failing(*args: Any, **more: Any) -> bytes:
            nonlocal calls
            calls += 1
            if calls == 15:
                raise NoContent("gone")
            return real(*args, **more)

        self.patch(binary, "read", failing)
        client.send(b"a FETCH 1 BINARY.PEEK[1]\r\n")
        output = client.output()
        self.assertNotIn(b"a NO", output)
        self.assertTrue(client.closed)


class DecoderTests(SynchronousTestCase):
    def test_endless_blanks_are_not_kept(self) -> None:
        decoder = transfer.decoder("quoted-printable")
        for _ in range(20):
            decoder.feed(b" " * 50_000)
            self.assertLess(decoder.held, 120_000)
        self.assertEqual(decoder.feed(b"x\n"), b"x\n")

    def test_long_line_behind_short_ones(self) -> None:
        decoder = transfer.decoder("quoted-printable")
        data = decoder.feed(b"a\r\n" + b"=41" * 50_000 + b"=4")
        self.assertLess(decoder.held, 10)
        self.assertEqual(data + decoder.feed(b"1") + decoder.finish(), b"a\r\n" + b"A" * 50_001)
