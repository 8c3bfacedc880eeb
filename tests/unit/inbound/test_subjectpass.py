"""Tokens for subjects."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.inbound import subjectpass

NOW = 1_750_000_000
KEY = b"0123456789abcdef"


class TokenTests(SynchronousTestCase):
    def test_good_for_its_period(self) -> None:
        token = subjectpass.generate("a@example.net", KEY, NOW)
        self.assertRegex(token, r"^\(pass:[A-Za-z0-9_-]{22}\)$")
        for subject in (token, f"Re: hi {token}", f"(pass:no) (pass:{'x' * 22}) {token} x"):
            for age in (0, 100, 3600):
                self.assertTrue(
                    subjectpass.verify(subject, "a@example.net", KEY, NOW + age, 3600)
                )
        self.assertFalse(subjectpass.verify(token, "a@example.net", KEY, NOW + 4200, 3600))

    def test_nobody_elses(self) -> None:
        token = subjectpass.generate("a@example.net", KEY, NOW)
        self.assertFalse(subjectpass.verify(token, "b@example.net", KEY, NOW, 3600))
        self.assertFalse(subjectpass.verify(token, "a@example.net", KEY[::-1], NOW, 3600))
        later = subjectpass.generate("a@example.net", KEY, NOW + 3600)
        self.assertFalse(subjectpass.verify(later, "a@example.net", KEY, NOW, 3600))

    @settings(max_examples=200)
    @given(st.text(max_size=200) | st.text("(pass:)AZaz09-_", max_size=100))
    def test_any_subject(self, subject: str) -> None:
        self.assertFalse(subjectpass.verify(subject, "a@example.net", KEY, NOW, 3600))
