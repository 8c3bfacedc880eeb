"""What earlier messages say about a sender."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.inbound.reputation import (
    QUESTIONS_BY_AUTHOR,
    QUESTIONS_BY_CLIENT,
    QUESTIONS_BY_ORGANIZATION,
    QUESTIONS_BY_SIGNER,
    Reputation,
    Sender,
    reputation,
)
from moxtw.store import changing, history, mailboxes, messages, transfer
from moxtw.store.history import Questions
from moxtw.store.model import Delivery, Flag, SpecialUse
from moxtw.store.schema_history import history as history_table
from moxtw.store.schema_history import history_due
from moxtw.store.tx import Statement
from tests.support.store import job, make_account, make_store, message

DAY = 86_400_000_000
NOW = 1_750_000_000_000_000
JUNK, GOOD = int(Flag.JUNK), int(Flag.NOTJUNK)


class Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = make_store(self, self.clock)
        self.account = make_account(self.store)
        self.inbox = job(self.store, mailboxes.find, self.account.id, "Inbox")
        self.archive = job(self.store, mailboxes.ensure, self.account.id, "Archive")

    def add(self, flags: int = 0, days: int = 0, **fields: Any) -> int:
        delivery = Delivery(**{"remote_ip": "192.0.2.1", **fields})
        new = message(
            self.store,
            delivery=delivery,
            flags=flags,
            received=NOW - days * DAY,
            junk_flags=False,
        )
        return int(job(self.store, messages.add, self.account.id, self.inbox.id, new).uid)

    def author(self, flags: int, address: str = "b@example.net", valid: bool = True,
               days: int = 0) -> int:  # fmt: skip
        localpart, domain = address.split("@")
        return self.add(
            flags,
            days,
            remote_ip="",
            msg_from_localpart=localpart,
            msg_from_domain=domain,
            msg_from_org_domain=".".join(domain.split(".")[-2:]),
            msg_from_validated=valid,
        )

    def ask(self, mailbox_id: int | None = None, **fields: Any) -> Reputation:
        while job(self.store, history.follow):
            pass
        mailbox = self.inbox.id if mailbox_id is None else mailbox_id
        return job(self.store, reputation, self.account.id, mailbox, Sender(**fields))

    def ask_author(self, address: str = "b@example.net", valid: bool = True) -> Reputation:
        localpart, domain = address.split("@")
        return self.ask(
            from_localpart=localpart,
            from_domain=domain,
            from_org_domain=".".join(domain.split(".")[-2:]),
            from_validated=valid,
        )


class AuthorTests(Base):
    def test_nobody_knows(self) -> None:
        self.assertEqual(self.ask_author(), Reputation(None, False, "none"))

    def test_address(self) -> None:
        self.author(0)
        self.assertEqual(self.ask_author().method, "none")
        self.author(JUNK, days=1)
        self.assertEqual(self.ask_author(), Reputation(True, True, "msgfromfull"))
        self.author(GOOD, days=2)
        self.assertEqual(self.ask_author(), Reputation(False, True, "msgfromfull"))
        # Only the two newest count.
        self.author(JUNK)
        self.assertEqual(self.ask_author(), Reputation(True, True, "msgfromfull"))

    def test_address_not_validated(self) -> None:
        self.author(GOOD, valid=False)
        self.assertEqual(self.ask_author(valid=False), Reputation(False, False, "msgfromfull"))
        self.author(JUNK, "c@example.net", valid=False)
        self.assertEqual(
            self.ask_author("c@example.net", valid=False), Reputation(True, False, "msgfromfull")
        )

    def test_author_that_used_to_be_validated(self) -> None:
        self.author(GOOD)
        self.assertEqual(self.ask_author(valid=False), Reputation(True, False, "msgfromfull"))
        self.author(JUNK, "c@example.net")
        self.assertEqual(
            self.ask_author("c@example.net", valid=False), Reputation(True, True, "msgfromfull")
        )

    def test_age_and_mailbox(self) -> None:
        self.author(GOOD, days=3 * 365 + 1)
        self.assertEqual(self.ask_author().method, "none")
        self.author(GOOD)
        self.assertEqual(self.ask(self.archive.id, from_localpart="b",
                                  from_domain="example.net").method, "none")  # fmt: skip

    def test_sent_to(self) -> None:
        sent = job(self.store, mailboxes.create, self.account.id, "S", SpecialUse.SENT)[-1]
        data = b"To: b@sub.example.net\r\n\r\n"
        job(self.store, messages.add, self.account.id, sent.id, message(self.store, data))
        self.assertEqual(
            self.ask_author("b@sub.example.net"), Reputation(False, True, "msgtofull")
        )
        self.assertEqual(
            self.ask_author("c@sub.example.net", valid=False),
            Reputation(False, True, "msgtodomain"),
        )

    def test_domain(self) -> None:
        for number in range(5):
            self.author(GOOD, f"good{number}@example.net", days=number)
        self.assertEqual(self.ask_author(), Reputation(False, True, "msgfromdomain"))
        self.author(JUNK, "j@example.net")
        self.assertEqual(self.ask_author(), Reputation(False, True, "msgfromdomain"))
        self.author(JUNK, "k@example.net")
        self.assertEqual(self.ask_author(), Reputation(None, False, "msgfromdomain"))
        self.assertEqual(self.ask_author(valid=False), Reputation(True, True, "msgfromdomain"))

    def test_junk_of_a_domain_needs_several_authors(self) -> None:
        for number in range(3):
            self.author(JUNK, f"j{number % 2}@example.net")
        self.assertEqual(self.ask_author(), Reputation(True, False, "msgfromdomain"))
        self.author(JUNK, "j3@example.net")
        self.assertEqual(self.ask_author(), Reputation(True, True, "msgfromdomain"))

    def test_organizational_domain(self) -> None:
        self.author(GOOD, "x@sub.example.net")
        self.assertEqual(self.ask_author(), Reputation(False, True, "msgfromorgdomain"))


class OtherTests(Base):
    def test_dkim_and_spf(self) -> None:
        self.add(GOOD, remote_ip="", msg_from_domain="x.example",
                 dkim_domains=("esp.example", "other.example"))  # fmt: skip
        good = self.ask(dkim_domains=["other.example"])
        self.assertEqual(good, Reputation(False, True, "dkimspf"))
        self.add(JUNK, mail_from_localpart="a", mail_from_domain="bad.example")
        spf = {"mail_from_domain": "bad.example", "mail_from_localpart": "a"}
        self.assertEqual(self.ask(**spf).method, "none")
        spf["mail_from_validated"] = True
        self.assertEqual(self.ask(**spf), Reputation(True, False, "dkimspf"))
        self.assertEqual(
            self.ask(dkim_domains=["esp.example"], **spf), Reputation(None, False, "dkimspf")
        )
        self.add(JUNK, mail_from_localpart="b", mail_from_domain="bad.example")
        self.assertEqual(
            self.ask(**{**spf, "mail_from_localpart": "z"}), Reputation(True, True, "dkimspf")
        )
        self.add(GOOD, ehlo_domain="mx.example")
        self.assertEqual(
            self.ask(ehlo_domain="mx.example", ehlo_validated=True),
            Reputation(False, True, "dkimspf"),
        )

    def test_networks(self) -> None:
        ips = ("192.0.2.1", "192.0.2.0", "192.0.0.0")
        other = ("192.0.2.9", "192.0.2.0", "192.0.0.0")
        self.add(JUNK)
        self.assertEqual(self.ask(ip=ips), Reputation(True, False, "ip1"))
        self.add(JUNK)
        self.assertEqual(self.ask(ip=ips), Reputation(True, True, "ip1"))
        self.assertEqual(self.ask(ip=other), Reputation(True, False, "ip2"))
        for _ in range(3):
            self.add(JUNK)
        self.assertEqual(self.ask(ip=other), Reputation(True, True, "ip2"))
        self.add(GOOD)
        self.assertEqual(self.ask(ip=other), Reputation(True, False, "ip2"))
        self.add(GOOD)
        self.assertEqual(self.ask(ip=other), Reputation(None, False, "ip2"))
        self.add(GOOD, days=92)
        self.assertEqual(self.ask(ip=("198.51.100.1", "", "")).method, "none")


class FollowTests(Base):
    def rows(self) -> list[tuple[int, int]]:
        """Mailbox and junk of what is known, after all that was due."""
        while job(self.store, history.follow):
            pass
        self.assertEqual(job(self.store, lambda tx: tx.all(Statement(sa.select(history_due)))), [])
        query = Statement(
            sa.select(history_table.c.mailbox_id, history_table.c.junk).order_by(
                history_table.c.message_id
            )
        )
        return job(self.store, lambda tx: tx.all(query))

    def flag(self, op: str, flags: int) -> None:
        job(self.store, changing.store_flags, self.account.id, self.inbox.id, [(1, 99)], op,
            flags, ())  # fmt: skip

    def test_flags(self) -> None:
        self.add()
        self.assertEqual(self.rows(), [])
        self.flag("+", JUNK)
        self.assertEqual(self.rows(), [(self.inbox.id, 1)])
        self.flag("+", GOOD)
        self.assertEqual(self.rows(), [])
        self.flag("-", JUNK)
        self.assertEqual(self.rows(), [(self.inbox.id, 0)])
        self.flag("=", 0)
        self.assertEqual(self.rows(), [])

    def test_move_copy_and_removal(self) -> None:
        self.add(GOOD)
        args = (self.account.id, self.inbox.id, [(1, 1)], self.archive.id)
        job(self.store, transfer.copy, *args)
        self.assertEqual(self.rows(), [(self.inbox.id, 0)] * 2)
        job(self.store, transfer.move, *args)
        self.assertEqual(self.rows(), [(self.inbox.id, 0)] * 2)
        job(self.store, changing.expunge, self.account.id, self.archive.id, only_deleted=False)
        self.assertEqual(self.rows(), [])

    def test_it_follows_by_itself(self) -> None:
        self.store.add_chore("history", history.follow)
        self.clock.advance(1)
        self.add(GOOD)
        self.clock.advance(0.3)
        query = Statement(sa.select(history_table.c.message_id))
        self.assertEqual(len(job(self.store, lambda tx: tx.all(query))), 1)

    def test_messages_that_did_not_come_by_smtp_are_not_of_interest(self) -> None:
        new = message(self.store, flags=GOOD)
        job(self.store, messages.add, self.account.id, self.inbox.id, new)
        self.assertEqual(self.rows(), [])


class CostTests(Base):
    """Lookups cost the same, whatever a mailbox holds."""

    def test_only_indexes(self) -> None:
        """Each question is answered by an index alone, down to the time it asks for."""
        for questions in (
            *QUESTIONS_BY_AUTHOR.values(),
            QUESTIONS_BY_CLIENT,
            QUESTIONS_BY_ORGANIZATION,
            QUESTIONS_BY_SIGNER,
        ):
            sql, order, _ = questions.statement.compiled(self.store.backend.dialect)
            plan = job(
                self.store,
                lambda tx, sql=sql, order=order: tx._execute(
                    f"EXPLAIN QUERY PLAN {sql}", [""] * len(order)
                ).fetchall(),
            )
            steps = [row[3] for row in plan]
            searches = [step for step in steps if "history" in step or "recipients" in step]
            self.assertGreater(len(searches), 0)
            for step in searches:
                self.assertIn("USING COVERING INDEX", step)
                if "(account_id=? AND domain=?)" not in step:
                    self.assertRegex(step, r"(received|sent)>\?\)$")
            self.assertNotIn("USE TEMP B-TREE FOR ORDER BY", steps)

    def test_one_statement_for_the_author_and_one_for_the_client(self) -> None:
        """Whoever is known by the address, or not at all."""
        counted: list[str] = []
        ask = Questions.ask

        def counting(self: Questions, *args: Any, **values: Any) -> Any:
            counted.append("asked")
            return ask(self, *args, **values)

        self.patch(Questions, "ask", counting)
        self.author(GOOD)
        self.ask_author()
        self.assertEqual(len(counted), 1)
        self.ask(from_localpart="x", from_domain="y.example", dkim_domains=["y.example"])
        self.assertEqual(len(counted), 3)
