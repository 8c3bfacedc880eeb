"""Mail on the HTTPS port: which protocol a client gets is agreed on with ALPN (RFC 7301)."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

from twisted.trial.unittest import SkipTest

from tests.support.server import PASSWORD, LiveCase, MailServer, may_bind

IP = "127.0.0.43"


class AlpnTests(LiveCase):
    """With services for web and mail on port 443."""

    def serve(self) -> MailServer:
        if not may_bind(IP, 443):
            raise SkipTest(f"may not listen on {IP}, port 443")
        server = MailServer(
            self.mktemp(),
            accounts={"mjl": ["mjl@a.example"]},
            ip=IP,
            listener={
                "AdminHTTPS": {"Enabled": True},
                "IMAPS": {"Enabled": True, "EnabledOnHTTPS": True},
                "Submissions": {"Enabled": True, "EnabledOnHTTPS": True},
            },
        )
        return self.start(server)

    def connect(self, server: MailServer, *alpn: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(server.certificate))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        sock = context.wrap_socket(
            socket.create_connection((IP, 443), timeout=20), server_hostname="localhost"
        )
        self.addCleanup(sock.close)
        return sock

    def test_protocols(self) -> None:
        server = self.serve()
        imap = self.connect(server, "imap")
        self.assertEqual(imap.selected_alpn_protocol(), "imap")
        with closing(imap.makefile("rwb")) as stream:
            greeting = stream.readline()
            self.assertTrue(greeting.startswith(b"* OK "), greeting)
            self.assertNotIn(b"STARTTLS", greeting)
            stream.write(f'a login mjl@a.example "{PASSWORD}"\r\n'.encode())
            stream.flush()
            self.assertTrue(stream.readline().startswith(b"a OK "))
        smtp = self.connect(server, "smtp")
        self.assertEqual(smtp.selected_alpn_protocol(), "smtp")
        with closing(smtp.makefile("rwb")) as stream:
            self.assertTrue(stream.readline().startswith(b"220 "))
            stream.write(b"EHLO client.example\r\n")
            stream.flush()
            lines = []
            while not lines or lines[-1][3:4] == b"-":
                lines.append(stream.readline())
            [auth] = [line for line in lines if line[4:].startswith(b"AUTH ")]
            self.assertIn(b"PLAIN", auth)
            self.assertNotIn(b"EXTERNAL", auth)
        for alpn in ((), ("h2", "http/1.1"), ("http/1.1", "imap")):
            web = self.connect(server, *alpn)
            self.assertEqual(web.selected_alpn_protocol(), "http/1.1" if alpn else None)
            web.sendall(b"GET /admin/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertTrue(web.recv(100).startswith(b"HTTP/1.1 "))
        with self.assertRaises(ssl.SSLError):
            self.connect(server, "xmpp-client")
        self.finish(server)

    def test_not_unless_configured(self) -> None:
        if not may_bind(IP, 443):
            raise SkipTest(f"may not listen on {IP}, port 443")
        server = MailServer(
            self.mktemp(),
            accounts={"mjl": ["mjl@a.example"]},
            ip=IP,
            listener={"AdminHTTPS": {"Enabled": True}},
        )
        self.start(server)
        web = self.connect(server, "imap")
        self.assertIsNone(web.selected_alpn_protocol())
        web.sendall(b"GET /admin/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self.assertTrue(web.recv(100).startswith(b"HTTP/1.1 "))
