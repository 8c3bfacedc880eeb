"""Messages in mailboxes: adding, flags, copy, move, expunge, erase, changes."""

from itertools import product

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.store import accounts, changing, content, mailboxes, messages, search, transfer, verify
from moxtw.store.errors import (
    MailboxExists,
    MailboxHasChildren,
    NoSuchMailbox,
    NoSuchMessage,
    OverQuota,
)
from moxtw.store.model import Delivery, Flag, SpecialUse, Want
from tests.support.store import job, make_account, make_store, message, now

BIG = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 8192


class StoreCase(SynchronousTestCase):
    def setUp(self):
        self.store = make_store(self)
        self.clock = self.store.reactor
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.named, self.account.id, "Inbox")
        self.addCleanup(self.check)

    def check(self):
        # Cleanups run in reverse order, so the store is still open.
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])

    def add(self, data=b"Subject: hi\r\n\r\nbody\r\n", box=None, **fields):
        quota = fields.pop("quota", 0)
        return job(
            self.store,
            messages.add,
            self.account.id,
            (box or self.inbox).id,
            message(self.store, data, **fields),
            quota=quota,
        )

    def box(self, name="Inbox"):
        return job(self.store, mailboxes.named, self.account.id, name)

    def uids(self, name="Inbox"):
        return list(job(self.store, messages.view, self.box(name).id)[1])


class AddTests(StoreCase):
    def test_counts_and_uids(self):
        first = self.add()
        second = self.add(flags=Flag.SEEN)
        third = self.add(flags=Flag.DELETED)
        self.assertEqual([first.uid, second.uid, third.uid], [1, 2, 3])
        self.assertLess(first.modseq, second.modseq)
        box = self.box()
        self.assertEqual((box.total, box.deleted, box.unread, box.unseen), (2, 1, 1, 2))
        self.assertEqual(box.size, 3 * first.size)
        self.assertEqual(box.deleted_size, first.size)
        self.assertEqual(box.uidnext, 4)
        self.assertEqual(box.modseq, third.modseq)

    def test_prefix_and_content_are_one(self):
        added = self.add(b"Subject: x\r\n\r\nbody\r\n", prefix=b"Received: by me\r\n")
        whole = b"Received: by me\r\nSubject: x\r\n\r\nbody\r\n"
        self.assertEqual(added.size, len(whole))
        for start in range(len(whole) + 2):
            for length in (None, 0, 1, 5, 17, 100):
                end = None if length is None else start + length
                self.assertEqual(
                    job(self.store, messages.read, added.id, start, length), whole[start:end]
                )

    def test_large_content_is_a_file(self):
        added = self.add(BIG, prefix=b"X: y\r\n")
        self.assertEqual(job(self.store, messages.read, added.id), b"X: y\r\n" + BIG)
        self.assertEqual(job(self.store, messages.read, added.id, 16, 10), BIG[10:20])
        self.assertEqual(len(job(self.store, verify.stray_files)), 0)

    def test_quota(self):
        added = self.add()
        self.assertRaises(OverQuota, self.add, quota=2 * added.size - 1)
        self.add(quota=2 * added.size)
        self.assertEqual(job(self.store, accounts.usage, self.account.id), 2 * added.size)

    def test_one_content_for_many_messages(self):
        spooled = message(self.store)

        def deliver(tx):
            saved = {}
            return [
                messages.add(tx, self.account.id, self.inbox.id, spooled, saved=saved)
                for _ in range(3)
            ]

        added = now(self.store.write(deliver))
        ids = {job(self.store, messages.source, each.id)[0] for each in added}
        self.assertEqual(len(ids), 1)
        self.assertEqual({each.modseq for each in added}, {added[0].modseq})

    def test_missing_mailbox(self):
        job(self.store, mailboxes.create, self.account.id, "Gone")
        gone = self.box("Gone")
        job(self.store, mailboxes.delete, self.account.id, "Gone")
        self.assertRaises(NoSuchMailbox, self.add, box=gone)

    def test_junk_mailbox_flags_junk(self):
        self.assertEqual(self.add(box=self.box("Junk")).flags, Flag.JUNK)

    def test_delivery_fields(self):
        added = self.add(delivery=Delivery(remote_ip="10.1.2.3", mail_from="a@b"))
        row = now(
            self.store.read(
                lambda tx: tx.raw(
                    "select remote_ip_masked2, mail_from from message_meta "
                    f"where id = {added.id}"
                ).fetchone()
            )
        )
        self.assertEqual(row, ("10.1.2.0", "a@b"))

    def test_failing_job_changes_nothing(self):
        def fail(tx):
            messages.add(tx, self.account.id, self.inbox.id, message(self.store))
            raise RuntimeError("no")

        self.assertRaises(RuntimeError, now, self.store.write(fail))
        self.assertEqual(self.uids(), [])


class FlagTests(StoreCase):
    def store_flags(self, *args, **kwargs):
        return job(
            self.store, changing.store_flags, self.account.id, self.inbox.id, *args, **kwargs
        )

    def test_add_remove_set(self):
        for _ in range(3):
            self.add()
        result = self.store_flags([(1, 2)], "+", Flag.SEEN | Flag.DELETED, ["Work"])
        self.assertEqual([row.uid for row in result.changed], [1, 2])
        self.assertTrue(result.new_keywords)
        self.assertEqual(self.box().keywords, ("work",))
        box = self.box()
        self.assertEqual((box.total, box.deleted, box.unread, box.unseen), (1, 2, 1, 1))
        again = self.store_flags([(1, 3)], "+", Flag.SEEN)
        self.assertEqual([row.uid for row in again.changed], [3])
        self.assertEqual([row.uid for row in again.unchanged], [1, 2])
        self.assertGreater(again.modseq, result.modseq)
        self.store_flags([(1, 1)], "-", Flag.DELETED, ["WORK"])
        self.store_flags([(2, 2)], "=", Flag.FLAGGED, ["b", "a"])
        rows = job(self.store, messages.flags, self.inbox.id, [(1, 9)])
        self.assertEqual(
            [row[:3] for row in rows],
            [(1, Flag.SEEN, ""), (2, Flag.FLAGGED, "a b"), (3, Flag.SEEN, "")],
        )

    def test_unchanged_since(self):
        first, second = self.add(), self.add()
        result = self.store_flags([(1, 2)], "+", Flag.SEEN, unchanged_since=first.modseq)
        self.assertEqual(result.failed, [second.uid])
        self.assertEqual([row.uid for row in result.changed], [first.uid])

    def test_many_change_as_one_by_one(self):
        for number in range(60):
            self.add(flags=(Flag.SEEN, Flag.DELETED, Flag.FLAGGED | Flag.SEEN, 0)[number % 4])
        job(self.store, changing.expunge, self.account.id, self.inbox.id, [(11, 20)])
        self.store_flags([(5, 7)], "+", 0, ["word"])
        everything = [(1, 60)]
        bits = Flag.SEEN | Flag.FLAGGED | Flag.DELETED
        for op, change in (("-", Flag.SEEN), ("+", bits), ("-", bits), ("+", Flag.DELETED)):
            last = self.store_flags([(30, 30), (33, 33)], "+", 0, [f"{op}{change:d}"])
            before = job(self.store, messages.flags, self.inbox.id, everything)
            since = last.modseq - 1
            result = self.store_flags(everything, op, change, unchanged_since=since)
            rows = job(self.store, messages.flags, self.inbox.id, everything)
            self.assertEqual(result.failed, [30, 33])
            self.assertEqual(
                sorted([*result.changed, *result.unchanged]),
                [row for row in rows if row.uid not in (30, 33)],
            )
            for old, new in zip(before, rows, strict=True):
                wanted = old.flags | change if op == "+" else old.flags & ~change
                if old.uid in (30, 33):
                    wanted = old.flags
                modseq = old.modseq if wanted == old.flags else result.modseq
                self.assertEqual(new, (old.uid, wanted, old.keywords, modseq))
        self.assertEqual(now(Deferred.fromCoroutine(verify.verify_all(self.store))), [])

    def test_nothing_changed_takes_no_modseq(self):
        self.add(flags=Flag.SEEN)
        before = self.box().modseq
        result = self.store_flags([(1, 1)], "+", Flag.SEEN)
        self.assertEqual(result.modseq, before)
        self.assertEqual(self.box().modseq, before)


class MoveTests(StoreCase):
    def test_copy(self):
        self.add(flags=Flag.SEEN, keywords=("k",))
        self.add()
        archive = self.box("Archive")
        result = job(
            self.store, transfer.copy, self.account.id, self.inbox.id, [(1, 9)], archive.id
        )
        self.assertEqual((result.source_uids, result.dest_uids), ([1, 2], [1, 2]))
        self.assertEqual(self.uids("Archive"), [1, 2])
        box = self.box("Archive")
        self.assertEqual((box.total, box.unseen, box.keywords), (2, 1, ("k",)))

    def test_move_keeps_id_and_old_view_reads_on(self):
        added = self.add(prefix=b"A: b\r\n")
        handle = self.store.sessions.register(self.account.id)
        handle.seen(self.box().modseq)
        archive = self.box("Archive")
        result = job(
            self.store, transfer.move, self.account.id, self.inbox.id, [(1, 1)], archive.id
        )
        self.assertEqual((result.source_uids, result.dest_uids), ([1], [1]))
        self.assertEqual(self.uids(), [])
        self.assertEqual(self.uids("Archive"), [1])
        (row,) = job(
            self.store, messages.rows, archive.id, [(1, 1)], Want.FLAGS | Want.PREFIX
        )
        self.assertEqual((row.id, row.prefix), (added.id, b"A: b\r\n"))
        self.clock.advance(1)
        old = job(
            self.store, messages.rows, self.inbox.id, [(1, 1)], Want.CONTENT, expunged=True
        )
        self.assertEqual(len(old), 1)
        handle.seen(result.modseq)
        self.clock.advance(1)
        old = job(
            self.store, messages.rows, self.inbox.id, [(1, 1)], Want.CONTENT, expunged=True
        )
        self.assertEqual(old, [])
        self.assertEqual(job(self.store, messages.read, added.id)[:4], b"A: b")
        handle.close()

    def test_runs_and_holes(self):
        for number in range(9):
            self.add(flags=Flag.DELETED if number in (2, 5) else 0, prefix=b"N: %d\r\n" % number)
        job(self.store, changing.expunge, self.account.id, self.inbox.id)
        archive, trash = self.box("Archive"), self.box("Trash")
        copied = job(
            self.store,
            transfer.copy,
            self.account.id,
            self.inbox.id,
            [(1, 2), (4, 4), (5, 8)],
            archive.id,
        )
        self.assertEqual(copied.source_uids, [1, 2, 4, 5, 7, 8])
        self.assertEqual(copied.dest_uids, [1, 2, 3, 4, 5, 6])
        moved = job(
            self.store, transfer.move, self.account.id, archive.id, [(2, 3), (5, 6)], trash.id
        )
        self.assertEqual((moved.source_uids, moved.dest_uids), ([2, 3, 5, 6], [1, 2, 3, 4]))
        self.assertEqual(self.uids("Archive"), [1, 4])
        rows = job(self.store, messages.rows, trash.id, [(1, 9)], Want.PREFIX | Want.CONTENT)
        self.assertEqual([row.prefix[3:4] for row in rows], [b"1", b"3", b"6", b"7"])

    def test_junk_flags_follow_the_mailbox(self):
        for flags in (0, Flag.SEEN, Flag.SEEN | Flag.NOTJUNK, Flag.JUNK):
            self.add(flags=flags)
        junk = self.box("Junk")
        job(self.store, transfer.copy, self.account.id, self.inbox.id, [(1, 4)], junk.id)
        job(self.store, transfer.move, self.account.id, self.inbox.id, [(1, 4)], junk.id)
        rows = job(self.store, messages.flags, junk.id, [(1, 8)])
        self.assertEqual([row.flags for row in rows], [16, 17, 17, 16] * 2)

    def test_out_of_the_rejects_mailbox(self):
        wanted = self.box("Archive")
        rejects = job(self.store, mailboxes.ensure, self.account.id, "Rejects")
        for _ in range(2):
            new = message(
                self.store,
                flags=Flag.SEEN,
                delivery=Delivery(
                    is_reject=True,
                    mailbox_orig_id=rejects.id,
                    mailbox_destined_id=wanted.id,
                    remote_ip="192.0.2.1",
                ),
            )
            job(self.store, messages.add, self.account.id, rejects.id, new)
        job(self.store, transfer.copy, self.account.id, rejects.id, [(1, 1)], self.inbox.id)
        job(self.store, transfer.move, self.account.id, rejects.id, [(2, 2)], self.inbox.id)
        rows = job(self.store, messages.rows, self.inbox.id, [(1, 2)], Want.FLAGS)
        self.assertEqual([row.flags for row in rows], [Flag.SEEN, 0])
        for row in rows:
            found = job(
                self.store,
                lambda tx, i=row.id: tx.raw(
                    "SELECT is_reject, mailbox_orig_id, mailbox_destined_id"
                    f" FROM message_meta WHERE id = {i}"
                ).fetchone(),
            )
            self.assertEqual(found, (0, wanted.id, wanted.id))

    def introduced(self, operation, target, flags=0):
        """Flags, first and intended mailbox of a message that left the introbox."""
        introbox = job(self.store, mailboxes.ensure, self.account.id, "Strangers")
        self.store.introbox = lambda account: "Strangers" if account == "mox" else ""
        new = message(
            self.store,
            flags=flags,
            delivery=Delivery(mailbox_destined_id=self.inbox.id, remote_ip="192.0.2.1"),
        )
        added = job(self.store, messages.add, self.account.id, introbox.id, new)
        dest = job(self.store, mailboxes.ensure, self.account.id, target)
        result = job(
            self.store,
            operation,
            self.account.id,
            introbox.id,
            [(added.uid, added.uid)],
            dest.id,
        )
        [uid] = result.dest_uids
        [row] = job(self.store, messages.rows, dest.id, [(uid, uid)], Want.FLAGS)
        found = job(
            self.store,
            lambda tx: tx.raw(
                "SELECT mailbox_orig_id, mailbox_destined_id"
                f" FROM message_meta WHERE id = {row.id}"
            ).fetchone(),
        )
        names = {box.id: box.name for box in job(self.store, mailboxes.all, self.account.id)}
        return Flag(row.flags), names[found[0]], names.get(found[1], "")

    def test_out_of_the_introbox(self):
        nothing = Flag(0)
        for operation in (transfer.copy, transfer.move):
            for target, flags, expected in (
                ("Inbox", nothing, (Flag.NOTJUNK, "Inbox", "")),
                ("Inbox", Flag.SEEN, (Flag.SEEN | Flag.NOTJUNK, "Inbox", "")),
                ("Inbox", Flag.JUNK, (Flag.JUNK, "Inbox", "")),
                ("Junk", nothing, (Flag.JUNK, "Inbox", "")),
                ("Archive", nothing, (nothing, "Strangers", "Inbox")),
                ("Archive", Flag.NOTJUNK, (Flag.NOTJUNK, "Inbox", "")),
            ):
                with self.subTest(operation=operation.__name__, target=target, flags=flags):
                    self.assertEqual(self.introduced(operation, target, flags), expected)

    def test_introbox_of_others(self):
        """Mailboxes that have the name, but no such part in the account, are like others."""
        self.account = make_account(self.store, "other")
        self.inbox = self.box("Inbox")
        self.assertEqual(
            self.introduced(transfer.move, "Inbox"), (Flag(0), "Strangers", "Inbox")
        )

    def test_recipients_follow_a_copy(self):
        sent = self.box("Sent")
        self.add(b"To: a@b.example\r\n\r\n", sent)
        archive = self.box("Archive")
        job(self.store, transfer.copy, self.account.id, sent.id, [(1, 1)], archive.id)
        ids = job(
            self.store,
            lambda tx: tx.raw("SELECT message_id FROM recipients ORDER BY 1").fetchall(),
        )
        rows = [
            job(self.store, messages.rows, box.id, [(1, 1)], Want.FLAGS)[0]
            for box in (sent, archive)
        ]
        self.assertEqual(sorted(ids), sorted((row.id,) for row in rows))

    def test_move_within_a_mailbox(self):
        for _ in range(3):
            self.add()
        result = job(
            self.store,
            transfer.move,
            self.account.id,
            self.inbox.id,
            [(1, 2)],
            self.inbox.id,
        )
        self.assertEqual((result.source_uids, result.dest_uids), ([1, 2], [4, 5]))
        mailbox, uids = job(self.store, messages.view, self.inbox.id)
        self.assertEqual((mailbox.uidnext, list(uids)), (6, [3, 4, 5]))
        changes = job(self.store, messages.changes_since, self.inbox.id, result.modseq - 1)
        self.assertEqual(changes.vanished, [1, 2])
        self.assertEqual(self.successResultOf(verify.verify_account(self.store, "mox")), [])


class WholeFlagTests(StoreCase):
    """Flags of many messages that lie together are changed in another way than those of few."""

    def test_the_same_as_one_by_one(self):
        bits = [0, 1, 4, 5, 64, 65, 69, 2, 16, 127] * 3
        boxes = [self.box(name) for name in ("Archive", "Trash")]
        for box in boxes:
            for number, flags in enumerate(bits):
                words = ("word",) if number % 7 == 3 else ()
                self.add(box=box, flags=flags, keywords=words)
            job(
                self.store, changing.expunge, self.account.id, box.id, [(4, 5)],
                only_deleted=False,
            )  # fmt: skip
        for _ in range(2):
            for op, change in [*product("+-", (1, 4, 5, 2, 0, 33)), ("+", 1), ("-", 37)]:
                results = []
                for box, whole in zip(boxes, (10, 1000), strict=True):
                    self.patch(changing, "_WHOLE", whole)
                    found = job(
                        self.store,
                        changing.store_flags,
                        self.account.id,
                        box.id,
                        [(1, 20), (22, 33)],
                        op,
                        change,
                    )
                    modseq = found.modseq
                    state = job(self.store, mailboxes.get, box.id)
                    self.assertEqual(state.modseq, modseq)
                    results.append(
                        (
                            [(*r[:3], r.modseq == modseq) for r in found.changed],
                            [r[:3] for r in found.unchanged],
                            len(found.before),
                            [state.total, state.deleted, state.unread, state.unseen,
                             state.size, state.deleted_size],
                            [r[:3] for r in job(self.store, messages.flags, box.id, [(1, 99)])],
                        )
                    )  # fmt: skip
                self.assertEqual(results[0], results[1], (op, change))


class FlagColumnTests(StoreCase):
    def test_the_same_as_rows(self):
        self.patch(messages, "_FEW", 3)
        for number in range(12):
            self.add(flags=number, keywords=("word",) if number in (9, 10) else ())
        job(
            self.store, changing.expunge, self.account.id, self.inbox.id, [(3, 3)],
            only_deleted=False,
        )  # fmt: skip
        for ranges in ([(1, 12)], [(1, 2), (4, 8), (10, 12)], [(5, 8)], [(3, 3)], [(20, 30)], []):
            rows = job(self.store, messages.flags, self.inbox.id, ranges)
            columns = job(self.store, messages.flag_columns, self.inbox.id, ranges)
            self.assertEqual(sorted(zip(*columns, strict=True)), rows)


class ExpungeTests(StoreCase):
    def test_uids_between_those_that_went(self):
        self.patch(messages, "_EXTENT_UIDS", 4)
        self.assertEqual(self.uids(), [])
        for _ in range(18):
            self.add()
        left = list(range(1, 19))
        self.assertEqual(self.uids(), left)
        # A block from its middle on, up to its middle, with a hole, none of it, all but few.
        for gone in ([1, 2], [7, 8], [10], [13, 14, 15, 16], [4, 5, 6, 9, 11, 12, 17]):
            for uid in gone:
                job(
                    self.store,
                    changing.expunge,
                    self.account.id,
                    self.inbox.id,
                    [(uid, uid)],
                    only_deleted=False,
                )
                left.remove(uid)
            self.assertEqual(self.uids(), left)
        self.assertEqual(left, [3, 18])

    def test_expunge_then_erase(self):
        small, big = self.add(flags=Flag.DELETED), self.add(BIG, flags=Flag.DELETED)
        kept = self.add()
        modseq, uids = job(self.store, changing.expunge, self.account.id, self.inbox.id)
        self.assertEqual(uids, [1, 2])
        self.assertEqual(self.uids(), [3])
        used = job(self.store, accounts.usage, self.account.id)
        self.assertEqual(used, small.size + big.size + kept.size)
        self.clock.advance(1)
        self.assertEqual(job(self.store, accounts.usage, self.account.id), kept.size)
        self.assertEqual(job(self.store, verify.stray_files), [])
        changes = job(self.store, messages.changes_since, self.inbox.id, modseq - 1)
        self.assertEqual(changes.vanished, [1, 2])

    def test_sessions_hold_content_back(self):
        added = self.add(BIG, flags=Flag.DELETED)
        handle = self.store.sessions.register(self.account.id)
        handle.seen(added.modseq)
        modseq, _uids = job(self.store, changing.expunge, self.account.id, self.inbox.id)
        self.clock.advance(1)
        self.assertEqual(job(self.store, messages.read, added.id), BIG)
        handle.seen(modseq)
        self.clock.advance(1)
        self.assertRaises(NoSuchMessage, job, self.store, messages.read, added.id)

    def test_shared_content_stays(self):
        self.add(BIG, flags=Flag.DELETED)
        archive = self.box("Archive")
        job(self.store, transfer.copy, self.account.id, self.inbox.id, [(1, 1)], archive.id)
        job(self.store, changing.expunge, self.account.id, self.inbox.id)
        self.clock.advance(1)
        (row,) = job(self.store, messages.rows, archive.id, [(1, 1)], Want.CONTENT)
        self.assertEqual(job(self.store, content.read, row.content_id), BIG)

    def test_changes_since(self):
        first = self.add()
        second = self.add()
        changes = job(self.store, messages.changes_since, self.inbox.id, first.modseq)
        self.assertEqual([row.uid for row in changes.changed], [second.uid])
        self.assertEqual((changes.modseq, changes.uidnext), (second.modseq, 3))


class ChangeBusTests(StoreCase):
    def test_told_after_commit(self):
        told = []
        unsubscribe = self.store.changes.subscribe(self.account.id, told.append)
        added = self.add()
        self.assertEqual(told, [added.modseq])
        unsubscribe()
        self.add()
        self.assertEqual(len(told), 1)


class MailboxTests(StoreCase):
    def create(self, name, *args):
        return job(self.store, mailboxes.create, self.account.id, name, *args)

    def test_parents_are_made(self):
        made = self.create("a/b/c")
        self.assertEqual([box.name for box in made], ["a", "a/b", "a/b/c"])
        self.assertEqual(made[2].parent_id, made[1].id)
        self.assertRaises(MailboxExists, self.create, "a/b")
        self.assertRaises(
            MailboxHasChildren, job, self.store, mailboxes.delete, self.account.id, "a/b"
        )

    def test_name_again_has_new_uidvalidity(self):
        (first,) = self.create("x")
        job(self.store, mailboxes.delete, self.account.id, "x")
        (second,) = self.create("x")
        self.assertGreater(second.uidvalidity, first.uidvalidity)

    def test_rename_takes_children(self):
        self.create("a/b/c")
        changed = job(self.store, mailboxes.rename, self.account.id, "a/b", "p/q")
        self.assertEqual(
            [(old, box.name) for old, box in changed],
            [(None, "p"), ("a/b", "p/q"), ("a/b/c", "p/q/c")],
        )

    def test_rename_inbox_leaves_it_and_messages_are_moved_in_pieces(self):
        for _ in range(5):
            self.add()
        job(self.store, mailboxes.rename, self.account.id, "Inbox", "old/mail")
        places = (self.account.id, self.box("Inbox").id, self.box("old/mail").id)
        for left in ([3, 4, 5], [5], [5]):
            job(self.store, transfer.move_some, *places, 4, 2)
            self.assertEqual(self.uids(), left)
        self.assertEqual(job(self.store, transfer.move_some, *places, 4, 2), 0)
        self.assertEqual(self.uids("old/mail"), [1, 2, 3, 4])

    def test_special_use_moves(self):
        self.create("Spam", SpecialUse.JUNK)
        self.assertEqual(self.box("Junk").special_use, 0)
        self.assertEqual(self.box("Spam").special_use, SpecialUse.JUNK)

    def test_names(self):
        self.assertEqual(mailboxes.valid_name("iNbOx/sub"), "Inbox/sub")
        bad_names = ["", "/a", "a/", "a//b", "#x", "a/../b", ".", "a\x00", "e\u0301", "\u2028"]
        for bad in [*bad_names, "x" * 2000]:
            self.assertRaises(mailboxes.InvalidMailboxName, mailboxes.valid_name, bad)

    def test_subscriptions(self):
        self.assertTrue(job(self.store, mailboxes.subscribe, self.account.id, "nowhere"))
        self.assertFalse(job(self.store, mailboxes.subscribe, self.account.id, "nowhere"))
        self.assertIn(
            "nowhere", job(self.store, mailboxes.subscriptions_of, self.account.id)
        )
        self.assertTrue(job(self.store, mailboxes.unsubscribe, self.account.id, "nowhere"))


class ThreadTests(StoreCase):
    def thread(self, added):
        return now(
            self.store.read(
                lambda tx: tx.raw(
                    "select thread_id, thread_parents from messages m join message_meta t "
                    f"on t.id = m.id where m.id = {added.id}"
                ).fetchone()
            )
        )

    def test_subject_and_references(self):
        first = self.add(b"Message-ID: <a@x>\r\nSubject: plan\r\n\r\n")
        reply = self.add(
            b"Message-ID: <b@x>\r\nReferences: <a@x>\r\nSubject: Re: plan\r\n\r\n"
        )
        nested = self.add(
            b"Message-ID: <c@x>\r\nReferences: <a@x> <b@x>\r\nSubject: Re: plan\r\n\r\n"
        )
        subject = self.add(b"Message-ID: <d@x>\r\nSubject: Re: plan\r\n\r\n")
        other = self.add(b"Message-ID: <e@x>\r\nSubject: plan\r\n\r\n")
        self.assertEqual(self.thread(first), (first.id, ""))
        self.assertEqual(self.thread(reply), (first.id, f"{first.id}"))
        self.assertEqual(self.thread(nested), (first.id, f"{reply.id} {first.id}"))
        self.assertEqual(self.thread(subject)[0], first.id)
        self.assertEqual(self.thread(other), (other.id, ""))


class SearchTests(StoreCase):
    def find(self, criterion, **kwargs):
        return job(self.store, search.search, self.inbox.id, criterion, **kwargs)

    def test_trees(self):
        self.add(b"Subject: alpha\r\nFrom: a@x\r\n\r\nHello World\r\n", flags=Flag.SEEN)
        self.add(b"Subject: beta\r\nFrom: b@x\r\n\r\nhello there\r\n", keywords=("kw",))
        self.add(b"Subject: gamma\r\nFrom: c@x\r\n\r\nbye\r\n", prefix=b"Received: by Relay\r\n")
        self.assertEqual(self.find(search.All()), [1, 2, 3])
        self.assertEqual(self.find(search.All(), uid_below=3), [1, 2])
        self.assertEqual(self.find(search.Body("HELLO")), [1, 2])
        self.assertEqual(self.find(search.Not(search.Body("hello"))), [3])
        self.assertEqual(self.find(search.Text("relay")), [3])
        self.assertEqual(self.find(search.Body("relay")), [])
        self.assertEqual(self.find(search.Flags(1, 1)), [1])
        self.assertEqual(self.find(search.Keyword("kw")), [2])
        self.assertEqual(self.find(search.Keyword("k")), [])
        self.assertEqual(self.find(search.Header("subject", "beta")), [2])
        self.assertEqual(self.find(search.Header("received", "")), [3])
        self.assertEqual(self.find(search.Uids([(2, 9)])), [2, 3])
        self.assertEqual(
            self.find(search.And([search.Body("hello"), search.Flags(1, 0)])), [2]
        )
        self.assertEqual(
            self.find(search.Or([search.Header("from", "c@x"), search.Flags(1, 1)])), [1, 3]
        )
        self.assertEqual(self.find(search.Size(above=10_000)), [])
        self.assertEqual(self.find(search.Uids([(n, n) for n in range(1, 500, 2)])), [1, 3])

    def test_blanks_before_the_colon_of_a_field(self):
        self.add(b"From : a@x\r\nSubject : spaced\r\n\r\nbody\r\n", prefix=b"Received: by me\r\n")
        self.assertEqual(self.find(search.Header("from", "a@x")), [1])
        self.assertEqual(self.find(search.Header("subject", "")), [1])
        self.assertEqual(self.find(search.Header("subj", "")), [])

    def test_long_text_is_decoded_when_searched(self):
        self.add(b"Subject: long\r\n\r\n" + b"lorem ipsum\r\n" * 20_000 + b"Needle\r\n")
        self.add(b"Subject: other long\r\n\r\n" + b"lorem ipsum\r\n" * 20_000)
        self.assertEqual(self.find(search.Body("needle")), [1])
        self.assertEqual(self.find(search.Text("needle")), [1])
        self.assertEqual(self.find(search.Text("other long")), [2])
        self.assertEqual(self.find(search.Body("other long")), [])


class DamageTests(SynchronousTestCase):
    """The consistency check finds what is wrong: each case damages a store in one way."""

    def damaged(self, *statements):
        store = make_store(self)
        account = make_account(store)
        inbox = job(store, mailboxes.named, account.id, "Inbox")
        archive = job(store, mailboxes.named, account.id, "Archive")
        for number in range(3):
            new = message(
                store,
                b"Subject: s\r\nMessage-ID: <%d@x>\r\nReferences: <%d@x>\r\n\r\nbody\r\n"
                % (number, number - 1),
                keywords=("kw",),
                flags=(0, Flag.SEEN, Flag.DELETED)[number],
            )
            job(store, messages.add, account.id, inbox.id, new)
        job(store, messages.add, account.id, inbox.id, message(store, BIG))
        job(store, transfer.move, account.id, inbox.id, [(2, 2)], archive.id)

        def verified():
            return now(Deferred.fromCoroutine(verify.verify_all(store)))

        self.assertEqual(verified(), [])
        job(store, lambda tx: [tx.raw(statement) for statement in statements])
        return " / ".join(verified())

    def test_each_kind(self):
        first = "WHERE uid = 1 AND expunged = 0"
        inbox = "WHERE name = 'Inbox'"
        for statement, kind in (
            ("UPDATE accounts SET disk_usage = disk_usage + 1", "disk usage"),
            ("UPDATE accounts SET next_uidvalidity = 1", "uidvalidity"),
            ("UPDATE accounts SET modseq = 1", "bad create_seq or modseq"),
            (f"UPDATE mailboxes SET total = total + 1 {inbox}", "counts"),
            (f"UPDATE mailboxes SET unseen = 0 {inbox}", "counts"),
            (f"UPDATE mailboxes SET deleted_size = 0 {inbox}", "counts"),
            (f"UPDATE mailboxes SET uidnext = 2 {inbox}", "not below uidnext"),
            (f"UPDATE mailboxes SET modseq = create_seq {inbox}", "modseq below that of what"),
            (f"UPDATE mailboxes SET keywords = '' {inbox}", "keywords are not in"),
            (f"UPDATE mailboxes SET parent_id = 2 {inbox}", "parent does not fit"),
            ("UPDATE mailboxes SET name = 'a/b' WHERE name = 'Trash'", "parent does not fit"),
            (f"UPDATE mailboxes SET expunged = 1 {inbox}", "live in a deleted mailbox"),
            (f"UPDATE messages SET flags = 65 {first}", "counts"),
            (f"UPDATE messages SET size = size + 1 {first}", "size"),
            (f"UPDATE messages SET modseq = 0 {first}", "bad create_seq or modseq"),
            (f"UPDATE messages SET create_seq = modseq + 1 {first}", "bad create_seq or modseq"),
            (f"UPDATE messages SET thread_id = 0 {first}", "no thread"),
            ("DELETE FROM content_text", "search text is missing"),
            ("DELETE FROM content_data", "bytes, its row says"),
            (
                "UPDATE content_data SET data = CAST(replace(data, 'body', 'ydob') AS BLOB)",
                "digest",
            ),
            ("DELETE FROM message_meta WHERE message_id = '0@x'", "content or prefix is missing"),
            (
                "UPDATE message_meta SET thread_parents = id WHERE message_id = '0@x'",
                "its own ancestor",
            ),
            (
                "UPDATE message_meta SET thread_parents = thread_parents || ' 12345'"
                " WHERE message_id = '2@x'",
                "ancestors differ",
            ),
            ("UPDATE contents SET size = size + 1 WHERE file IS NOT NULL", "bytes, its row says"),
            ("UPDATE contents SET file = 'aa/none' WHERE file IS NOT NULL", "content"),
            ("UPDATE messages SET content_id = NULL WHERE uid = 4", "missing"),
        ):
            found = self.damaged("PRAGMA foreign_keys = OFF", statement)
            self.assertIn(kind, found, statement)

    def test_what_is_kept_of_expunged_messages(self):
        found = self.damaged(
            "UPDATE messages SET expunged = 1, size = 7 WHERE uid = 2 AND expunged = 2"
        )
        self.assertIn("disk usage", found)
