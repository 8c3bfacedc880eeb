"""SORT and THREAD, and contexts of searches."""

# ruff: noqa: E501

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from moxtw.mail.collate import casemap
from moxtw.store import sorting
from moxtw.store.schema_keys import content_keys, keys_due
from moxtw.store.tx import Statement, Tx
from tests.support.store import job
from tests.unit.imap.support import Client, IMAPTestCase

_DUE = Statement(keys_due.insert().values(content_id=sa.bindparam("content_id")))
T0 = datetime(2024, 5, 1, 12, tzinfo=UTC)


def mail(subject: str = "", *, more: str = "", date: int | None = None, body: str = "x") -> bytes:
    """A message; `date` are minutes after a fixed time."""
    head = f"Subject: {subject}\r\n" if subject else ""
    if date is not None:
        head += f"Date: {format_datetime(T0 + timedelta(minutes=date))}\r\n"
    return (head + more + "\r\n" + body + "\r\n").encode()


class SortTests(IMAPTestCase):
    def test_criteria(self) -> None:
        for data, received in (
            (mail("b", date=3, more="From: Zoe <a@x.org>\r\nTo: c@x.org\r\nCc: x@x.org\r\n"), 30),
            (mail("Re: A", date=1, more="From: b@x.org\r\nTo: Ann <d@x.org>\r\nCc: y@x.org\r\n", body="xx"), 10),
            (mail("a", more='From: "adam" <c@x.org>\r\nTo: Friends: b@x.org;\r\n', body="xxx"), 20),
            (mail(date=4, more="From: =?utf-8?q?=C3=84nne?= <d@x.org>\r\n", body="xxxx"), 40),
        ):
            self.deliver(data, received=received * 1_000_000)
        client = self.selected()
        for criteria, expected in (
            ("ARRIVAL", "2 3 1 4"),
            ("REVERSE ARRIVAL", "4 1 3 2"),
            ("CC", "3 4 1 2"),
            # The third has no date: it was received long before.
            ("DATE", "3 2 1 4"),
            ("FROM", "1 2 3 4"),
            ("REVERSE FROM", "4 3 2 1"),
            ("SIZE", "3 4 1 2"),
            ("SUBJECT", "4 2 3 1"),
            ("REVERSE SUBJECT", "1 2 3 4"),
            ("SUBJECT DATE", "4 3 2 1"),
            ("subject reverse from", "4 3 2 1"),
            # "", C, D, FRIENDS
            ("TO", "4 1 2 3"),
            # ADAM, A with diaeresis + NNE, B@X.ORG, ZOE
            ("DISPLAYFROM", "3 4 2 1"),
            # "", ANN, C@X.ORG, FRIENDS
            ("DISPLAYTO", "4 2 1 3"),
            ("REVERSE DISPLAYTO REVERSE DISPLAYTO", "3 1 2 4"),
        ):
            self.assertEqual(
                client.ok(f"SORT ({criteria}) UTF-8 ALL"), [f"* SORT {expected}"], criteria
            )

    def test_answers(self) -> None:
        for subject in "cab":
            self.deliver(mail(subject))
        self.deliver(mail("z"), flags=1)
        self.transcript(
            self.selected(),
            r"""
            C: a SORT (SUBJECT) US-ASCII UNSEEN
            S: * SORT 2 3 1
            S: a OK …
            C: b UID SORT (REVERSE SUBJECT) utf-8 2:4
            S: * SORT 4 3 2
            S: b OK …
            C: c SORT (SUBJECT) UTF-8 SUBJECT nothing
            S: * SORT
            S: c OK …
            C: d SORT (SUBJECT) KOI8-R TEXT x
            S: d NO [BADCHARSET (US-ASCII UTF-8)] …
            C: e SORT () UTF-8 ALL
            S: e BAD …
            C: e SORT (REVERSE) UTF-8 ALL
            S: e BAD …
            C: e SORT (REVERSE REVERSE DATE) UTF-8 ALL
            S: e BAD …
            C: e SORT (BCC) UTF-8 ALL
            S: e BAD …
            C: e SORT (DATE) ALL
            S: e BAD …
            C: e SORT (DATE) UTF-8
            S: e BAD …
            C: f SORT (SUBJECT) UTF-8 MODSEQ 1
            S: * SORT 2 3 1 4 (MODSEQ …)
            S: f OK …
            C: g SORT RETURN () (SUBJECT) UTF-8 ALL
            S: * ESEARCH (TAG "g") ALL 2:3,1,4
            S: g OK …
            C: h UID SORT RETURN (MIN MAX COUNT) (SUBJECT) UTF-8 UNSEEN
            S: * ESEARCH (TAG "h") UID MIN 2 MAX 1 COUNT 3
            S: h OK …
            C: i SORT RETURN (PARTIAL 2:3 SAVE) (SUBJECT) UTF-8 ALL
            S: * ESEARCH (TAG "i") PARTIAL (2:3 3,1)
            S: i OK …
            C: j SEARCH $
            S: * SEARCH 1 3
            S: j OK …
            C: k SORT RETURN (PARTIAL -1:-2 CONTEXT) (SUBJECT) UTF-8 ALL
            S: * ESEARCH (TAG "k") PARTIAL (-1:-2 1,4)
            S: k OK …
            C: l SORT RETURN (COUNT ALL) (SUBJECT) UTF-8 NOT ALL
            S: * ESEARCH (TAG "l") COUNT 0
            S: l OK …
            C: k2 SORT (SUBJECT) UTF-8 RETURN (PARTIAL 3:2) ALL
            S: * ESEARCH (TAG "k2") PARTIAL (2:3 3,1)
            S: k2 OK …
            C: k3 SORT RETURN (MIN) (SUBJECT) UTF-8 RETURN (MAX) ALL
            S: k3 BAD …
            C: m SORT RETURN (MAX SAVE) (SUBJECT) X-NONE ALL
            S: m NO [BADCHARSET (US-ASCII UTF-8)] …
            C: n SEARCH $
            S: * SEARCH
            S: n OK …
            """,
        )

    def test_only_what_the_client_knows(self) -> None:
        self.deliver(mail("b"))
        self.deliver(mail("a"))
        client, other = self.selected(), self.selected()
        self.deliver(mail("0"))
        other.ok("STORE 1 +FLAGS (\\Deleted)")
        other.ok("EXPUNGE")
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 ALL"), ["* SORT 2"])
        self.assertEqual(client.ok("THREAD REFS UTF-8 ALL"), ["* THREAD (2)"])
        self.assertEqual(
            client.ok("UID SORT (SUBJECT) UTF-8 ALL"), ["* SORT 2", "* 3 EXISTS", "* 3 FETCH (UID 3 FLAGS ())", "* 1 EXPUNGE"]
        )
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 ALL"), ["* SORT 2 1"])

    def test_dates_of_many_zones(self) -> None:
        for hours, minutes in ((5, 0), (-8, 3), (0, 1), (0, -1)):
            zone = timezone(timedelta(hours=hours))
            date = format_datetime((T0 + timedelta(minutes=minutes)).astimezone(zone))
            self.deliver(f"Date: {date}\r\n\r\nx\r\n".encode())
        self.assertEqual(self.selected().ok("SORT (DATE) UTF-8 ALL"), ["* SORT 4 1 3 2"])

    def sort_many(self, count: int) -> tuple[Client, list[int]]:
        for n in range(count):
            self.deliver(mail(f"s{n * 7919 % count:05d}", body="x" * (n % 7)))
        return self.selected(), sorted(range(count), key=lambda n: n * 7919 % count)

    def test_few_and_many_are_sorted_alike(self) -> None:
        client, order = self.sort_many(600)
        expected = "* SORT " + " ".join(str(n + 1) for n in order)
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 ALL"), [expected])
        few = "* SORT " + " ".join(str(n + 1) for n in order if n < 400)
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 1:400"), [few])
        most = "* SORT " + " ".join(str(n + 1) for n in order if n != 300)
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 NOT 301"), [most])
        size = sorted(range(600), key=lambda n: (-(n % 7), order.index(n)))
        text = "* SORT " + " ".join(str(n + 1) for n in size)
        self.assertEqual(client.ok("SORT (REVERSE SIZE SUBJECT) UTF-8 ALL"), [text])

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["", "b", "B", "Re: a", "Ä", "a (fwd)", "é", "z"]),
                st.sampled_from(["", "ann@x.org", "Bob <bob@x.org>", "Ann <ann@y.org>", "Äa <a@x.org>"]),
                st.one_of(st.none(), st.integers(0, 3)),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=8,
        ),
        st.lists(
            st.tuples(st.sampled_from(["SUBJECT", "FROM", "DATE", "ARRIVAL", "DISPLAYFROM"]), st.booleans()),
            min_size=1,
            max_size=3,
            unique_by=lambda pair: pair[0],
        ),
    )
    @settings(max_examples=60, deadline=None)
    def test_against_a_naive_sort(self, messages: list[Any], criteria: list[Any]) -> None:
        self.counter = getattr(self, "counter", 0) + 1
        name = f"Box{self.counter}"
        self.mailbox(name)
        rows = []
        for number, (subject, sender, date, received) in enumerate(messages, start=1):
            more = f"From: {sender}\r\n" if sender else ""
            seconds = int(T0.timestamp()) + received * 60
            self.deliver(
                mail(subject, more=more, date=date), name, received=seconds * 1_000_000 + 999_999 - number
            )
            shown = sender.split(" <")[0]
            rows.append(
                {
                    "number": number,
                    "SUBJECT": casemap(subject.removeprefix("Re: ").removesuffix(" (fwd)")),
                    "FROM": casemap(sender.split("<")[-1].split("@")[0]),
                    "DISPLAYFROM": casemap(shown),
                    "DATE": received if date is None else date,
                    "ARRIVAL": received,
                }
            )
        for key, reverse in reversed(criteria):
            rows.sort(key=lambda row, k=key: row[k], reverse=reverse)  # type: ignore[misc]
        text = " ".join("REVERSE " * reverse + key for key, reverse in criteria)
        client = self.selected(name)
        self.assertEqual(
            client.ok(f"SORT ({text}) UTF-8 ALL"),
            ["* SORT " + " ".join(str(row["number"]) for row in rows)],
        )
        client.protocol.close()

    def test_contents_from_before_there_were_keys(self) -> None:
        for subject in "cab":
            self.deliver(mail(subject, more="Message-ID: <x@y>\r\n" if subject == "c" else "References: <x@y>\r\n"))
        self.deliver(mail("d"), "Sent")

        def forget(tx: Tx) -> None:
            ids = tx.all(Statement(sa.select(content_keys.c.content_id)))
            tx.many(_DUE, [{"content_id": content_id} for (content_id,) in ids])
            tx.run(Statement(content_keys.delete()))

        job(self.store, forget)
        client = self.selected()
        self.assertEqual(client.ok("SORT (SUBJECT) UTF-8 ALL"), ["* SORT 2 3 1"])
        self.assertEqual(client.ok("THREAD REFS UTF-8 ALL"), ["* THREAD (1 (2)(3))"])
        self.assertTrue(job(self.store, sorting.fill))
        self.assertFalse(job(self.store, sorting.fill))


class ThreadTests(IMAPTestCase):
    def test_answers(self) -> None:
        for n, (subject, references) in enumerate(
            (
                ("one", ""),
                ("Re: one", "References: <1@x>\r\n"),
                ("two", ""),
                ("Re: one", "In-Reply-To: <1@x>\r\n"),
                ("Re: Two", ""),
                ("other", "References: <1@x> <2@x>\r\n"),
            ),
            start=1,
        ):
            self.deliver(mail(subject, more=f"Message-ID: <{n}@x>\r\n{references}", date=n), received=n * 1_000_000)
        self.transcript(
            self.selected(),
            r"""
            C: a THREAD REFERENCES UTF-8 ALL
            S: * THREAD (1 (2 6)(4))(3 5)
            S: a OK …
            C: b UID THREAD REFS US-ASCII ALL
            S: * THREAD (3)(5)(1 (2 6)(4))
            S: b OK …
            C: c THREAD ORDEREDSUBJECT UTF-8 ALL
            S: * THREAD (1 (2)(4))(3 5)(6)
            S: c OK …
            C: d THREAD REFERENCES UTF-8 2:4
            S: * THREAD ((2)(4))(3)
            S: d OK …
            C: e THREAD REFERENCES UTF-8 NOT ALL
            S: * THREAD
            S: e OK …
            C: f THREAD REFERENCES KOI8-R ALL
            S: f NO [BADCHARSET (US-ASCII UTF-8)] …
            C: g THREAD NEW UTF-8 ALL
            S: g BAD …
            C: g THREAD REFS ALL
            S: g BAD …
            """,
        )
