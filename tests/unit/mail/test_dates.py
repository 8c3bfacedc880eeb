"""Tests of moxtw.mail.dates."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.mail.dates import format_date, parse_date


def _us(*fields: int) -> int:
    return int(datetime(*fields, tzinfo=UTC).timestamp()) * 1_000_000


class ParseDateTests(SynchronousTestCase):
    """What mail programs write."""

    def test_table(self) -> None:
        plain = _us(2024, 2, 29, 10, 5, 7)
        for text, expected in [
            ("Thu, 29 Feb 2024 10:05:07 +0000", (plain, 0)),
            ("29 Feb 2024 10:05:07 +0000", (plain, 0)),
            ("  Thu,29 feb 2024 12:05:07 +0200 (CEST)", (plain, 120)),
            ("Thu, 29 Feb 2024 05:05:07 -0500", (plain, -300)),
            ("Thu, 29 Feb 2024 05:05:07 EST", (plain, -300)),
            ("Thu, 29 Feb 2024 10:05:07 GMT", (plain, 0)),
            ("Thu, 29 Feb 2024 12:05:07 GMT+0200", (plain, 120)),
            ("Thu, 29 Feb 2024 10:05:07 Z", (plain, 0)),
            ("Thu, 29 Feb 2024 10:05:07 XYZ", (plain, 0)),
            ("Thu, 29 Feb 2024 10:05:07", (plain, 0)),
            ("Thu, 29 Feb 2024 10:05:07 -0000", (plain, 0)),
            ("Thu, 29 Feb 24 10:05:07 +0000", (plain, 0)),
            ("Thu, 29 Feb 124 10:05:07 +0000", (plain, 0)),
            ("Thursday, 29-Feb-2024 10:05:07 +0000", (plain, 0)),
            ("Thu, 29 February 2024 10:05:07 +00:00", (plain, 0)),
            ("Thu (day), 29 (x) Feb 2024 10:05:07 +0000", (plain, 0)),
            ("Thu, 29 Feb 2024 10.05.07 +0000", (plain, 0)),
            ("Thu, 29 Feb 2024 10:05:07 AM", (plain, 0)),
            ("Thu, 29 Feb 2024 10:05:07 PM", (plain + 12 * 3600 * 10**6, 0)),
            ("Thu Feb 29 10:05:07 2024", (plain, 0)),
            ("Thu Feb 29 05:05:07 EST 2024", (plain, -300)),
            ("2024-02-29T10:05:07Z", (plain, 0)),
            ("2024-02-29 12:05:07.123 +02:00", (plain, 120)),
            ("29 Feb 2024 10:05 +0000", (plain - 7 * 10**6, 0)),
            ("29 Feb 2024", (_us(2024, 2, 29), 0)),
            ("1 Jan 70 00:00:00 +0000", (0, 0)),
            ("1 Jan 1969 00:00:00 +0000", (-365 * 86400 * 10**6, 0)),
            ("31 Dec 2016 23:59:60 +0000", (_us(2016, 12, 31, 23, 59, 59), 0)),
            ("", None),
            ("now", None),
            ("32 Jan 2024 10:00:00 +0000", None),
            ("10 Foo 2024 10:00:00 +0000", None),
            ("10 Jan 2024 25:00:00 +0000", (_us(2024, 1, 10, 0, 0, 0), 0)),
            ("10 Jan 2024 10:60:07 +0100", (_us(2024, 1, 9, 23, 0, 0), 60)),
            ("10 Jan 1024 10:00:00 +0000", None),
            ("0 Jan 2024 10:00:00 +0000", None),
            ("2024-13-01T10:05:07Z", None),
            ("Thu Foo 29 10:05:07 2024", None),
        ]:
            self.assertEqual(parse_date(text), expected, text)

    def test_absurd_zone_counts_as_utc(self) -> None:
        self.assertEqual(parse_date("29 Feb 2024 10:05:07 +9999"), (_us(2024, 2, 29, 10, 5, 7), 0))

    @given(
        st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)),
        st.integers(-12 * 60, 14 * 60),
    )
    @settings(max_examples=150, deadline=None)
    def test_formatted_dates_are_read_again(self, when: datetime, zone: int) -> None:
        when = when.replace(microsecond=0, tzinfo=UTC)
        us = int(when.timestamp()) * 1_000_000
        text = format_date(us, zone)
        self.assertEqual(parse_date(text), (us, zone))
        local = when.astimezone(timezone(timedelta(minutes=zone)))
        self.assertEqual(local.strftime("%H:%M:%S %z"), text[-14:])

    @given(st.text("0123456789 :+-,().TZajnmFeb/\t٣", max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_never_fails(self, text: str) -> None:
        result = parse_date(text)
        if result is not None:
            self.assertTrue(abs(result[1]) < 24 * 60)

    def test_long_text_takes_no_time(self) -> None:
        self.assertIsNone(parse_date("(" * 1_000_000))
        self.assertIsNone(parse_date(" " * 1_000_000))
