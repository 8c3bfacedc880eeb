"""What the protocol trace shows at each level, and handshake errors in metrics."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from moxtw.log import format_logfmt, levels
from moxtw.smtp.tlserrors import handshake_error
from tests.unit.smtp.test_auth import b64, plain
from tests.unit.smtp.test_transaction import Base


class TraceTests(Base):
    def trace(self, level: str) -> str:
        levels.configure("error", {"smtpserver": level})
        self.addCleanup(levels.configure, "info")
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        peer = self.hello("submission")
        peer.transcript(f"""
        C: AUTH PLAIN {plain("me@example.org")}
        S: 235 *
        C: MAIL FROM:<me@example.org>
        S: 250 *
        C: RCPT TO:<b@example.net>
        S: 250 *
        C: DATA
        S: 354 *
        C: From: <me@example.org>\\r\\n\\r\\nthe secret text\\r\\n.
        S: 250 *
        """)
        other = self.hello("submission")
        other.transcript(f"""
        C: AUTH LOGIN
        S: 334 *
        C: {b64("me@example.org")}
        S: 334 *
        C: {b64("wrong password")}
        S: 535 *
        """)
        return "\n".join(format_logfmt(event) for event in events if "moxtw_text" in event)

    def test_levels(self) -> None:
        secrets = (plain("me@example.org"), b64("me@example.org"), b64("wrong password"))
        for level, shown, credentials, content in (
            ("debug", False, False, False),
            ("trace", True, False, False),
            ("traceauth", True, True, False),
            ("tracedata", True, True, True),
        ):
            text = self.trace(level)
            with self.subTest(level=level):
                self.assertEqual("C: MAIL FROM:<me@example.org>" in text, shown)
                self.assertEqual("S: 250 2.1.0" in text, shown)
                for secret in secrets:
                    self.assertEqual(secret in text, credentials)
                self.assertEqual("the secret text" in text, content)
                if shown:
                    self.assertRegex(text, r"cid=[0-9a-f]+ pkg=smtpserver")

    def test_what_hidden_parts_look_like(self) -> None:
        text = self.trace("trace")
        self.assertIn('m="C: ***"', text)
        self.assertIn('m="C: ..."', text)


class HandshakeErrorTests(SynchronousTestCase):
    def test_labels(self) -> None:
        for exc, label in (
            (ConnectionDone(), "eof"),
            (ConnectionLost(), "eof"),
            (SSL.Error([("SSL routines", "", "unsupported protocol")]), "unsupportedversions"),
            (SSL.Error([("SSL routines", "", "wrong version number")]), "nottls"),
            (SSL.Error([("SSL routines", "", "http request")]), "nottls"),
            (SSL.Error([("SSL routines", "", "no shared cipher")]), "other"),
            (SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]), "alert-48-unknown-ca"),
            (
                SSL.Error([("SSL routines", "", "ssl/tls alert bad certificate")]),
                "alert-42-bad-certificate",
            ),
            (SSL.Error([]), "other"),
            (ValueError(), "other"),
        ):
            with self.subTest(label=label):
                self.assertEqual(handshake_error(Failure(exc)), label)
