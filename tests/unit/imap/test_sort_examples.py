"""SORT, THREAD and searches with UPDATE as in the examples of RFC 5256, RFC 5267; hostile mail."""

# ruff: noqa: E501

from __future__ import annotations

import random
from datetime import UTC, datetime

from moxtw.store import messages
from moxtw.store.model import Flag, NewMessage
from moxtw.store.tx import Tx
from tests.support.store import job, message
from tests.unit.imap.support import Client, IMAPTestCase
from tests.unit.imap.test_sort import mail

OLD = int(datetime(1993, 5, 1, tzinfo=UTC).timestamp()) * 1_000_000
NEW = int(datetime(2000, 5, 1, tzinfo=UTC).timestamp()) * 1_000_000


class SortExamples(IMAPTestCase):
    """RFC 5256 section 3."""

    def test_sort(self) -> None:
        subjects = {2: "apples", 84: "Re: Bananas", 882: "cherries"}
        mailbox = self.mailbox("INBOX")
        for start in range(1, 883, 100):
            numbers = range(start, min(start + 100, 883))
            new = [
                message(
                    self.store,
                    mail(subjects.get(number, "x")),
                    received=NEW if number in subjects else OLD
                )
                for number in numbers
            ]

            def add(tx: Tx, new: list[NewMessage] = new) -> None:
                for each in new:
                    messages.add(tx, self.account.id, mailbox.id, each)

            job(self.store, add)
        self.transcript(
            self.selected(),
            r"""
            C: A282 SORT (SUBJECT) UTF-8 SINCE 1-Feb-1994
            S: * SORT 2 84 882
            S: A282 OK …
            C: A284 SORT (SUBJECT) US-ASCII TEXT "not in mailbox"
            S: * SORT
            S: A284 OK …
            """,
        )

    def test_sort_by_two_keys(self) -> None:
        for subject, date in (("c", 1), ("c", 0), ("b", 2), ("b", 1), ("a", 0)):
            self.deliver(mail(subject, date=date))
        self.transcript(
            self.selected(),
            r"""
            C: A283 SORT (SUBJECT REVERSE DATE) UTF-8 ALL
            S: * SORT 5 3 4 1 2
            S: A283 OK …
            """,
        )

    def test_thread(self) -> None:
        same = {
            **dict.fromkeys((175, 176, 178, 181, 180), 174),
            **dict.fromkeys((183, 182, 188, 184, 185, 186, 187, 189), 177),
            195: 194,
            197: 196,
            198: 196,
            202: 200,
            207: 206,
        }
        parents = {
            **dict.fromkeys((170, 179), 9999),
            **dict.fromkeys((184, 189), 188),
            186: 185, 196: 195, 198: 197, 202: 200, 206: 205, 207: 206,
        }
        dates = {172: 169.5, 180: 181.5, 179: 176.5, 182: 183.2, 188: 183.5}
        for number in range(1, 209):
            more = f"Message-ID: <{number}@x>\r\n"
            if number in parents:
                more += f"References: <{parents[number]}@x>\r\n"
            self.deliver(
                mail(
                    f"subject {same.get(number, number)}",
                    more=more,
                    date=int(dates.get(number, number) * 10),
                ),
                received=NEW if number >= 166 else OLD,
            )
        self.transcript(
            self.selected(),
            f"""
            C: A283 THREAD ORDEREDSUBJECT UTF-8 SINCE 5-MAR-2000
            S: * THREAD {"".join(ORDERED)}
            S: A283 OK …
            C: A284 THREAD ORDEREDSUBJECT US-ASCII TEXT "gewp"
            S: * THREAD
            S: A284 OK …
            C: A285 THREAD REFERENCES UTF-8 SINCE 5-MAR-2000
            S: * THREAD {"".join(REFERENCES)}
            S: A285 OK …
            """,
        )


ORDERED = (
    "(166)(167)(168)(169)(172)(170)(171)(173)(174 (175)(176)(178)(181)(180))(179)(177 (183)",
    "(182)(188)(184)(185)(186)(187)(189))(190)(191)(192)(193)(194 195)(196 (197)(198))(199)",
    "(200 202)(201)(203)(204)(205)(206 207)(208)",
)
REFERENCES = (
    "(166)(167)(168)(169)(172)((170)(179))(171)(173)((174)(175)(176)(178)(181)(180))((177)(183)",
    "(182)(188 (184)(189))(185 186)(187))(190)(191)(192)(193)((194)(195 196))(197 198)(199)",
    "(200 202)(201)(203)(204)(205 206 207)(208)",
)


class ThreadResponseExamples(IMAPTestCase):
    """RFC 5256 section 4."""

    def threads(self, parents: dict[int, int], count: int) -> list[str]:
        for number in range(1, count + 1):
            more = f"Message-ID: <{number}@x>\r\n"
            if number in parents:
                more += f"In-Reply-To: <{parents[number]}@x>\r\n"
            self.deliver(mail(more=more), flags=0 if number in parents else int(Flag.SEEN))
        lines: list[str] = self.selected().ok("THREAD REFERENCES UTF-8 UNSEEN")
        return lines

    def test_siblings(self) -> None:
        parents = {2: 999, 3: 998, 6: 3, 4: 6, 23: 4, 44: 6, 7: 44, 96: 7}
        self.assertEqual(self.threads(parents, 96), ["* THREAD (2)(3 6 (4 23)(44 7 96))"])

    def test_missing_parent(self) -> None:
        self.assertEqual(self.threads({3: 4, 5: 4}, 5), ["* THREAD ((3)(5))"])


class ContextExamples(IMAPTestCase):
    """RFC 5267, with smaller numbers."""

    def filled(self) -> Client:
        for number in range(1, 21):
            self.deliver(mail(date=number), flags=int(Flag.JUNK) if number % 5 == 0 else 0)
        return self.selected()

    def test_extended_sort(self) -> None:
        client = self.filled()
        client.ok("UID STORE 1:4 +FLAGS.SILENT (\\Deleted)")
        client.ok("EXPUNGE")
        self.transcript(
            client,
            r"""
            C: E01 UID SORT RETURN () (REVERSE DATE) UTF-8 UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "E01") UID ALL 19,18,17,16,14,13,12,11,9,8,7,6
            S: E01 OK …
            C: E02 UID SORT RETURN (COUNT) (REVERSE DATE) UTF-8 UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "E02") UID COUNT 12
            S: E02 OK …
            C: E03 UID SORT RETURN (MIN MAX) (REVERSE DATE) UTF-8 UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "E03") UID MIN 19 MAX 6
            S: E03 OK …
            """,
        )

    def test_contexts(self) -> None:
        client = self.filled()
        other = self.selected()
        self.transcript(
            client,
            r"""
            C: A01 SEARCH RETURN (CONTEXT COUNT) UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "A01") COUNT 16
            S: A01 OK …
            C: A02 UID SEARCH RETURN (PARTIAL 12:30) UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "A02") UID PARTIAL (12:30 14,16:19)
            S: A02 OK …
            C: A03 UID SEARCH RETURN (PARTIAL 1:4) UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "A03") UID PARTIAL (1:4 1:4)
            S: A03 OK …
            C: A04 UID SEARCH RETURN (PARTIAL 24000:24500) UNDELETED UNKEYWORD $Junk
            S: * ESEARCH (TAG "A04") UID PARTIAL (24000:24500 NIL)
            S: A04 OK …
            C: B01 UID SEARCH RETURN (UPDATE COUNT) DELETED KEYWORD $Junk
            S: * ESEARCH (TAG "B01") UID COUNT 0
            S: B01 OK …
            C: B02 UID SORT RETURN (UPDATE COUNT) (DATE) UTF-8 KEYWORD $Junk
            S: * ESEARCH (TAG "B02") UID COUNT 4
            S: B02 OK …
            C: B01 UID SEARCH RETURN (UPDATE COUNT) ANSWERED
            S: B01 BAD …
            """,
        )
        other.ok("UID STORE 5,10 +FLAGS (\\Deleted)")
        self.transcript(
            client,
            r"""
            C: B03 NOOP
            S: * ESEARCH (TAG "B01") UID ADDTO (0 5,10)
            S: * 5 FETCH …
            S: * 10 FETCH …
            S: B03 OK …
            """,
        )
        other.ok("UID EXPUNGE 10")
        self.transcript(
            client,
            r"""
            C: B04 NOOP
            S: * ESEARCH (TAG "B01") UID REMOVEFROM (0 10)
            S: * ESEARCH (TAG "B02") UID REMOVEFROM (2 10)
            S: * 10 EXPUNGE
            S: B04 OK …
            C: B05 CANCELUPDATE "B01"
            S: B05 OK …
            C: B06 UID STORE 5 -FLAGS.SILENT (\Deleted)
            S: B06 OK …
            """,
        )

    def test_preferred_form_of_additions(self) -> None:
        for date in (4, 5, 3, 1, 2):
            self.deliver(mail(date=date), flags=int(Flag.SEEN) if date < 4 else 0)
        client = self.selected()
        self.transcript(
            client,
            r"""
            C: C01 UID SORT RETURN (UPDATE ALL) (DATE) UTF-8 UNSEEN
            S: * ESEARCH (TAG "C01") UID ALL 1:2
            S: C01 OK …
            C: a UID STORE 3:5 -FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "C01") UID ADDTO (1 4:5,3)
            S: a OK …
            C: b UID STORE 2:4 +FLAGS.SILENT (\Seen)
            S: * ESEARCH (TAG "C01") UID REMOVEFROM (5 2 3 3 1 4)
            S: b OK …
            """,
        )


class HostileMail(IMAPTestCase):
    """What nobody's program writes, and somebody will send."""

    def numbers(self, client: Client, algorithm: str) -> list[int]:
        (line,) = client.ok(f"THREAD {algorithm} UTF-8 ALL")
        text = line.removeprefix("* THREAD ")
        depth = 0
        for char in text:
            depth += (char == "(") - (char == ")")
            self.assertGreaterEqual(depth, 0)
        self.assertEqual(depth, 0)
        return sorted(map(int, text.replace("(", " ").replace(")", " ").split()))

    def check(self, count: int) -> None:
        client = self.selected()
        for algorithm in ("ORDEREDSUBJECT", "REFERENCES", "REFS"):
            self.assertEqual(self.numbers(client, algorithm), list(range(1, count + 1)))
        for key in ("SUBJECT", "FROM", "TO", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO"):
            (line,) = client.ok(f"SORT ({key}) UTF-8 ALL")
            self.assertEqual(sorted(map(int, line.split()[2:])), list(range(1, count + 1)))

    def test_circles_and_equal_ids(self) -> None:
        for more in (
            "Message-ID: <a@x>\r\nReferences: <b@x>\r\n",
            "Message-ID: <b@x>\r\nReferences: <c@x>\r\n",
            "Message-ID: <c@x>\r\nReferences: <a@x>\r\n",
            "Message-ID: <d@x>\r\nReferences: <d@x> <d@x>\r\n",
            "Message-ID: <d@x>\r\nIn-Reply-To: <d@x>\r\n",
            "Message-ID: <a@x>\r\nReferences: <a@x> <b@x> <a@x>\r\n",
            "Message-ID:\r\nReferences: <> <<>> <a@x\r\n",
            "Message-ID: <>\r\nReferences: \r\n",
            "Message-ID: <e@x>\r\nMessage-ID: <f@x>\r\nReferences: <f@x>\r\nReferences: <a@x>\r\n",
        ):
            self.deliver(mail(more=more))
        self.check(9)

    def test_long_chains(self) -> None:
        ids = [f"<{number}@x>" for number in range(10_000)]
        for number in (9_999, 9_100, 5_000):
            chain = "\r\n ".join(ids[:number])
            self.deliver(mail(more=f"Message-ID: {ids[number]}\r\nReferences: {chain}\r\n"))
        self.deliver(mail(more=f"Message-ID: <0@x>\r\nIn-Reply-To: {' '.join(ids)}\r\n"))
        self.check(4)
        client = self.selected()
        self.assertEqual(client.ok("THREAD REFERENCES UTF-8 1:3"), ["* THREAD (2 1)(3)"])

    def test_noise(self) -> None:
        rng = random.Random(7)
        bits = (
            *(b"=?utf-8?q?=FF=FE?=", b"=?x-none?b?AAAA?=", b"\xff\xfe", b"\xc3\xa4", b"\0", b'"'),
            *(b"<", b">", b"@", b",", b";", b":", b"(", b")", b"[", b"Re: ", b"(fwd)", b" ", b"x"),
            *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"=?utf-8?q?_?=", b"\r\n ", b"\xe2\x80\xae"),
        )
        names = (b"Subject", b"From", b"To", b"Cc", b"Date", b"Message-ID", b"References")
        for _ in range(60):
            head = [
                name + b": " + b"".join(rng.choices(bits, k=rng.randrange(12)))
                for name in rng.choices(names, k=6)
            ]
            self.deliver(b"\r\n".join(head) + b"\r\n\r\nx\r\n")
        self.check(60)

    def test_long_values(self) -> None:
        for subject in ("a" * 100_000, "ä" * 50_000, "Re: " * 25_000, "[x]" * 30_000, "㌀" * 9999):
            self.deliver(mail(subject, more=f"From: {'b' * 50_000}@x.org\r\nTo: {'c,' * 40_000}\r\n"))
        self.check(5)
