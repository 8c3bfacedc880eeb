"""The dialogue of a connection: greeting, states, framing, ends."""

from __future__ import annotations

from tests.unit.imap.support import IMAPTestCase


class GreetingTests(IMAPTestCase):
    def test_greeting_carries_capabilities(self) -> None:
        client = self.connect()
        [line] = client.lines()
        self.assertTrue(line.startswith("* OK [CAPABILITY IMAP4rev2 IMAP4rev1 "))
        self.assertTrue(line.endswith("] moxtw imap"))

    def test_login(self) -> None:
        client = self.connect()
        client.output()
        self.transcript(
            client,
            """
            C: a LOGIN me@example.org "secret password"
            S: a OK [CAPABILITY …] welcome
            C: b NOOP
            S: b OK NOOP done
            C: c LOGIN me@example.org "secret password"
            S: c NO LOGIN is not possible in this state
            C: d LOGOUT
            S: * BYE see you
            S: d OK LOGOUT done
            """,
        )
        self.assertTrue(client.closed)
