"""The way in for content: what is parsed where."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.store import make_store, now


class ParsingTests(SynchronousTestCase):
    """The reactor parses what is parsed quickly; a thread does what takes long."""

    def setUp(self) -> None:
        self.store = make_store(self)
        self.jobs = 0
        disk = self.store.disk

        def counting(fn):
            self.jobs += 1
            return disk(fn)

        self.store.disk = counting

    def threads(self, data: bytes) -> int:
        """How many jobs for threads a message makes; its bytes must come through."""
        self.jobs = 0
        spool = self.store.contents.spool()
        self.assertIsNone(spool.write(data))
        received = now(Deferred.fromCoroutine(spool.finish()))
        jobs = self.jobs
        made = now(self.store.contents.from_bytes(data))
        self.assertEqual(self.jobs, 2 * jobs)
        for spooled in (received, made):
            self.assertEqual((spooled.size, spooled.data), (len(data), data))
        self.assertEqual(received.digest, made.digest)
        self.assertEqual(received.parsed, made.parsed)
        return jobs

    def test_ordinary_messages(self) -> None:
        header = b"From: <a@b.example>\r\nContent-Type: text/plain\r\n\r\n"
        self.assertEqual(self.threads(header + b"text\r\n"), 0)
        self.assertEqual(self.threads(header + b"text\r\n" * 9000), 0)

    def test_many_parts(self) -> None:
        header = b"Content-Type: Multipart/mixed; boundary=x\r\n\r\n"
        self.assertEqual(self.threads(header + b"--x\r\n\r\na\r\n" * 100), 0)
        self.assertEqual(self.threads(header + b"--x\r\n\r\na\r\n" * 6000), 1)

    def test_message_within(self) -> None:
        header = b"Content-Type: message/rfc822\r\n\r\n"
        self.assertEqual(self.threads(header + b"To: " + b"(" * 60_000 + b"\r\n\r\n"), 1)

    def test_long_header(self) -> None:
        self.assertEqual(self.threads(b"To: " + b"(" * 5000 + b"\r\n\r\n"), 0)
        self.assertEqual(self.threads(b"To: " + b"(" * 60_000 + b"\r\n\r\n"), 1)
        self.assertEqual(self.threads(b"a:b\r\n" * 12_000), 1)
