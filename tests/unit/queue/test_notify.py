"""Notifications about queued messages."""

from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.testing import static_from
from moxtw.mail.dsn import FAILED
from moxtw.mail.dsnrequest import NO_REQUEST
from moxtw.queue import notify
from moxtw.queue.attempt import Outcome
from moxtw.store.queuerecord import Queued


class ComposeTests(SynchronousTestCase):
    def test_odd_message_id_does_not_keep_the_sender_from_being_told(self) -> None:
        for message_id, shown in (
            ("<1@example.org>", b"References: <1@example.org>\r\n"),
            ("no id at all", b""),
            ("", b""),
        ):
            message = _message(message_id)
            got = notify.compose(
                static_from(),
                message,
                Outcome(None, text="no route"),
                b"Subject: hi\r\n\r\n",
                1_750_000_000_000_000,
                FAILED,
            )
            self.assertIn(shown or b"Subject: mail delivery failed\r\n", got.data)
            self.assertEqual(b"References:" in got.data, bool(shown))


def _message(message_id: str) -> Queued:
    return Queued(
        id=1,
        base_id=0,
        queued=1_750_000_000_000_000,
        sender_account="me",
        sender_localpart="me",
        sender_domain="example.org",
        recipient_localpart="b",
        recipient_domain="example.net",
        from_id="",
        attempts=1,
        max_attempts=0,
        last_attempt=None,
        dialed_ips={},
        results=[],
        has8bit=False,
        smtputf8=False,
        size=20,
        message_id=message_id,
        subject="hi",
        is_dmarc_report=False,
        is_tls_report=False,
        transport="",
        require_tls=None,
        future_release="",
        extra={},
        dsn=NO_REQUEST,
        hold=False,
        next_attempt=0,
        delivering=False,
        source_id=0,
    )
