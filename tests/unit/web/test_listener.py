"""HTTP ports out of the configuration: services, hosts, configured sites."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.static import Static
from moxtw.config.testing import static_from
from moxtw.queue.submit import Submitter
from moxtw.ratelimit import failed_auth_limiter
from moxtw.service.policy import ConfigDirectory
from moxtw.store.auth import Authenticator
from moxtw.web.listener import HTTPPort, WebContext, make_ports
from moxtw.web.static import parse_range
from tests.support.admin import make_admin_context

STATIC = """\
DataDir: data
LogLevel: error
Hostname: mail.example.org
AdminPasswordFile: adminpasswd
Listeners:
	local:
		IPs:
			- 127.0.0.1
		Hostname: box.example.org
		AdminHTTP:
			Enabled: true
			Port: 1080
		AccountHTTP:
			Enabled: true
			Port: 1082
		WebAPIHTTP:
			Enabled: true
			Port: 1080
			Forwarded: true
		MetricsHTTP:
			Enabled: true
			Port: 1081
		WebserverHTTP:
			Enabled: true
			Port: 1080
Postmaster:
	Account: me
	Mailbox: Postmaster
"""

DYNAMIC = """\
Domains:
	example.org:
		ClientSettingsDomain: mail.example.org
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
WebDomainRedirects:
	old.example.org: example.org
WebHandlers:
	-
		LogName: files
		Domain: localhost
		PathRegexp: ^/files/
		DontRedirectPlainHTTP: true
		WebStatic:
			StripPrefix: /files/
			Root: web
			ListFiles: true
			ResponseHeaders:
				X-Served: files
	-
		Domain: localhost
		PathRegexp: ^/closed/
		DontRedirectPlainHTTP: true
		WebStatic:
			StripPrefix: /closed/
			Root: web
	-
		Domain: localhost
		PathRegexp: ^/secure/
		WebStatic:
			Root: web
	-
		Domain: localhost
		PathRegexp: ^/manage/
		DontRedirectPlainHTTP: true
		WebInternal:
			BasePath: /manage/
			Service: admin
"""


class ListenerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC, STATIC)
        self.static: Static = self.ctx.config.static
        limiter = failed_auth_limiter()
        web = WebContext(
            self.ctx,
            Authenticator(
                self.ctx.store, ConfigDirectory(self.ctx.config), limiter, self.ctx.clock.seconds
            ),
            Submitter(self.ctx.store, self.ctx.config),
            limiter,
            ["127.0.0.0/8"],
        )
        self.ports = {p.port: p for p in make_ports(web, "local", self.static.listeners["local"])}
        root = self.static.directory / "web"
        root.mkdir()
        (root / "sub").mkdir()
        (root / "a b.txt").write_bytes(b"0123456789")
        (root / "sub" / "index.html").write_bytes(b"<p>index</p>")
        os.utime(root / "a b.txt", (1_700_000_000, 1_700_000_000))

    def get(
        self,
        path: str,
        host: str = "localhost",
        port: int = 1080,
        more: str = "",
        method: str = "GET",
    ) -> tuple[int, dict[str, str], bytes]:
        served: HTTPPort = self.ports[port]
        channel = served.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        assert channel is not None
        transport = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000))
        channel.makeConnection(transport)
        request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"
        channel.dataReceived(request.encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        return int(lines[0].split(" ")[1]), headers, body

    def test_services_by_port_and_host(self) -> None:
        self.assertEqual(sorted(self.ports), [1080, 1081, 1082])
        for host in ["localhost", "127.0.0.1:1080", "[::1]:1080", "box.example.org"]:
            self.assertEqual(self.get("/admin/", host)[0], 200, host)
        for host in ["mail.example.org", "example.org", "other.example"]:
            self.assertEqual(self.get("/admin/", host)[0], 404, host)
        self.assertEqual(self.get("/webapi/v0/", "mail.example.org")[0], 200)
        self.assertEqual(self.get("/webapi/v0/", "example.org")[0], 404)
        self.assertEqual(self.get("/admin")[1]["location"], "/admin/")
        self.assertEqual(self.get("/", port=1082)[0], 200)
        self.assertEqual(self.get("/", "mail.example.org", 1082)[0], 200)
        self.assertEqual(self.get("/", "example.org", 1082)[0], 404)

    def test_metrics(self) -> None:
        status, headers, body = self.get("/metrics", "any.example", 1081)
        self.assertEqual((status, headers["content-type"][:10]), (200, "text/plain"))
        self.assertIn(b"mox_panic_total", body)
        status, _, body = self.get("/", "any.example", 1081)
        self.assertEqual(status, 200)
        self.assertIn(b'href="/metrics"', body)
        self.assertEqual(self.get("/other", "any.example", 1081)[0], 404)
        self.assertEqual(self.get("/metrics", "any.example", 1081, method="POST")[0], 405)

    def test_client_behind_a_proxy_that_does_not_name_it(self) -> None:
        more = "Authorization: Basic eDp5\r\nContent-Length: 0\r\n"
        self.assertEqual(self.get("/webapi/v0/Send", more=more, method="POST")[0], 500)

    def test_domain_redirect(self) -> None:
        status, headers, _ = self.get("/x%20y?q=1", "old.example.org")
        self.assertEqual((status, headers["location"]), (308, "https://example.org/x%20y?q=1"))

    def test_plain_http_redirects_to_https(self) -> None:
        status, headers, _ = self.get("/secure/x")
        self.assertEqual((status, headers["location"]), (308, "https://localhost/secure/x"))

    def test_internal_service_elsewhere(self) -> None:
        self.assertEqual(self.get("/manage/api/")[0], 200)
        self.assertEqual(self.get("/manage/api/Domains", method="POST")[0], 200)

    def test_static_files(self) -> None:
        status, headers, body = self.get("/files/a%20b.txt")
        self.assertEqual((status, body), (200, b"0123456789"))
        self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")
        self.assertEqual(headers["content-length"], "10")
        self.assertEqual(headers["x-served"], "files")
        self.assertEqual(headers["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT")
        status, headers, body = self.get("/files/a%20b.txt", method="HEAD")
        self.assertEqual((status, headers["content-length"], body), (200, "10", b""))
        since = "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
        self.assertEqual(self.get("/files/a%20b.txt", more=since)[0], 304)
        self.assertEqual(self.get("/files/sub/")[2], b"<p>index</p>")
        status, headers, _ = self.get("/files/sub")
        self.assertEqual((status, headers["location"]), (307, "/files/sub/"))
        self.assertEqual(self.get("/files/none")[0], 404)
        self.assertEqual(self.get("/files/a%20b.txt/")[0], 404)
        self.assertEqual(self.get("/files/" + "x" * 300)[0], 404)
        self.assertEqual(self.get("/files/a%20b.txt", method="POST")[0], 405)
        self.assertEqual(self.get("/closed/")[0], 403)

    def test_ranges(self) -> None:
        for value, status, content_range, body in [
            ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
            ("bytes=7-", 206, "bytes 7-9/10", b"789"),
            ("bytes=-3", 206, "bytes 7-9/10", b"789"),
            ("bytes=0-99", 206, "bytes 0-9/10", b"0123456789"),
            ("bytes=10-", 416, "bytes */10", b""),
            ("bytes=0-1,3-4", 200, None, b"0123456789"),
            ("lines=1-2", 200, None, b"0123456789"),
        ]:
            got = self.get("/files/a%20b.txt", more=f"Range: {value}\r\n")
            self.assertEqual(
                (got[0], got[1].get("content-range"), got[2]), (status, content_range, body)
            )

    def test_parse_range(self) -> None:
        for header in [b"bytes=", b"bytes=-", b"bytes=a-b", b"bytes=5-2", b"bytes=" + b"9" * 30]:
            self.assertIsNone(parse_range(header, 10), header)
        self.assertEqual(parse_range(b"bytes=-0", 10), (0, 0))
        self.assertEqual(parse_range(b"bytes=-99", 10), (0, 10))

    def test_listing(self) -> None:
        (self.static.directory / "web" / "<b>.txt").write_bytes(b"")
        (self.static.directory / "web" / "javascript:x").write_bytes(b"")
        status, _, body = self.get("/files/")
        self.assertEqual(status, 200)
        self.assertIn(b'<a href="./a%20b.txt">a b.txt</a>', body)
        self.assertIn(b'<a href="./sub/">sub/</a>', body)
        self.assertIn(b"&lt;b&gt;.txt", body)
        self.assertNotIn(b'href="javascript', body)

    def test_nothing_outside_of_the_root(self) -> None:
        secret = self.static.directory / "mox.conf"
        self.assertTrue(secret.exists())
        for path in [
            "/files/../mox.conf",
            "/files/%2e%2e/mox.conf",
            "/files/..%2fmox.conf",
            "/files/sub/../../mox.conf",
            f"/files//{Path(secret)}",
        ]:
            self.assertEqual(self.get(path)[0], 404, path)

    def test_handlers_follow_the_configuration(self) -> None:
        from dataclasses import replace

        from twisted.internet.defer import Deferred

        def edit(dynamic: Any) -> Any:
            return replace(dynamic, web_handlers=(), web_domain_redirects={})

        self.successResultOf(Deferred.fromCoroutine(self.ctx.change(edit)))
        self.assertEqual(self.get("/files/a%20b.txt")[0], 404)

    def test_rate_limit_is_off_where_it_is_said(self) -> None:
        text = STATIC.replace("Port: 1081", "Port: 1083") + ""
        static = static_from(
            text.replace(
                "\t\tWebserverHTTP:\n\t\t\tEnabled: true\n",
                "\t\tWebserverHTTP:\n\t\t\tEnabled: true\n\t\t\tRateLimitDisabled: true\n",
            )
        )
        limiter = failed_auth_limiter()
        authenticator = Authenticator(
            self.ctx.store, ConfigDirectory(self.ctx.config), limiter, self.ctx.clock.seconds
        )
        web = WebContext(
            self.ctx, authenticator, Submitter(self.ctx.store, self.ctx.config), limiter
        )
        ports = {p.port: p.site for p in make_ports(web, "local", static.listeners["local"])}
        self.assertIsNone(ports[1080]._limiter)
        self.assertIsNotNone(ports[1083]._limiter)
