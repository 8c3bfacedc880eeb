"""RETURN options and the ESEARCH response."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.imap import esearch
from moxtw.imap.errors import Bad
from moxtw.imap.esearch import Partial, Return
from moxtw.imap.parser import Parser
from tests.unit.imap.support import IMAPTestCase


def parsed(text: bytes) -> Return | None:
    return esearch.parse_return(Parser(text))


class ReturnTests(SynchronousTestCase):
    def test_options(self) -> None:
        wanted = parsed(b"RETURN (min Partial -1:-100 SAVE) ALL")
        options = frozenset([b"MIN", b"PARTIAL", b"SAVE"])
        self.assertEqual(wanted, Return(options, Partial(-1, -100)))
        self.assertEqual(parsed(b"RETURN () ALL"), esearch.ALL)
        self.assertIsNone(parsed(b"RETURNED"))
        update = parsed(b"RETURN (UPDATE CONTEXT) ALL")
        assert update is not None
        self.assertIn(b"ALL", update)
        self.assertFalse(update.silent)
        save = parsed(b"RETURN (SAVE UPDATE) ALL")
        assert save is not None
        self.assertTrue(save.silent)

    def test_bad_options(self) -> None:
        for text in (
            b"RETURN (NONE) ALL",
            b"RETURN (MIN",
            b"RETURN (MIN)",
            b"RETURN MIN ALL",
            b"RETURN (PARTIAL) ALL",
            b"RETURN (PARTIAL 1) ALL",
            b"RETURN (PARTIAL 0:1) ALL",
            b"RETURN (PARTIAL 1:*) ALL",
            b"RETURN (PARTIAL -1:5) ALL",
            b"RETURN (PARTIAL 1:-5) ALL",
            b"RETURN (PARTIAL 1:4294967296) ALL",
            b"RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
            b"RETURN (PARTIAL 1:2 ALL) ALL",
            b"RETURN (ALL ALL) ALL",
            b'RETURN (PARTIAL "1:2") ALL',
        ):
            with self.assertRaises(Bad, msg=text):
                parsed(text)

    @given(
        st.integers(1, 30), st.integers(1, 30), st.booleans(), st.integers(0, 25)
    )
    def test_partial(self, start: int, end: int, last: bool, count: int) -> None:
        results = list(range(100, 100 + count))
        partial = Partial(-start, -end) if last else Partial(start, end)
        low, high = partial.cut(count)
        places = range(min(start, end), max(start, end) + 1)
        expected = sorted(
            results[-n if last else n - 1] for n in places if n <= count
        )
        self.assertEqual(results[low:high], expected)

    def test_saved(self) -> None:
        # RFC 9394 3.2, table 1.
        found = list(range(1, 11))
        for options, saved in (
            (b"MIN", [(1, 1)]),
            (b"MIN MAX", [(1, 1), (10, 10)]),
            (b"MIN COUNT", [(1, 10)]),
            (b"MIN ALL", [(1, 10)]),
            (b"PARTIAL 3:4", [(3, 4)]),
            (b"PARTIAL 3:4 MIN", [(1, 1), (3, 4)]),
            (b"PARTIAL 3:4 MAX", [(3, 4), (10, 10)]),
            (b"PARTIAL 3:4 MIN MAX", [(1, 1), (3, 4), (10, 10)]),
            (b"PARTIAL 3:4 COUNT", [(1, 10)]),
            (b"PARTIAL 30:40", []),
            (b"", [(1, 10)]),
        ):
            wanted = parsed(b"RETURN (SAVE%b%b) ALL" % (b" " * bool(options), options))
            assert wanted is not None
            self.assertEqual(wanted.saved(found), saved, options)

    def test_response_in_any_order(self) -> None:
        wanted = parsed(b"RETURN (MIN MAX COUNT ALL) ALL")
        assert wanted is not None
        self.assertEqual(
            esearch.response(b"a", wanted, [5, 6, 7, 3, 2], uid=True, modseq=9),
            b'* ESEARCH (TAG "a") UID MIN 5 MAX 2 ALL 5:7,3,2 COUNT 5 MODSEQ 9\r\n',
        )


class PartialTests(IMAPTestCase):
    def test_search(self) -> None:
        self.deliver(count=10)
        self.transcript(
            self.selected(),
            r"""
            C: a UID SEARCH RETURN (PARTIAL 1:3) ALL
            S: * ESEARCH (TAG "a") UID PARTIAL (1:3 1:3)
            S: a OK …
            C: b SEARCH RETURN (PARTIAL -1:-3 MIN COUNT) NOT 9
            S: * ESEARCH (TAG "b") MIN 1 PARTIAL (-1:-3 7:8,10) COUNT 9
            S: b OK …
            C: c SEARCH RETURN (PARTIAL 24:11) ALL
            S: * ESEARCH (TAG "c") PARTIAL (11:24 NIL)
            S: c OK …
            C: d SEARCH RETURN (PARTIAL 8:11 SAVE) ALL
            S: * ESEARCH (TAG "d") PARTIAL (8:11 8:10)
            S: d OK …
            C: e SEARCH RETURN (COUNT) $
            S: * ESEARCH (TAG "e") COUNT 3
            S: e OK …
            C: f SEARCH RETURN (PARTIAL 1:2 ALL) ALL
            S: f BAD …
            """,
        )

    def test_fetch(self) -> None:
        self.deliver(count=6)
        client, other = self.selected(), self.selected()
        other.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        client.ok("NOOP")
        modseq = client.protocol.session.view.modseq
        other.ok("UID STORE 1,4,6 +FLAGS.SILENT (\\Seen)")
        self.transcript(
            client,
            rf"""
            C: a UID FETCH 2:* (UID) (PARTIAL -1:-2)
            S: * 4 FETCH (UID 5)
            S: * 5 FETCH (UID 6)
            S: * 1 FETCH …
            S: * 3 FETCH …
            S: * 5 FETCH …
            S: a OK …
            C: b UID FETCH 1,3:9 (UID) (PARTIAL 2:3)
            S: * 2 FETCH (UID 3)
            S: * 3 FETCH (UID 4)
            S: b OK …
            C: c UID FETCH 1:2,4,6 (UID) (PARTIAL -3:-2)
            S: * 1 FETCH (UID 1)
            S: * 3 FETCH (UID 4)
            S: c OK …
            C: d UID FETCH 1:* (UID) (PARTIAL 9:10)
            S: d OK …
            C: e UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} PARTIAL -1:-3)
            S: * OK [HIGHESTMODSEQ …] …
            S: * 3 FETCH (UID 4 …
            S: * 5 FETCH (UID 6 …
            S: e OK …
            C: f UID FETCH 1:* (FLAGS) (PARTIAL 1:2 CHANGEDSINCE {modseq})
            S: * 1 FETCH (UID 1 …
            S: f OK …
            C: g UID FETCH 1:* (UID) (PARTIAL)
            S: g BAD …
            C: h UID FETCH 1:* (UID) (PARTIAL 1:2 PARTIAL 3:4)
            S: h BAD …
            C: i UID FETCH 1:* (UID) (PARTIAL 0:4)
            S: i BAD …
            """,
        )
