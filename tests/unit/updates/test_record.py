"""Versions and the record that announces them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.updates.record import RecordError, Version, find_record, parse_version

NUMBERS = st.integers(0, 999_999_999)


class VersionTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for text in ("1.2.3", "v1.2.3", "v1.2.3-5-gabc", "1.2.3+x", "1.2.3rc1", "1.2.3.dev4"):
            self.assertEqual(parse_version(text), Version(1, 2, 3))
        for text in ("", "v", "1.2", "1.2.x", "1.2.3 ", "-1.2.3", "1.2.3\n", "1.2.1234567890",
                     "\u0661.2.3", "(devel)"):  # fmt: skip
            self.assertRaises(ValueError, parse_version, text)

    @given(st.tuples(NUMBERS, NUMBERS, NUMBERS))
    def test_as_text_and_back(self, numbers: tuple[int, int, int]) -> None:
        self.assertEqual(parse_version(str(Version(*numbers))), numbers)

    def test_order(self) -> None:
        texts = ["0.0.1", "0.0.2", "0.0.10", "0.1.0", "0.9.9", "1.0.0", "10.0.0"]
        versions = [parse_version(text) for text in texts]
        self.assertEqual(sorted([*versions[3:], *versions[:3]]), versions)


class RecordTests(SynchronousTestCase):
    def test_records(self) -> None:
        for text in (
            "v=UPDATES0; l=v0.1.2",
            "v=updates0;l=0.1.2",
            " v=UPDATES0 ; x=y;  L=v0.1.2 ;",
        ):
            self.assertEqual(find_record(["v=spf1 -all", text, ""]), (0, 1, 2))

    def test_errors(self) -> None:
        for texts, error in (
            ([], "no record"),
            (["v=UPDATES1; l=v1.0.0", "l=v1.0.0"], "no record"),
            (["v=UPDATES0; l=v1.0.0"] * 2, "several"),
            (["v=UPDATES0"], "no latest version"),
            (["v=UPDATES0; x=l=v1.0.0"], "no latest version"),
            (["v=UPDATES0; l=v1.0.0; L=v2.0.0"], "'l' twice"),
            (["v=UPDATES0; l=new"], "bad version 'new'"),
            (["v=UPDATES0; l"], "'l' without value"),
        ):
            with self.assertRaisesRegex(RecordError, error):
                find_record(texts)

    @given(st.lists(st.text() | st.text().map("v=UPDATES0;".__add__)))
    def test_any(self, texts: list[str]) -> None:
        try:
            found = find_record(texts)
        except RecordError:
            return
        self.assertIsInstance(found, Version)
