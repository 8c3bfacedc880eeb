"""A store, a configuration that signs, and a resolver, for tests of reports."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import dkim, dkimsign
from moxtw.authn.dkimkey import public_record
from moxtw.config.testing import DYNAMIC, STATIC, FixedConfig
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.domain import parse_domain
from moxtw.reports.outgoing import Outbox
from moxtw.store import queuedb, queuelists
from moxtw.store.db import Store
from moxtw.store.queuerecord import Queued
from tests.support.store import job, make_account, now

NOON = 1_795_608_000  # 2026-11-25, 12:00 UTC
SIGNING = DYNAMIC.replace(
    "\t\tLocalpartCatchallSeparator: +\n",
    "\t\tLocalpartCatchallSeparator: +\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\tsel:\n"
    "\t\t\t\t\tPrivateKeyFile: none\n\t\t\tSign:\n\t\t\t\t- sel\n",
)


class ReportCase(SynchronousTestCase):
    """`self.zones` is what the resolver knows; `self.queue()` what was queued."""

    static = STATIC

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOON
        self.store = Store(
            self.mktemp(),
            self.clock,
            inline=True,
            now=lambda: int(self.clock.seconds() * 1_000_000),
        )
        self.store.open()
        self.store.startService()
        self.addCleanup(self.store.stopService)
        make_account(self.store, "me")
        self.config = FixedConfig(SIGNING, self.static)
        (selector,) = dkimsign.selectors_for(self.config.domains["example.org"])
        key = Ed25519PrivateKey.generate()
        object.__setattr__(selector, "private_key", key)
        self.resolver = ZoneResolver(
            {"sel._domainkey.example.org": {"TXT": [public_record(key)]}}
        )
        self.outbox = Outbox(self.store, self.config)

    def run_now(self, work: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def queue(self) -> list[tuple[Queued, bytes]]:
        """What is queued, with the whole messages; each is signed as it should be."""
        found = []
        ids = job(self.store, lambda tx: queuelists.ids(tx, queuelists.Query()))
        for row in job(self.store, queuelists.rows, ids):
            data = job(self.store, queuedb.read, row.id)
            source = now(self.store.contents.from_bytes(data))
            results = self.run_now(
                dkim.verify(self.resolver, source, int(self.clock.seconds()))
            )
            self.assertEqual([each.status for each in results], ["pass"], results)
            self.assertEqual(results[0].domain, parse_domain("example.org"))
            found.append((row, data))
        return sorted(found, key=lambda each: each[0].recipient)
