"""The strict reader of responses, which other tests lean on."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.imapgrammar import GrammarError, ResponseReader

GOOD = [
    b"* OK [CAPABILITY IMAP4rev2] hi",
    b"t OK [COPYUID 1 1:3,5 7:10] done",
    b"* 3 FETCH (UID 4 FLAGS (\\Seen a) MODSEQ (7))",
    b"* 3 FETCH (BODY[HEADER.FIELDS (A B)]<0> {3}\r\nabc UID 1)",
    b'* 3 FETCH (ENVELOPE (NIL "s" '
    b'((NIL NIL "a" "b")(NIL NIL "c" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL NIL NIL NIL))',
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 5 1))',
    b"* 1 FETCH (BINARY[1] ~{2}\r\n\0\0)",
    b'* LIST (\\HasChildren) "/" a&AOk- ("CHILDINFO" ("SUBSCRIBED"))',
    b"* SEARCH",
    b"* SEARCH 1 2 (MODSEQ 9)",
    b'* ESEARCH (TAG "t") UID ALL 1:3 COUNT 3',
    b"* THREAD (2)(3 6 (4 23)(44 7 96))",
    b"* VANISHED (EARLIER) 1:4,9",
    b"+ go on",
]
BAD = [
    b"* OK [MADEUP] x",
    b"* OK [ALERT]",
    b"* OK",
    b"t FINE done",
    b"* 0 FETCH (UID 1)",
    b"* 3 FETCH (UID 4 UID 4)",
    b"* 3 FETCH (UID 4  FLAGS ())",
    b"* 3 FETCH (FLAGS (\\Seen \\seen))",
    b"* 3 FETCH (FLAGS (\\Made))",
    b'* 3 FETCH (BODY[] "\xc3\xa9")',
    b"* 3 FETCH (BODY[] {3}\r\na\0c)",
    b'* 3 FETCH (ENVELOPE (NIL "s" '
    b'((NIL NIL "a" "b") (NIL NIL "c" "d")) NIL NIL NIL NIL NIL NIL NIL))',
    b'* 3 FETCH (ENVELOPE (NIL "s" () NIL NIL NIL NIL NIL NIL NIL))',
    b'* 3 FETCH (ENVELOPE (NIL "s" ((NIL NIL "g" NIL)) NIL NIL NIL NIL NIL NIL NIL))',
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5))',
    b"* LIST () / a",
    b'* LIST () "/" a b',
    b"* SEARCH 1  2",
    b"* SEARCH 0",
    b"* THREAD (2 (3))",
    b"* STATUS a (MESSAGES -1)",
    b"* WHAT is this",
    b"* 3 EXISTS ",
]


class ResponseReaderTests(SynchronousTestCase):
    def test_good_responses(self) -> None:
        for raw in GOOD:
            responses = ResponseReader().feed(raw + b"\r\n")
            self.assertEqual(len(responses), 1, raw)
            self.assertEqual(responses[0].raw, raw + b"\r\n")

    def test_responses_come_in_any_pieces(self) -> None:
        reader = ResponseReader()
        whole = b"".join(raw + b"\r\n" for raw in GOOD)
        found = [found for byte in whole for found in reader.feed(bytes([byte]))]
        self.assertEqual([response.raw for response in found], [raw + b"\r\n" for raw in GOOD])
        self.assertEqual(reader.rest, b"")

    def test_anything_else_is_refused(self) -> None:
        for raw in BAD:
            try:
                ResponseReader().feed(raw + b"\r\n")
            except GrammarError:
                continue
            self.fail(f"taken for good: {raw!r}")

    def test_utf8_in_quoted_strings_once_it_is_enabled(self) -> None:
        raw = b'* LIST () "/" "\xc3\xa9"\r\n'
        with self.assertRaises(GrammarError):
            ResponseReader().feed(raw)
        self.assertEqual(ResponseReader(True).feed(raw)[0].data["name"], b"\xc3\xa9")
        with self.assertRaises(GrammarError):
            ResponseReader(True).feed(b'* LIST () "/" "\xc3"\r\n')
