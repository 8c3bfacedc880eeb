"""Dot-stuffing and the EHLO keywords."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.smtp.extensions import Extensions, parse_extensions
from moxtw.smtp.stuffing import ContentError, Stuffer

_CONTENT = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b".."]), max_size=20).map(
    b"".join
)


def stuff(content: bytes, cuts: list[int]) -> bytes:
    stuffer = Stuffer()
    out = b""
    start = 0
    for cut in cuts:
        out += stuffer.feed(content[start:cut])
        start = cut
    return out + stuffer.last(content[start:])


def unstuff(sent: bytes) -> bytes:
    lines = sent.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    return b"".join((x[1:] if x.startswith(b".") else x) + b"\r\n" for x in lines[:-2])


class Stuffing(SynchronousTestCase):
    @settings(max_examples=200)
    @given(_CONTENT, st.data())
    def test_round_trip_over_any_cuts(self, content: bytes, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        sent = stuff(content, cuts)
        whole = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        self.assertEqual(unstuff(sent), whole)
        self.assertEqual(sent, stuff(content, []))
        # The end of the content stands once, at its end.
        self.assertEqual((b"\r\n" + sent).find(b"\r\n.\r\n"), len(sent) - 3)

    @settings(max_examples=200)
    @given(_CONTENT, st.sampled_from([b"\r", b"\n", b"\n.\n", b"\r.\r"]), st.data())
    def test_bare_line_ends_over_any_cuts(
        self, content: bytes, bad: bytes, data: st.DataObject
    ) -> None:
        content = b"x" + bad + b"y" + content
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        with self.assertRaises(ContentError):
            stuff(content, cuts)


class Keywords(SynchronousTestCase):
    def test_all(self) -> None:
        found = parse_extensions(
            [
                "PIPELINING",
                "SIZE 52428800",
                "starttls",
                "AUTH PLAIN LOGIN",
                "AUTH=LOGIN XOAUTH2",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "SMTPUTF8",
                "REQUIRETLS",
                "LIMITS RCPTMAX=1000 MAILMAX=5 RCPTDOMAINMAX=1 OTHER=3",
                "X-UNKNOWN a b c",
                "",
            ]
        )
        self.assertEqual(
            found,
            Extensions(
                starttls=True,
                enhancedstatuscodes=True,
                eightbitmime=True,
                pipelining=True,
                requiretls=True,
                smtputf8=True,
                size=True,
                size_limit=52428800,
                auth=("PLAIN", "LOGIN", "XOAUTH2"),
                mailmax=5,
                rcptmax=1000,
                rcptdomainmax=1,
            ),
        )

    def test_bad_size(self) -> None:
        for text in ("SIZE x", "SIZE -1", "SIZE", "SIZE 123456789012345678901"):
            found = parse_extensions([text])
            self.assertEqual((found.size, found.size_limit), (True, 0))

    def test_any_fault_voids_the_limits(self) -> None:
        for text in ("RCPTMAX=0", "RCPTMAX", "RCPTMAX=1234567", "RCPTMAX=5 RCPTMAX=6", "A=5 =3"):
            found = parse_extensions([f"LIMITS MAILMAX=3 {text}"])
            self.assertEqual((found.mailmax, found.rcptmax), (None, None), text)
