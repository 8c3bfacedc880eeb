"""Logging."""

from io import StringIO

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from moxtw import log


class LogfmtTests(SynchronousTestCase):
    def setUp(self):
        self.out = StringIO()
        observer = log.LogfmtObserver(self.out)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        before = log.levels.names()
        self.addCleanup(log.levels.configure, before.pop(""), before)
        log.levels.configure("info", {"chatty": "trace"})

    def test_line(self):
        log.Logger("testpkg", cid=255).info("hello there", a=1, b="x y", c=None, d=True)
        self.assertEqual(
            self.out.getvalue(), 'l=info m="hello there" cid=ff pkg=testpkg a=1 b="x y" d=true\n'
        )

    def test_values_cannot_forge_lines(self):
        log.Logger("testpkg").info("x", a='1"\nl=error m=forged')
        self.assertEqual(self.out.getvalue().count("\n"), 1)
        self.assertIn(r'a="1\"\nl=error m=forged"', self.out.getvalue())

    def test_levels(self):
        log.Logger("quiet").debug("no")
        log.Logger("chatty").debug("yes")
        self.assertNotIn("no", self.out.getvalue())
        self.assertIn("m=yes", self.out.getvalue())

    def test_trace_hides_credentials_and_data(self):
        logger = log.Logger("chatty")
        logger.trace("< ", b"NOOP")
        logger.trace("< ", b"secret", log.TRACEAUTH)
        logger.trace("< ", b"body", log.TRACEDATA)
        text = self.out.getvalue()
        self.assertIn("NOOP", text)
        self.assertNotIn("secret", text)
        self.assertNotIn("body", text)

    def test_failure_has_traceback_and_counts(self):
        before = log.metrics.panic_total.labels("testpkg")._value.get()
        try:
            raise RuntimeError("boom")
        except RuntimeError as exc:
            log.Logger("testpkg").failure("unexpected", exc)
        self.assertIn("\n\t", self.out.getvalue())
        self.assertIn("RuntimeError", self.out.getvalue())
        self.assertEqual(log.metrics.panic_total.labels("testpkg")._value.get(), before + 1)


class InstalledTests(SynchronousTestCase):
    def test_lines_of_a_turn_are_written_together(self):
        class Reactor:
            running = True
            calls: list = []

            def callFromThread(self, fn):
                self.calls.append(fn)

            def callLater(self, seconds, fn):
                self.calls.append(fn)

        out = StringIO()
        reactor = Reactor()
        observer = log.LogfmtObserver(out, reactor)
        observer.install()
        self.addCleanup(observer.uninstall)
        logger = log.Logger("testpkg", a=1)
        logger.info("one", b="x y")
        logger.info("two")
        self.assertEqual((out.getvalue(), len(reactor.calls)), ("", 1))
        reactor.calls.pop()()
        self.assertEqual(
            out.getvalue(), 'l=info m=one pkg=testpkg a=1 b="x y"\nl=info m=two pkg=testpkg a=1\n'
        )
        reactor.running = False
        logger.info("three")
        self.assertIn("three", out.getvalue())
