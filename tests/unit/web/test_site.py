"""The HTTP server of a port: routing, limits and timeouts, byte by byte."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from moxtw import log as moxtw_log
from moxtw import metrics
from moxtw.net.cid import ConnectionIds
from moxtw.ratelimit import Limiter, Window
from moxtw.web.channel import Body, Channel
from moxtw.web.request import clean_path
from moxtw.web.site import PortSite, Service, TextPage, WebHandlers, parse_host


class Echo(Resource):
    isLeaf = True

    def render(self, request: Any) -> bytes:
        parts = [b"/".join(request.prepath), b"/".join(request.postpath), request.content.read()]
        return b"|".join(parts)


class Broken(Resource):
    isLeaf = True

    def render(self, request: Any) -> bytes:
        raise ZeroDivisionError("boom")


class Later(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        return NOT_DONE_YET


class Transport(StringTransport):
    """Remembers whether the connection was closed."""

    def loseConnection(self) -> None:
        self.disconnecting = True


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.later = Later()
        self.make_site()

    def make_site(self, limiter: Limiter | None = None) -> None:
        self.site = PortSite(
            [
                Service("admin", "/admin/", Echo(), hosts=lambda host: host == "localhost"),
                Service("deep", "/admin/deep/", Echo()),
                Service("account", "/", TextPage(200, "account\n"), hosts=lambda h: h != "other"),
                Service("metrics", "/metrics", TextPage(200, "metrics\n"), exact=True),
                Service("broken", "/broken/", Broken()),
                Service("later", "/later/", self.later),
            ],
            clock=self.clock,
            ids=ConnectionIds(b"k" * 24, 1000),
            listener="test",
            limiter=limiter,
        )

    def connect(self) -> tuple[Channel, Transport]:
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport = Transport(peerAddress=IPv4Address("TCP", "192.0.2.1", 4000))
        channel.makeConnection(transport)
        return channel, transport

    def send(self, data: bytes) -> tuple[int, bytes, bytes]:
        """Status, header and body of the answer on a new connection."""
        channel, transport = self.connect()
        channel.dataReceived(data)
        return self.parse(transport.value())

    def parse(self, answer: bytes) -> tuple[int, bytes, bytes]:
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head, body

    def get(self, path: bytes, host: bytes = b"localhost") -> tuple[int, bytes, bytes]:
        return self.send(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host))

    def test_longest_path_first_and_hosts(self) -> None:
        self.assertEqual(self.get(b"/admin/x/y?q=1")[::2], (200, b"admin|x/y|"))
        self.assertEqual(self.get(b"/admin/deep/z")[::2], (200, b"admin/deep|z|"))
        self.assertEqual(self.get(b"/admin/")[::2], (200, b"admin||"))
        self.assertEqual(self.get(b"/metrics")[::2], (200, b"metrics\n"))
        self.assertEqual(self.get(b"/other")[::2], (200, b"account\n"))
        self.assertEqual(self.get(b"/admin/x", b"mail.example")[::2], (200, b"account\n"))
        status, _, body = self.get(b"/admin/x", b"other")
        self.assertEqual(status, 404)
        self.assertRegex(body, rb"^404 - page not found \(id [\w-]{22}\)\n$")

    def test_path_without_slash_redirects(self) -> None:
        status, head, _ = self.get(b"/admin/deep?a=b%20c")
        self.assertEqual(status, 303)
        self.assertIn(b"Location: /admin/deep/?a=b%20c", head)

    def test_paths_are_cleaned(self) -> None:
        for path in [
            b"/admin/./x",
            b"/x/../admin//x",
            b"/../admin/x",
            b"/admin/deep/../x",
            b"/%61dmin/x",
            b"/x/%2e%2e/admin/x",
            b"/x%2f..%2fadmin/x",
        ]:
            self.assertEqual(self.get(path)[::2], (200, b"admin|x|"), path)
        for path in [b"admin/x", b"*", b"/admin/%ff", b"/admin/%00", b"http://x/admin/"]:
            self.assertEqual(self.get(path)[0], 400, path)

    def test_hosts_that_are_refused(self) -> None:
        for head in [
            b"",
            b"Host: a.example\r\nHost: a.example\r\n",
            b"Host: \r\n",
            b"Host: a b\r\n",
            b"Host: localhost:x\r\n",
            b"Host: [::1\r\n",
            b"Host: [127.0.0.1]\r\n",
            b"Host: [::1]x\r\n",
            b"Host: \xff\r\n",
        ]:
            status = self.send(b"GET /admin/ HTTP/1.1\r\n%s\r\n" % head)[0]
            self.assertEqual(status, 400, head)
        self.assertEqual(self.send(b"GET /metrics HTTP/1.0\r\n\r\n")[0], 200)

    def test_parse_host(self) -> None:
        for text, host in {
            "LocalHost:1080": "localhost",
            "localhost.": "localhost",
            "192.0.2.1:80": "192.0.2.1",
            "[2001:DB8::0:1]:80": "2001:db8::1",
            "[::1]": "::1",
            "bücher.example": "xn--bcher-kva.example",
        }.items():
            self.assertEqual(parse_host(text), host)

    def test_web_handlers_go_before_services(self) -> None:
        test = self

        class Handlers(WebHandlers):
            def find(self, request: Any, host: str, segments: Any) -> Any:
                test.assertEqual((host, segments), ("localhost", (b"admin", b"")))

        self.site._handlers = Handlers()
        self.assertEqual(self.get(b"/admin/")[0], 200)

    def test_bodies(self) -> None:
        post = b"POST /admin/ HTTP/1.1\r\nHost: localhost\r\n"
        self.assertEqual(
            self.send(post + b"Content-Length: 5\r\n\r\nhello")[::2], (200, b"admin||hello")
        )
        chunked = post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        self.assertEqual(self.send(chunked)[::2], (200, b"admin||hello"))

    def test_body_over_the_limit_is_refused_before_it_came(self) -> None:
        post = b"POST /admin/ HTTP/1.1\r\nHost: localhost\r\n"
        for data in [
            post + b"Content-Length: 65537\r\n\r\n",
            post + b"Content-Length: 99999999999999999999\r\nExpect: 100-continue\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n%s\r\n" % (b"x" * 0x8000) * 3,
        ]:
            channel, transport = self.connect()
            channel.dataReceived(data)
            status, head, _ = self.parse(transport.value())
            self.assertEqual(status, 413)
            self.assertIn(b"Connection: close", head)
            self.assertFalse(transport.disconnecting)
            before = transport.value()
            channel.dataReceived(b"x" * 100_000)
            self.clock.advance(2)
            self.assertTrue(transport.disconnecting)
            self.assertEqual(transport.value(), before)

    def test_malformed_requests(self) -> None:
        for data in [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        ]:
            self.assertEqual(self.send(data)[0], 400, data)
        for data in [
            b"GET /%s HTTP/1.1\r\n" % (b"x" * 20000),
            b"GET / HTTP/1.1\r\nX: %s\r\n" % (b"x" * 20000),
        ]:
            self.assertEqual(self.send(data)[0], 431)
        data = b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"x" * 1000) * 40
        self.assertEqual(self.send(data)[0], 400)

    def test_slow_header(self) -> None:
        channel, transport = self.connect()
        for _ in range(29):
            channel.dataReceived(b"G")
            self.clock.advance(1)
        self.assertEqual(transport.value(), b"")
        self.clock.advance(1)
        self.assertTrue(transport.disconnecting)
        channel, transport = self.connect()
        channel.dataReceived(b"GET / HTTP/1.1\r\n")
        self.clock.advance(30)
        self.assertEqual(self.parse(transport.value())[0], 408)
        self.clock.advance(2)
        self.assertTrue(transport.disconnecting)

    def test_slow_body(self) -> None:
        post = b"POST /admin/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
        channel, transport = self.connect()
        channel.dataReceived(post)
        for _ in range(30):
            channel.dataReceived(b"x" * 1024)
            self.clock.advance(1)
        self.assertEqual(transport.value(), b"")
        for _ in range(30):
            channel.dataReceived(b"x" * 500)
            self.clock.advance(1)
        self.assertEqual(self.parse(transport.value())[0], 408)

    def test_idle_connection(self) -> None:
        channel, transport = self.connect()
        channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.clock.advance(64)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(transport.disconnecting)

    def test_keep_alive_and_pipelining(self) -> None:
        channel, transport = self.connect()
        channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        self.assertEqual(transport.value().count(b"HTTP/1.1 200 OK"), 3)

    def test_exception_answers_500(self) -> None:
        before = metrics.panic_total.labels("http")._value.get()
        status, _, body = self.get(b"/broken/")
        self.assertEqual(status, 500)
        self.assertNotIn(b"boom", body)
        self.assertRegex(body, rb"\(id [\w-]{22}\)\n$")
        self.assertEqual(metrics.panic_total.labels("http")._value.get(), before + 1)

    def test_rate_limit(self) -> None:
        self.make_site(Limiter([Window(60, (3, 9, 27))]))
        self.assertEqual([self.get(b"/metrics")[0] for _ in range(5)], [200] * 3 + [429] * 2)
        self.clock.advance(60)
        self.assertEqual(self.get(b"/metrics")[0], 200)

    def test_shutdown_waits_for_requests(self) -> None:
        channel, transport = self.connect()
        _, idle = self.connect()
        channel.dataReceived(b"GET /later/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(self.site.shutdown(), 1)
        self.assertTrue(idle.disconnecting)
        self.assertFalse(transport.disconnecting)
        (request,) = self.later.requests
        request.write(b"done")
        request.finish()
        self.assertTrue(transport.disconnecting)

    def test_access_log_and_metrics(self) -> None:
        events: list[Any] = []
        moxtw_log.globalLogPublisher.addObserver(events.append)
        self.addCleanup(moxtw_log.globalLogPublisher.removeObserver, events.append)
        self.addCleanup(moxtw_log.levels.remove, "http")
        moxtw_log.levels.set("http", "debug")
        before = self.count()
        channel, _ = self.connect()
        channel.dataReceived(b"GET /metrics?x HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\n")
        self.clock.advance(3)
        channel.dataReceived(b"\r\n")
        (line,) = [
            moxtw_log.format_logfmt(e) for e in events if e.get("moxtw_text") == "http request"
        ]
        for part in [
            "l=debug",
            "pkg=http",
            "cid=",
            "handler=metrics",
            "method=get",
            "url=/metrics?x",
            "statuscode=200",
            "remoteaddr=192.0.2.1",
            "tlsinfo=plain",
            "useragent=test",
            "size=8",
        ]:
            self.assertIn(part, line)
        self.assertEqual(self.count(), before + 1)

    def count(self) -> float:
        labels = {"handler": "metrics", "proto": "http", "method": "get", "code": "200"}
        name = "mox_httpserver_response_duration_seconds_count"
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


class PathTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=40))
    def test_clean_path_never_leaves_the_root(self, raw: bytes) -> None:
        segments = clean_path(b"/" + raw)
        if segments is None:
            return
        self.assertNotIn(b"..", segments)
        self.assertNotIn(b".", segments)
        self.assertNotIn(b"", segments[:-1])


class BodyTests(TestCase):
    async def test_large_body_goes_to_a_file(self) -> None:
        body = Body(10_000_000, self.mktemp_dir())
        pieces = [bytes([i]) * 50_000 for i in range(30)]
        waits = 0
        for piece in pieces:
            wait = body.write(piece)
            if wait is not None:
                waits += 1
                await wait
        wait = body.finish()
        assert wait is not None
        await wait
        self.assertTrue(body.in_file)
        self.assertGreater(waits, 1)
        body.seek(0)
        self.assertEqual(body.read(), b"".join(pieces))
        body.close()

    async def test_pieces_that_come_while_one_is_written_keep_their_order(self) -> None:
        body = Body(10_000_000, self.mktemp_dir())
        pieces = [bytes([i]) * 300_000 for i in range(5)]
        for piece in pieces:
            body.write(piece)
        await body.finish()
        body.seek(0)
        self.assertEqual(body.read(), b"".join(pieces))
        body.close()

    async def test_closed_while_written(self) -> None:
        body = Body(10_000_000, self.mktemp_dir())
        body.write(b"x" * 300_000)
        wait = body.write(b"x" * 300_000)
        body.close()
        assert wait is not None
        await wait
        file: Any = body._file
        self.assertIsInstance(file, io.IOBase)
        self.assertTrue(file.closed)

    def mktemp_dir(self) -> str:
        from pathlib import Path

        path = Path(self.mktemp())
        path.mkdir()
        return str(path)
