"""The store on PostgreSQL: the same operations, the same checks."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from moxtw.store import (
    accounts,
    auditdb,
    changing,
    details,
    junkdb,
    longcopy,
    mailboxes,
    messages,
    search,
    sentrequests,
    sorting,
    transfer,
    verify,
)
from moxtw.store import annotations as annotation_ops
from moxtw.store.db import Store
from moxtw.store.model import Delivery, Flag, NewMessage, Want
from tests.support.postgresql import start_postgresql
from tests.unit.store.test_search import WORDS, Sample

MESSAGE = b"Message-ID: <%d@x>\r\nSubject: number %d\r\nFrom: a@b\r\n\r\nHello %d\r\n"


class PostgreSQLTests(TestCase):
    timeout = 120

    def test_operations(self) -> Any:
        store = Store(self.mktemp(), reactor, url=start_postgresql(self))
        store.open()
        store.startService()
        self.addCleanup(store.stopService)
        return Deferred.fromCoroutine(self.operations(store))

    async def long_copy(self, store: Store, account_id: int, source_id: int) -> None:
        """A copy in parts that is taken back, and one that is complete."""
        dest = await store.write(lambda tx: mailboxes.ensure(tx, account_id, "Parts"))
        place = (account_id, source_id)
        for copy_id in (7, 8):
            await store.write(
                lambda tx, copy_id=copy_id: longcopy.copy_part(
                    tx, *place, [(1, 3)], dest.id, 0, copy_id
                )
            )
        await store.write(lambda tx: longcopy.complete(tx, 8))
        self.assertEqual(await store.write(longcopy.undo_all), 1)
        found = await store.read(lambda tx: mailboxes.get(tx, dest.id))
        self.assertEqual((found.messages, found.uidnext), (3, 7))

    async def audit_log(self, store: Store) -> None:
        for number in range(3):
            begun = await store.write(
                lambda tx, number=number: auditdb.begin(
                    tx, "ctl", f"uid {number}", "", 5, "stop", "{}"
                )
            )
            await store.write(lambda tx, begun=begun: auditdb.end(tx, begun, "ok", ""))
        rows = await store.read(
            lambda tx: auditdb.entries(tx, 10, caller="uid 1", operation="stop", since=1)
        )
        [row] = rows
        self.assertEqual(row[2:], ("ctl", "uid 1", "", 5, "stop", "{}", "ok", ""))
        self.patch(auditdb, "MOST", 1)
        await store.write(lambda tx: auditdb.begin(tx, "ctl", "", "", 5, "stop", "{}"))
        self.assertEqual(len(await store.read(lambda tx: auditdb.entries(tx, 10))), 1)

    def test_searches(self) -> Any:
        store = Store(self.mktemp(), reactor, url=start_postgresql(self))
        store.open()
        store.startService()
        self.addCleanup(store.stopService)
        return Deferred.fromCoroutine(self.searches(store))

    async def searches(self, store: Store) -> None:
        """Texts are looked through as in SQLite."""
        account = await store.write(lambda tx: accounts.ensure(tx, "mox"))
        inbox = await store.read(lambda tx: mailboxes.named(tx, account.id, "Inbox"))
        sample = Sample(Random(4), 40)
        for prefix, text, *_ in sample.messages:
            content = await store.contents.from_bytes(text.encode())
            new = NewMessage(content, prefix=prefix.encode())
            await store.write(lambda tx, new=new: messages.add(tx, account.id, inbox.id, new))
        leaves: list[search.Criterion] = [
            make(word)
            for word in [*WORDS, "ALPHA BETA", "strasse", "gamma", "", "\\", "*"]
            for make in (
                search.Text,
                search.Body,
                lambda word: search.Header("subject", word),
                lambda word: search.Header("x-other", word),
            )
        ]
        leaves += [search.Not(leaves[0]), search.Or((leaves[1], leaves[6]))]
        leaves += [search.And((search.Uids([(3, 20)]), leaves[2])), search.Size(150, None)]
        for leaf in leaves:
            found = await store.read(lambda tx, leaf=leaf: search.search(tx, inbox.id, leaf))
            wanted = [n + 1 for n in range(len(sample.messages)) if sample.matches(n, leaf)]
            self.assertEqual(found, wanted, leaf)
        like = search.fuzzy(search.Text("alpah"))
        found = await store.read(lambda tx: search.search(tx, inbox.id, like))
        exact = await store.read(lambda tx: search.search(tx, inbox.id, search.Text("alpha")))
        self.assertTrue(found)
        self.assertEqual(found, exact)

    async def operations(self, store: Store) -> None:
        account = await store.write(lambda tx: accounts.ensure(tx, "mox"))
        inbox = await store.read(lambda tx: mailboxes.named(tx, account.id, "Inbox"))
        archive = await store.read(lambda tx: mailboxes.named(tx, account.id, "Archive"))

        def add(number: int) -> Deferred[Any]:
            content = store.contents.from_bytes_now(MESSAGE % (number, number, number))
            new = NewMessage(content, b"X: y\r\n", delivery=Delivery(remote_ip="127.0.0.1"))
            return store.write(lambda tx: messages.add(tx, account.id, inbox.id, new))

        added = await gatherResults([add(number) for number in range(50)])
        self.assertEqual([each.uid for each in added], list(range(1, 51)))
        rows = await store.read(
            lambda tx: messages.rows(tx, inbox.id, [(1, 2)], Want.PREFIX | Want.ENVELOPE)
        )
        self.assertEqual([row.prefix for row in rows], [b"X: y\r\n"] * 2)
        found = await store.read(
            lambda tx: search.search(
                tx,
                inbox.id,
                search.And([search.Text("HELLO 4"), search.Header("subject", "number 4")]),
            )
        )
        self.assertEqual(found, [5, *range(41, 51)])
        changed = await store.write(
            lambda tx: changing.store_flags(
                tx, account.id, inbox.id, [(1, 5)], "+", int(Flag.DELETED), ["work"]
            )
        )
        self.assertEqual(len(changed.changed), 5)
        uids = list(range(1, 51))
        order = (("subject", True), ("date", False), ("display_from", False))
        ordered = await store.read(lambda tx: sorting.ordered(tx, inbox.id, uids, order))
        self.assertEqual(ordered[:3], [10, 9, 8])
        places = await store.read(
            lambda tx: sorting.places(tx, inbox.id, ordered[1:], [10], order)
        )
        self.assertEqual(places, [(1, 10)])
        for algorithm in ("ORDEREDSUBJECT", "REFERENCES", "REFS"):
            _, forest = await store.read(
                lambda tx, name=algorithm: sorting.threads(tx, inbox.id, uids, name)
            )
            self.assertEqual(len(forest.roots), 50)
        copied = await store.write(
            lambda tx: transfer.copy(tx, account.id, inbox.id, [(1, 5)], archive.id)
        )
        self.assertEqual(copied.dest_uids, [1, 2, 3, 4, 5])
        moved = await store.write(
            lambda tx: transfer.move(tx, account.id, inbox.id, [(6, 9)], archive.id)
        )
        self.assertEqual(moved.dest_uids, [6, 7, 8, 9])
        _modseq, gone = await store.write(
            lambda tx: changing.expunge(tx, account.id, inbox.id)
        )
        self.assertEqual(gone, [1, 2, 3, 4, 5])
        known = await store.read(lambda tx: details.details(tx, account.id, added[9].id))
        self.assertEqual((known.mailbox, known.prefix, known.dsn), ("Inbox", b"X: y\r\n", False))
        await store.write(lambda tx: sentrequests.add(tx, account.id, "key", b"\0", b"answer"))
        request = await store.read(lambda tx: sentrequests.find(tx, account.id, "key"))
        self.assertEqual(request, (b"\0", b"answer"))
        await store.write(lambda tx: mailboxes.rename(tx, account.id, "Archive", "Old/Mail"))
        copies = await store.read(
            lambda tx: search.search(tx, archive.id, search.Email(added[0].id))
        )
        self.assertEqual(copies, [1])
        entries = [("/private/a", annotation_ops.Value(b"\0one", False)), ("/private/b", None)]
        for _ in range(2):
            await store.write(
                lambda tx: annotation_ops.change(tx, account.id, inbox.id, entries)
            )
        await store.write(lambda tx: mailboxes.rename(tx, account.id, "Inbox", "Copy"))
        names = await store.read(lambda tx: annotation_ops.names(tx, account.id))
        self.assertEqual([(name.key, name.size) for name in names], [("/private/a", 4)] * 2)
        changes = await store.read(lambda tx: annotation_ops.changed_since(tx, account.id, 0))
        self.assertEqual(len(changes), 2)
        await self.long_copy(store, account.id, archive.id)
        await self.audit_log(store)
        await self.junk_filter(store, account.id, archive.id)
        await self.introbox(store, account.id, archive.id)

        def fail(tx: Any) -> None:
            mailboxes.create(tx, account.id, "Never")
            raise ValueError("no")

        waits = [store.write(fail), add(100)]
        await self.assertFailure(waits[0], ValueError)
        await waits[1]
        self.assertIsNone(
            await store.read(lambda tx: mailboxes.find(tx, account.id, "Never"))
        )
        while await store.read(messages.accounts_to_erase):
            step: Deferred[None] = Deferred()
            reactor.callLater(0.05, step.callback, None)  # type: ignore[attr-defined]
            await step
        self.assertEqual(await verify.verify_all(store), [])

    async def junk_filter(self, store: Store, account_id: int, mailbox_id: int) -> None:
        """Messages are learned and forgotten, words counted and deleted."""
        await store.write(
            lambda tx: changing.store_flags(
                tx, account_id, mailbox_id, [(1, 3)], "+", int(Flag.JUNK)
            )
        )
        found = await store.read(
            lambda tx: junkdb.untrained(tx, account_id, 0, 0, 10, 100_000)
        )
        self.assertEqual(len(found), 3)
        filter_id = (await store.write(lambda tx: junkdb.begin(tx, account_id, 1))).id
        words = {each.id: ["common", f"word{n}", "x" * 100] for n, each in enumerate(found)}
        for flag, done, counted in (
            (Flag.JUNK, (3, 0), {"common": (0, 3), "word1": (0, 1), "x" * 100: (0, 3)}),
            (Flag.NOTJUNK, (3, 3), {"common": (3, 0), "word1": (1, 0), "x" * 100: (3, 0)}),
            (0, (0, 3), {}),
        ):
            await store.write(
                lambda tx, f=flag: changing.store_flags(  # type: ignore[misc]
                    tx, account_id, mailbox_id, [(1, 3)], "=", int(f)
                )
            )
            learned = await store.write(
                lambda tx: junkdb.learn(tx, account_id, filter_id, words)
            )
            self.assertEqual(learned, done)
            kept = await store.read(
                lambda tx: junkdb.counts(tx, filter_id, ["common", "word1", "x" * 100, "no"])
            )
            self.assertEqual(kept, counted)
        await store.write(lambda tx: junkdb.restart(tx, account_id, 1))
        place: tuple[int, int] | None = (0, 0)
        while place is not None:
            place = await store.write(
                lambda tx, p=place: junkdb.reset(tx, account_id, *p)  # type: ignore[misc]
            )
        self.assertTrue(await store.write(lambda tx: junkdb.finish(tx, account_id)))
        while await store.write(lambda tx: junkdb.drop_some(tx, account_id)):
            pass

    async def introbox(self, store: Store, account_id: int, dest_id: int) -> None:
        """What moves from there to where it was meant to go is not junk, and counts there."""
        store.introbox = lambda account: "Introbox"
        box = await store.write(lambda tx: mailboxes.ensure(tx, account_id, "Introbox"))
        content = await store.contents.from_bytes(MESSAGE % (900, 900, 900))
        new = NewMessage(
            content, delivery=Delivery(remote_ip="192.0.2.1", mailbox_destined_id=dest_id)
        )
        added = await store.write(lambda tx: messages.add(tx, account_id, box.id, new))
        await store.write(
            lambda tx: transfer.move(tx, account_id, box.id, [(added.uid, added.uid)], dest_id)
        )
        found = await store.read(
            lambda tx: tx.raw(
                "SELECT flags, mailbox_orig_id, mailbox_destined_id"
                " FROM messages JOIN message_meta USING (id)"
                f" WHERE id = {added.id}"
            ).fetchone()
        )
        self.assertEqual(tuple(found), (int(Flag.NOTJUNK), dest_id, 0))
        store.introbox = lambda account: ""
