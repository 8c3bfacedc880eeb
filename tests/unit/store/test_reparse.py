"""Parsing messages again makes everything as it was at their arrival."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import mailboxes, messages, reparse, search
from moxtw.store.criteria import Text
from moxtw.store.verify import verify_all
from tests.support.store import job, make_account, make_store, message, now

TABLES = ("contents", "content_text", "content_keys", "keys_due", "message_meta", "messages")


class ReparseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = make_store(self)
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.named, self.account.id, "Inbox")
        for number in range(30):
            self.add(
                b"Subject: Re: some thing\r\nFrom: x@y.example\r\nMessage-ID: <%d@x>\r\n"
                b"Date: Thu, 26 Nov 2026 12:00:00 +0100\r\n\r\nvolcano\r\n" % number
            )
        self.add(b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 100_000)
        job(
            self.store,
            lambda tx: [tx.store.backend.text_index.work(tx) for _ in range(50)] and None,
        )

    def add(self, data: bytes) -> None:
        new = message(self.store, data)
        job(self.store, messages.add, self.account.id, self.inbox.id, new)

    def sql(self, text: str) -> None:
        job(self.store, lambda tx: tx.raw(text) and None)

    def state(self) -> Any:
        return job(
            self.store,
            lambda tx: [
                tx.raw(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES
            ],
        )

    def reparse(self, **more: Any) -> reparse.Reparsed:
        return now(
            Deferred.fromCoroutine(
                reparse.reparse_account(self.store, self.account.id, **more)
            )
        )

    def found(self, text: str) -> list[int]:
        return job(self.store, search.search, self.inbox.id, Text(text))

    def damage(self) -> None:
        self.sql("UPDATE contents SET envelope = x'00', preview = 'no', sent = 1")
        self.sql("UPDATE message_meta SET message_id = 'other', subject_base = '', dsn = 1")
        self.sql("DELETE FROM content_keys WHERE content_id % 2")

    def test_as_at_arrival(self) -> None:
        before = self.state()
        self.assertEqual(self.reparse(), (31, 31, 0, []))
        self.assertEqual(self.state(), before)
        self.damage()
        self.assertEqual(self.reparse()[:3], (31, 31, 31))
        self.assertEqual(self.state(), before)

    def test_text_and_its_index(self) -> None:
        self.assertEqual(len(self.found("volcano")), 30)

        def forget(tx: Any) -> None:
            (first,) = tx.raw("SELECT min(content_id) FROM content_text").fetchone()
            tx.store.backend.text_index.forget_content(tx, first)
            tx.raw(f"UPDATE content_text SET body = x'61626364' WHERE content_id = {first}")
            tx.store.backend.text_index.renew_content(tx, first)

        job(self.store, forget)
        self.assertEqual(len(self.found("volcano")), 29)
        self.assertEqual(len(self.found("abcd")), 1)
        self.assertEqual(self.reparse().changed, 1)
        self.assertEqual(len(self.found("volcano")), 30)
        self.assertEqual(self.found("abcd"), [])

    def test_only_what_is_missing(self) -> None:
        before = self.state()
        self.assertEqual(self.reparse(missing=True)[:3], (31, 0, 0))
        self.sql("UPDATE contents SET parse_version = 0 WHERE id = (SELECT min(id) FROM contents)")
        self.sql(
            "DELETE FROM content_text WHERE content_id = (SELECT max(content_id) FROM content_text)"
        )
        self.assertEqual(self.reparse(missing=True)[:3], (31, 2, 2))
        self.assertEqual(self.state(), before)

    def test_damage_is_told_and_left(self) -> None:
        (path,) = (p for p in Path(self.store.data_dir, "content").glob("*/*") if p.is_file())
        path.write_bytes(b"short")
        self.sql("DELETE FROM content_data WHERE content_id = (SELECT min(id) FROM contents)")
        before = self.state()
        done = self.reparse()
        self.assertEqual((done.parsed, done.changed, len(done.problems)), (29, 0, 2))
        path.unlink()
        self.assertIn("No such file", self.reparse().problems[-1])
        self.assertEqual(self.state(), before)

    def test_failure_undoes_the_piece(self) -> None:
        self.damage()
        before = self.state()
        renew = reparse.renew
        calls: list[int] = []

        def failing(tx: Any, content_id: int, parsed: Any) -> bool:
            calls.append(content_id)
            if len(calls) == 15:
                raise RuntimeError("no")
            return renew(tx, content_id, parsed)

        self.patch(reparse, "renew", failing)
        self.assertRaises(RuntimeError, self.reparse)
        self.assertEqual(self.state(), before)
        self.patch(reparse, "renew", renew)
        self.reparse()
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(self.store))), [])
