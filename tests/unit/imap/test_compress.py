"""COMPRESS=DEFLATE (RFC 4978), read by a real inflater."""

from __future__ import annotations

import zlib
from random import Random

from moxtw.imap import connection, deflate
from tests.unit.imap.support import MAIL, Client, IMAPTestCase


class Compressed:
    """A client's end of a compressed connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._inflate = zlib.decompressobj(-15)

    def pack(self, data: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(mode)

    def output(self) -> bytes:
        """All that was sent must be there without waiting for more."""
        data = self.client.transport.value()
        self.client.transport.clear()
        return self._inflate.decompress(data)

    def lines(self) -> list[str]:
        return self.output().decode("latin-1").split("\r\n")[:-1]

    def command(self, text: str) -> list[str]:
        self.client.send(self.pack(f"t {text}\r\n".encode()))
        return self.lines()


class CompressTests(IMAPTestCase):
    def compressed(self) -> Compressed:
        client = self.login()
        self.assertEqual(client.command("COMPRESS DEFLATE"), ["t OK DEFLATE active"])
        return Compressed(client)

    def test_commands(self) -> None:
        self.deliver(count=3)
        client = self.compressed()
        self.assertEqual(client.command("NOOP"), ["t OK NOOP done"])
        client.command("SELECT Inbox")
        lines = client.command("FETCH 1:3 BODY.PEEK[]")
        self.assertEqual(sum(line.startswith("* ") for line in lines), 3)
        self.assertEqual("\r\n".join(lines).count("Subject: hi"), 3)

    def test_announced_until_it_is_active(self) -> None:
        client = self.login()
        self.assertIn(" COMPRESS=DEFLATE", client.ok("CAPABILITY")[0])
        self.assertNotIn("COMPRESS", self.compressed().command("CAPABILITY")[0])

    def test_once_only(self) -> None:
        client = self.compressed()
        [line] = client.command("COMPRESS DEFLATE")
        self.assertTrue(line.startswith("t NO [COMPRESSIONACTIVE]"), line)
        self.assertEqual(client.command("NOOP"), ["t OK NOOP done"])

    def test_refused(self) -> None:
        client = self.login()
        self.assertTrue(client.command("COMPRESS LZ4")[-1].startswith("t NO"))
        self.assertTrue(client.command("COMPRESS")[-1].startswith("t BAD"))
        self.assertTrue(client.command("COMPRESS DEFLATE x")[-1].startswith("t BAD"))
        fresh = self.connect()
        fresh.output()
        self.assertTrue(fresh.command("COMPRESS DEFLATE")[-1].startswith("t NO"))

    def test_byte_for_byte(self) -> None:
        client = self.compressed()
        for byte in client.pack(b"a NOOP\r\nb NOOP\r\n"):
            client.client.send(bytes([byte]))
        self.assertEqual(client.lines(), ["a OK NOOP done", "b OK NOOP done"])

    def test_flushes_of_all_kinds(self) -> None:
        client = self.compressed()
        for mode in (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH):
            client.client.send(client.pack(b"a NOOP\r\n", mode))
            self.assertEqual(client.lines(), ["a OK NOOP done"])

    def test_sent_behind_the_command(self) -> None:
        client = self.login()
        end = Compressed(client)
        client.send(b"t COMPRESS DEFLATE\r\n" + end.pack(b"a NOOP\r\nb NOOP\r\n"))
        data = client.transport.value()
        plain = b"t OK DEFLATE active\r\n"
        self.assertTrue(data.startswith(plain))
        self.assertEqual(
            end._inflate.decompress(data[len(plain) :]),
            b"a OK NOOP done\r\nb OK NOOP done\r\n",
        )

    def test_literals(self) -> None:
        client = self.compressed()
        body = MAIL + bytes(Random(1).randbytes(200_000)).hex().encode()
        client.client.send(client.pack(b"t APPEND Inbox {%d}\r\n" % len(body)))
        self.assertTrue(client.output().startswith(b"+ "))
        client.client.send(client.pack(body + b"\r\n"))
        for _ in range(100):
            self.clock.advance(0)
        self.assertIn(b"t OK [APPENDUID", client.output())
        client.command("SELECT Inbox")
        client.client.send(client.pack(b"t FETCH 1 BODY.PEEK[]\r\n"))
        for _ in range(100):
            self.clock.advance(0)
        self.assertIn(body, client.output())

    def test_idle(self) -> None:
        client = self.compressed()
        client.command("SELECT Inbox")
        client.client.send(client.pack(b"t IDLE\r\n"))
        client.output()
        self.deliver()
        self.assertEqual(client.lines()[0], "* 1 EXISTS")
        client.client.send(client.pack(b"DONE\r\n"))
        self.assertEqual(client.lines(), ["t OK IDLE done"])

    def test_notify(self) -> None:
        client = self.compressed()
        client.command("SELECT Inbox")
        client.command("NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (PERSONAL (MailboxName))")
        self.deliver()
        self.assertEqual(client.lines(), ["* 1 EXISTS", "* 1 FETCH (UID 1 FLAGS ())"])
        self.login().ok("CREATE x")
        self.assertEqual(len(client.lines()), 1)

    def test_bomb(self) -> None:
        client = self.compressed()
        held = []
        feed = connection.Lexer.feed

        def watched(lexer: connection.Lexer, data: bytes) -> None:
            feed(lexer, data)
            held.append(len(lexer))

        self.patch(connection.Lexer, "feed", watched)
        client.client.send(client.pack(b"x" * 100_000_000))
        for _ in range(3000):
            self.clock.advance(0)
        self.assertIn(b"command lines are limited", client.output())
        self.assertTrue(client.client.closed)
        self.assertLess(max(held), 300_000)

    def test_bomb_in_a_literal(self) -> None:
        client = self.compressed()
        client.client.send(client.pack(b"t APPEND Nope {50000000+}\r\n" + b"\0" * 50_000_000))
        for _ in range(5000):
            self.clock.advance(0)
        client.client.send(client.pack(b"\r\nt NOOP\r\n"))
        for _ in range(10):
            self.clock.advance(0)
        lines = client.lines()
        self.assertTrue(lines[0].startswith("t NO [TRYCREATE]"), lines)
        self.assertEqual(lines[-1], "t OK NOOP done")

    def test_all_is_given_without_more_input(self) -> None:
        """The inflater may be left with output when its input is used up and its room, too."""
        for mode in (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FINISH):
            for more in range(-2, 520):
                data = b"x" * (deflate.PIECE + more)
                packer = zlib.compressobj(9, zlib.DEFLATED, -15)
                compression = deflate.Compression()
                compression.feed(packer.compress(data) + packer.flush(mode))
                size = 0
                while compression.waiting:
                    size += len(compression.inflate())
                self.assertEqual(size, len(data), (mode, more))

    def test_commands_that_fill_a_piece(self) -> None:
        client = self.compressed()
        line = b"t NOOP\r\n"
        for more in (256, 257, 258, 300):
            count = (deflate.PIECE + more) // len(line) + 1
            client.client.send(client.pack(line * count, zlib.Z_PARTIAL_FLUSH))
            for _ in range(count):
                self.clock.advance(0)
            self.assertEqual(client.output().count(b"t OK NOOP done\r\n"), count)

    def test_broken_input(self) -> None:
        client = self.compressed()
        client.client.send(b"\xff\xff\xff\xff\xff\xff")
        self.assertEqual(client.lines(), ["* BYE compressed input is broken"])
        self.assertTrue(client.client.closed)

    def test_end_of_the_stream(self) -> None:
        client = self.compressed()
        client.client.send(client.pack(b"a NOOP\r\n", zlib.Z_FINISH))
        self.assertEqual(client.lines(), ["a OK NOOP done"])
        client.client.send(b"more")
        self.assertTrue(client.client.closed)

    def test_logout(self) -> None:
        client = self.compressed()
        self.assertEqual(client.command("LOGOUT"), ["* BYE see you", "t OK LOGOUT done"])
        self.assertTrue(client.client.closed)

    def test_large_answers_are_compressed_in_pieces(self) -> None:
        mail = MAIL + bytes(Random(2).randbytes(100_000)).hex().encode()
        self.deliver(mail)
        self.deliver(mail)
        client = self.compressed()
        client.command("SELECT Inbox")
        sizes = []
        deflate_data = deflate.Compression.deflate

        def watched(
            compression: deflate.Compression, data: bytes, flush: bool = True
        ) -> bytes:
            sizes.append(len(data))
            return deflate_data(compression, data, flush)

        self.patch(deflate.Compression, "deflate", watched)
        client.client.send(client.pack(b"t FETCH 1:2 BODY.PEEK[]\r\nu NOOP\r\n"))
        for _ in range(30):
            self.clock.advance(0)
        output = client.output()
        self.assertEqual(output.count(mail), 2)
        self.assertTrue(output.endswith(b")\r\nt OK FETCH done\r\nu OK NOOP done\r\n"))
        self.assertLessEqual(max(sizes), connection.OUT_SIZE)

    def test_reader_that_does_not_read(self) -> None:
        self.deliver(MAIL + bytes(Random(3).randbytes(200_000)).hex().encode())
        client = self.compressed()
        client.command("SELECT Inbox")
        client.client.protocol.pauseProducing()
        client.client.send(client.pack(b"t FETCH 1 BODY.PEEK[]\r\n"))
        for _ in range(30):
            self.clock.advance(0)
        self.assertLess(len(client.output()), 200_000)
        client.client.protocol.resumeProducing()
        for _ in range(30):
            self.clock.advance(0)
        self.assertTrue(client.output().endswith(b"t OK FETCH done\r\n"))
