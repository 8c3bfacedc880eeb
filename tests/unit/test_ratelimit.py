"""Rate limits."""

from twisted.trial.unittest import SynchronousTestCase

from moxtw.ratelimit import Limiter, Window, ip_classes


class ClassesTests(SynchronousTestCase):
    def test_classes(self):
        self.assertEqual(ip_classes("10.1.2.77"), ("10.1.2.77", "10.1.2.64", "10.1.0.0"))
        self.assertEqual(
            ip_classes("2001:db8:1:2:3::4"), ("2001:db8:1:2::", "2001:db8:1::", "2001:db8::")
        )
        self.assertEqual(ip_classes("::ffff:10.1.2.77"), ip_classes("10.1.2.77"))

    def test_garbage(self):
        self.assertRaises(ValueError, ip_classes, "x")


class LimiterTests(SynchronousTestCase):
    def test_refused_event_counts_nothing(self):
        limiter = Limiter([Window(60, (2, 3, 4))])
        self.assertTrue(limiter.add("10.0.0.1", 0, 2))
        self.assertFalse(limiter.add("10.0.0.1", 0))
        self.assertTrue(limiter.add("10.0.0.2", 0))
        self.assertFalse(limiter.add("10.0.0.3", 0))  # the /26 is full
        self.assertTrue(limiter.add("10.0.1.1", 0))
        self.assertFalse(limiter.add("10.0.2.1", 0))  # the /21 is full

    def test_windows_are_aligned(self):
        limiter = Limiter([Window(60, (1, 1, 1))])
        self.assertTrue(limiter.add("10.0.0.1", 59))
        self.assertFalse(limiter.add("10.0.0.1", 59.9))
        self.assertTrue(limiter.add("10.0.0.1", 60))

    def test_success_gives_back_own_count_only(self):
        limiter = Limiter([Window(60, (5, 5, 9))])
        limiter.add("10.0.0.1", 0, 3)
        limiter.add("10.0.0.2", 0, 2)
        limiter.reset("10.0.0.1", 0)
        self.assertTrue(limiter.can_add("10.0.0.3", 0, 3))
        self.assertFalse(limiter.can_add("10.0.0.3", 0, 4))

    def test_closing_gives_back(self):
        limiter = Limiter([Window(None, (1, 9, 9))])
        self.assertTrue(limiter.add("::1", 0))
        self.assertFalse(limiter.add("::1", 1e9))
        limiter.sub("::1")
        self.assertTrue(limiter.add("::1", 0))

    def test_exempt_networks(self):
        limiter = Limiter([Window(60, (1, 1, 1))], ["127.0.0.0/8"])
        self.assertTrue(all(limiter.add("127.0.0.1", 0) for _ in range(9)))
        self.assertTrue(limiter.add("10.0.0.1", 0))
        self.assertFalse(limiter.add("10.0.0.1", 0))
