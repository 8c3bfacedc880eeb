"""The control socket: its protocol, its bounds, and both sides together."""

from __future__ import annotations

import gc
import io
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from moxtw.admin import audit
from moxtw.admin.context import AdminContext, Caller, OperationError
from moxtw.ctl import client as client_module
from moxtw.ctl.client import ControlClient, ControlError
from moxtw.ctl.server import (
    Answer,
    Command,
    ControlFactory,
    ControlProtocol,
    ControlService,
    Lines,
    Stream,
)
from moxtw.net.cid import ConnectionIds
from tests.support.store import make_store

gates: list[Deferred[None]] = []
callers: list[Caller] = []


async def echo(ctx: AdminContext, caller: Caller, a: str, b: str) -> Answer:
    callers.append(caller)
    return Lines([a, b])


async def nothing(ctx: AdminContext, caller: Caller) -> Answer:
    return None


async def refuse(ctx: AdminContext, caller: Caller) -> Answer:
    raise OperationError("user", "not\nlike this")


async def broken(ctx: AdminContext, caller: Caller) -> Answer:
    raise ZeroDivisionError("secret")


async def stream(ctx: AdminContext, caller: Caller, size: str) -> Answer:
    return Stream(b"x" * int(size))


async def pieces(ctx: AdminContext, caller: Caller) -> Answer:
    async def give() -> AsyncIterator[bytes]:
        yield b"one"
        yield b""
        yield b"two"
        raise OperationError("server", "and then it broke")

    return Stream(give())


async def wait(ctx: AdminContext, caller: Caller) -> Answer:
    gates.append(Deferred())
    await gates[-1]
    return None


COMMANDS = {
    "echo": Command(echo, 2),
    "nothing": Command(nothing, 0, reads=True),
    "refuse": Command(refuse, 0),
    "broken": Command(broken, 0),
    "stream": Command(stream, 1),
    "pieces": Command(pieces, 0),
    "wait": Command(wait, 0),
}


def make_context(test: Any, clock: Any) -> AdminContext:
    return AdminContext(
        config=None,
        store=make_store(test),
        queue=None,
        hooks=None,
        clock=clock,
        ids=ConnectionIds(b"k" * 24, 1),
    )


class ProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.context = make_context(self, self.clock)
        self.factory = ControlFactory(self.context, COMMANDS, self.clock)
        self.protocol, self.transport = self.connect()
        self.assertEqual(self.read(), b"ctlv0\n")

    def connect(self) -> tuple[ControlProtocol, StringTransport]:
        protocol = self.factory.buildProtocol(None)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def read(self) -> bytes:
        value = self.transport.value()
        self.transport.clear()
        return value

    def exchange(self, data: bytes) -> bytes:
        self.protocol.dataReceived(data)
        return self.read()

    def test_commands_one_after_the_other(self) -> None:
        self.assertEqual(self.exchange(b"nothing\n"), b"ok\n")
        self.assertEqual(self.exchange(b"echo\na\n"), b"")
        self.assertEqual(self.exchange(b"b\r\nnothing\n"), b"ok\na\nb\nok\n")

    def noted(self) -> list[tuple[str, str, str, str]]:
        """The audit log, first to last."""
        found = self.successResultOf(
            Deferred.fromCoroutine(audit.entries(self.context, Caller("test", "")))
        )
        return [(row.operation, row.params, row.result, row.message) for row in found[::-1]]

    def test_audit_log(self) -> None:
        self.exchange(b"echo\nx\ny\nrefuse\nbroken\nnothing\n")
        self.flushLoggedErrors()
        first, second, third = self.noted()
        self.assertEqual(first, ("echo", '{"a":"x","b":"y"}', "ok", ""))
        self.assertEqual(second, ("refuse", "{}", "user:error", "not\nlike this"))
        self.assertEqual(third, ("broken", "{}", "server:error", "internal error"))

    def test_audit_log_of_streams(self) -> None:
        self.exchange(b"pieces\n")
        self.assertEqual(self.noted(), [("pieces", "{}", "", "")])
        self.exchange(b"ok\nok\n")
        failed = ("pieces", "{}", "server:error", "and then it broke")
        self.assertEqual(self.noted(), [failed])
        # A client that goes away leaves an operation that may go on.
        self.exchange(b"pieces\n")
        self.protocol.connectionLost()
        gc.collect()
        lost = ("pieces", "{}", "lost", "the client went away before the end")
        self.assertEqual(self.noted(), [failed, lost])

    def test_pipelined_commands_run_one_at_a_time(self) -> None:
        self.assertEqual(self.exchange(b"wait\nnothing\necho\n1\n2\n"), b"")
        gates.pop().callback(None)
        self.assertEqual(self.read(), b"ok\nok\nok\n1\n2\n")

    def test_input_during_a_command_is_bounded(self) -> None:
        self.protocol.dataReceived(b"wait\n" + b"nothing\n" * 17)
        self.assertEqual(self.transport.producerState, "paused")
        gates.pop().callback(None)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.read(), b"ok\n" * 18)

    def test_errors(self) -> None:
        self.assertEqual(self.exchange(b"refuse\n"), b"not like this\n")
        answer = self.exchange(b"broken\n")
        self.assertNotIn(b"secret", answer)
        self.assertNotEqual(answer, b"ok\n")
        self.assertEqual(self.exchange(b"nothing\n"), b"ok\n")

    def test_unknown_command_ends_the_connection(self) -> None:
        self.assertEqual(self.exchange(b"format\n"), b"unknown command\n")
        self.assertTrue(self.transport.disconnecting)

    def test_stream(self) -> None:
        self.assertEqual(self.exchange(b"stream\n70000\n"), b"ok\n65536\n" + b"x" * 65536)
        self.assertEqual(self.exchange(b"ok\n"), b"4464\n" + b"x" * 4464)
        self.assertEqual(self.exchange(b"ok\n"), b"0\n")
        self.assertEqual(self.exchange(b"stream\n0\n"), b"ok\n0\n")

    def test_stream_that_fails(self) -> None:
        self.assertEqual(self.exchange(b"pieces\n"), b"ok\n3\none")
        self.assertEqual(self.exchange(b"ok\n"), b"3\ntwo")
        self.assertEqual(self.exchange(b"ok\n"), b"error: and then it broke\n")

    def test_stream_that_the_client_stops(self) -> None:
        self.exchange(b"stream\n70000\n")
        self.assertEqual(self.exchange(b"enough\n"), b"")
        self.assertTrue(self.transport.disconnecting)

    def test_line_too_long(self) -> None:
        self.assertEqual(self.exchange(b"x" * ((1 << 20) + 2)), b"line too long\n")
        self.assertTrue(self.transport.disconnecting)

    def test_timeouts(self) -> None:
        self.exchange(b"echo\n")
        self.clock.advance(59)
        self.exchange(b"a\n")
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
        self.protocol, self.transport = self.connect()
        self.clock.advance(300)
        self.assertTrue(self.transport.disconnecting)

    def test_no_timeout_while_a_command_runs(self) -> None:
        self.exchange(b"wait\n")
        self.clock.advance(10_000)
        self.assertFalse(self.transport.disconnecting)
        gates.pop().callback(None)
        self.assertEqual(self.read(), b"ok\n")

    def test_connections_are_bounded(self) -> None:
        for _ in range(49):
            self.connect()
        self.assertIsNone(self.factory.buildProtocol(None))
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.connect()


class SocketTests(TestCase):
    def setUp(self) -> None:
        # Deeper than a socket address can hold.
        directory = Path(self.mktemp()).absolute() / ("d" * 100)
        directory.mkdir(parents=True)
        self.path = str(directory / "ctl")
        self.service = ControlService(make_context(self, reactor), self.path, reactor, COMMANDS)
        self.service.startService()
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        if self.service.running:
            await self.service.stopService()

    async def test_client_and_server(self) -> None:
        def talk() -> None:
            with ControlClient(self.path) as client:
                client.command("echo", "a", "b")
                self.assertEqual([client.read_line(), client.read_line()], ["a", "b"])
                with self.assertRaisesRegex(ControlError, "not like this"):
                    client.command("refuse")
                client.command("stream", "200000")
                self.assertEqual(client.read_text(), "x" * 200000)
                client.command("pieces")
                with self.assertRaisesRegex(ControlError, "and then it broke"):
                    client.read_text()
                with self.assertRaisesRegex(ControlError, "line breaks"):
                    client.command("echo", "a\nb", "c")
                with self.assertRaisesRegex(ControlError, "unknown command"):
                    client.command("format")
                with self.assertRaises(ControlError):
                    client.command("nothing")

        callers.clear()
        await gatherResults([deferToThread(talk) for _ in range(4)])
        self.assertEqual({caller.name for caller in callers}, {f"uid {os.getuid()}"})

    async def test_socket_file(self) -> None:
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o660)
        other = ControlService(make_context(self, reactor), self.path, reactor, COMMANDS)
        with self.assertRaises(OSError):
            other.startService()
        await self.service.stopService()
        self.assertFalse(os.path.exists(self.path))

    async def test_socket_left_behind_is_replaced(self) -> None:
        await self.service.stopService()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
            directory = os.open(os.path.dirname(self.path), os.O_PATH)
            left.bind(f"/proc/self/fd/{directory}/ctl")
            os.close(directory)
        self.assertTrue(os.path.exists(self.path))
        self.service.startService()

        def ask() -> None:
            with ControlClient(self.path) as client:
                client.command("nothing")

        await deferToThread(ask)

    async def test_no_server(self) -> None:
        await self.service.stopService()
        with self.assertRaisesRegex(ControlError, "no server is running"):
            ControlClient(self.path)


class ClientTests(SynchronousTestCase):
    """The client against servers that do not keep to the protocol."""

    def client(self, answer: bytes) -> ControlClient:
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.sendall(b"ctlv0\n" + answer)
        theirs.shutdown(socket.SHUT_WR)
        fake = SimpleNamespace(
            socket=lambda *args: ours, AF_UNIX=socket.AF_UNIX, SOCK_STREAM=socket.SOCK_STREAM
        )
        self.patch(client_module, "socket", fake)
        self.patch(client_module, "_connect", lambda sock, path: None)
        client = ControlClient("unused")
        self.addCleanup(client.close)
        return client

    def test_bad_answers(self) -> None:
        for answer in [b"", b"o", b"no\n"]:
            with self.assertRaises(ControlError):
                self.client(answer).command("x")
        for chunk in [b"5\nabc", b"-1\n", b"x\n", b"1_0\n", b"\xb2\n", b""]:
            client = self.client(b"ok\n" + chunk)
            client.command("x")
            with self.assertRaises(ControlError):
                client.read_text()

    def test_write_stream(self) -> None:
        client = self.client(b"ok\n")
        client.write_stream(io.BytesIO(b"y" * 5000))
