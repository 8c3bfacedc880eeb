"""COMPRESS (RFC 4978) over TLS, read by a real inflater: small segments, large parts, IDLE."""

from __future__ import annotations

import base64
import socket
import zlib
from random import Random

from tests.functional.test_imap_server import ADDRESS, PASSWORD, Lines, ServerCase, insecure


class Compressed(Lines):
    """A client over TLS that compresses from some command on."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.sock = insecure().wrap_socket(self.sock)
        self.deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.inflate = zlib.decompressobj(-15)

    def compress(self) -> None:
        assert self.ask(b"COMPRESS DEFLATE")[-1].startswith(b"t OK")
        assert not self.buffer
        plain = self.sock

        class Socket:
            def sendall(_, data: bytes) -> None:  # noqa: N805
                plain.sendall(self.pack(data))

            def recv(_, size: int) -> bytes:  # noqa: N805
                while data := plain.recv(size):
                    if found := self.inflate.decompress(data):
                        return found
                return b""

        self.plain = plain
        self.sock = Socket()

    def pack(self, data: bytes, mode: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return self.deflate.compress(data) + self.deflate.flush(mode)

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            assert data, "closed"
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


class CompressTests(ServerCase):
    def opened(self, port: int) -> Compressed:
        client = Compressed(port)
        client.line()
        answer = client.ask(f'LOGIN {ADDRESS} "{PASSWORD}"'.encode())[-1]
        assert b" COMPRESS=DEFLATE" in answer, answer
        client.compress()
        return client

    async def test_mail_through_it(self) -> None:
        port = self.serve("imaps")
        data = Random(1).randbytes(700_000)
        mail = (
            b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: image/x\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + base64.encodebytes(data).replace(b"\n", b"\r\n")
        )

        def run() -> None:
            client = self.opened(port)
            assert b"COMPRESS" not in b" ".join(client.ask(b"CAPABILITY"))
            assert client.ask(b"COMPRESS DEFLATE")[-1].startswith(b"t NO [COMPRESSIONACTIVE]")
            client.sock.sendall(b"t APPEND Inbox {%d}\r\n" % len(mail))
            assert client.line().startswith(b"+ ")
            client.sock.sendall(mail + b"\r\n")
            assert client.line().startswith(b"t OK [APPENDUID")
            client.ask(b"SELECT Inbox")
            client.sock.sendall(b"t FETCH 1 BODY.PEEK[]\r\n")
            client.line()
            assert client.exactly(len(mail)) == mail
            assert client.line() == b")"
            client.line()
            whole = b""
            for first in range(0, len(data), 100_000):
                client.sock.sendall(b"t FETCH 1 BINARY.PEEK[1]<%d.100000>\r\n" % first)
                line = client.line()
                size = int(line[line.rindex(b"{") + 1 : -1])
                whole += client.exactly(size)
                assert client.line() == b")"
                assert client.line().startswith(b"t OK")
            assert whole == data
            assert client.ask(b"LOGOUT")[-1].startswith(b"t OK")

        await self.client(run)

    async def test_small_segments_and_all_flushes(self) -> None:
        port = self.serve("imaps")

        def run() -> None:
            client = self.opened(port)
            client.plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for mode in (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH):
                packed = client.pack(b"t NOOP\r\nt CAPABILITY\r\n", mode)
                for byte in packed:
                    client.plain.sendall(bytes([byte]))
                assert client.line() == b"t OK NOOP done"
                assert client.line().startswith(b"* CAPABILITY ")
                assert client.line() == b"t OK CAPABILITY done"

        await self.client(run)

    async def test_idle(self) -> None:
        port = self.serve("imaps")

        def run() -> None:
            one, two = self.opened(port), self.opened(port)
            one.ask(b"SELECT Inbox")
            assert one.ask(b"IDLE")[-1].startswith(b"+ ")
            two.sock.sendall(b"t APPEND Inbox {15+}\r\nSubject: x\r\n\r\nb\r\n")
            assert two.line().startswith(b"t OK")
            assert one.line() == b"* 1 EXISTS"
            one.sock.sendall(b"DONE\r\n")
            while not (line := one.line()).startswith(b"t "):
                assert line.startswith(b"* "), line

        await self.client(run)

    async def test_pipelined_behind_the_command(self) -> None:
        port = self.serve("imaps")

        def run() -> None:
            client = Compressed(port)
            client.line()
            client.ask(f'LOGIN {ADDRESS} "{PASSWORD}"'.encode())
            client.sock.sendall(b"t COMPRESS DEFLATE\r\n" + client.pack(b"u NOOP\r\n"))
            assert client.line().startswith(b"t OK")
            raw = client.buffer
            while not raw.endswith(b"\0\0\xff\xff"):
                raw += client.sock.recv(65536)
            assert client.inflate.decompress(raw) == b"u OK NOOP done\r\n"

        await self.client(run)
