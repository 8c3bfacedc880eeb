"""The audit log: what it says, what it keeps to itself, how it is listed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import audit
from moxtw.admin.audit import shown
from moxtw.admin.context import Caller, OperationError, not_found
from moxtw.ctl.commands import COMMANDS
from moxtw.store import auditdb
from moxtw.web import accountapi, adminapi
from moxtw.web.configtypes import OutgoingWebhook
from tests.support.admin import make_admin_context
from tests.support.store import job

ADMIN = Caller("webadmin", "(admin)", "192.0.2.1", 0x1F)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)


class ShownTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        text = shown(
            {
                "password": "hunter2",
                "url": "https://me:hunter2@hooks.example/x",
                "hook": OutgoingWebhook(url="https://h.example/", authorization="Basic hunter2"),
                "all": [{"importToken": "hunter2"}],
                "empty": {"authorization": ""},
            }
        )
        self.assertNotIn("hunter2", text)
        found = json.loads(text)
        self.assertEqual(found["password"], "(not shown)")
        self.assertEqual(found["url"], "https://…@hooks.example/x")
        self.assertEqual(found["hook"]["URL"], "https://h.example/")
        self.assertEqual(found["empty"], {"authorization": ""})

    def test_parameters_with_secrets(self) -> None:
        # All that the functions and commands have; a new one is to be looked at.
        named = {
            (fn.name, name)
            for registry in (adminapi.registry, accountapi.registry)
            for fn in registry.functions.values()
            if not fn.reads and not fn.open
            for name, _ in fn.params
            if name.lower() in audit.SECRET
        }
        self.assertEqual(
            named,
            {
                ("SetPassword", "password"),
                ("ImportAbort", "importToken"),
                ("OutgoingWebhookSave", "authorization"),
                ("OutgoingWebhookTest", "authorization"),
                ("OutgoingWebhookTest", "data"),
                ("IncomingWebhookSave", "authorization"),
                ("IncomingWebhookTest", "authorization"),
                ("IncomingWebhookTest", "data"),
            },
        )
        self.assertEqual(
            COMMANDS["setaccountpassword"].named(["me", "hunter2"]),
            {"name": "me", "password": "hunter2"},
        )

    def test_long_ones_are_shortened(self) -> None:
        found = json.loads(shown({"text": "x" * 1000, "list": list(range(1000))}))
        self.assertEqual(found["text"], "x" * 300 + "… (and 700 characters)")
        self.assertEqual(found["list"][-2:], [99, "(and 900 more)"])
        wide = {"w": [{str(n): "y" * 50 for n in range(100)}] * 100}
        self.assertLess(len(shown(wide)), 4100)
        self.assertIn("(size)", json.loads(shown(wide)))

    @given(st.dictionaries(st.text(), JSON))
    def test_any(self, params: dict[str, Any]) -> None:
        text = shown(params)
        self.assertLess(len(text), 4100)
        self.assertIsInstance(json.loads(text), dict)


class NotLoggedTests(SynchronousTestCase):
    """What is marked as only reading leaves no trace, so a mark has to be given knowingly."""

    def test_functions(self) -> None:
        for registry, names in (
            (adminapi.registry, ADMIN_READS),
            (accountapi.registry, ACCOUNT_READS),
        ):
            marked = {fn.name for fn in registry.functions.values() if fn.reads}
            self.assertEqual(marked, set(names.split()))
            # Whatever its name says is a change is one.
            for name in registry.functions:
                for verb in ("Add", "Remove", "Save", "Set", "Drop", "Fail", "Cancel", "Extend"):
                    if name.endswith(verb):
                        self.assertNotIn(name, marked)

    def test_commands(self) -> None:
        self.assertEqual(
            {name for name, command in COMMANDS.items() if command.reads}, set(CTL_READS.split())
        )


ADMIN_READS = """
    Account Accounts AuditLog CheckDomain CheckUpdatesEnabled ClientConfigsDomain Config
    ConfigFiles DMARCEvaluationStats DMARCEvaluationsDomain DMARCReportID DMARCReports
    DMARCSummaries DMARCSuppressList DNSBLStatus Domain DomainConfig DomainLocalparts
    DomainRecords Domains HookList HookQueueSize HookRetiredList LogLevels LoginAttempts
    LookupCid LookupIP LookupTLSRPTRecord MTASTSPolicies ParseDomain QueueHoldRuleList QueueList
    QueueSize RetiredList TLSPublicKeys TLSRPTResults TLSRPTResultsDomain TLSRPTSummaries
    TLSRPTSuppressList TLSReportID TLSReports Transports Version WebserverConfig
"""
ACCOUNT_READS = "Account LoginAttempts SuppressionList TLSPublicKeys Types Version"
CTL_READS = """
    accountaddresses accountlist addressaccount aliaslist aliasprint auditlog loglevels
    queueholdruleslist queuehooklist queuehookprint queuehookretiredlist queuehookretiredprint
    queuelist queueretiredlist queueretiredprint queuesuppresslist queuesuppresslookup
    tlspubkeyget tlspubkeylist
"""


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self)
        self.clock: Any = self.ctx.clock

    def now(self, work: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def listed(self, **wanted: Any) -> list[tuple[str, str]]:
        rows = self.now(audit.entries(self.ctx, ADMIN, **wanted))
        return [(row.operation, row.result) for row in rows]

    def note(self, operation: str, caller: Caller = ADMIN) -> None:
        self.now(self.ctx.audit.note(caller, operation, {"n": 1}))

    def test_entries(self) -> None:
        async def refused() -> None:
            # It is there before the operation is.
            self.assertEqual(self.listed(most=1), [("Remove", "")])
            raise not_found("no such thing")

        self.note("Add")
        noted = Deferred.fromCoroutine(
            self.ctx.audit.noted(ADMIN, "Remove", {"name": "x"}, refused())
        )
        self.failureResultOf(noted, OperationError)
        last, first = self.now(audit.entries(self.ctx, ADMIN))
        self.assertEqual((first.operation, first.result, first.message), ("Add", "ok", ""))
        self.assertEqual(last[2:6], ("webadmin", "(admin)", "192.0.2.1", 0x1F))
        self.assertEqual(last[6:], ("Remove", '{"name":"x"}', "user:notFound", "no such thing"))

    def test_filters(self) -> None:
        self.note("One")
        self.clock.advance(3600)
        self.note("Two", Caller("ctl", "uid 0"))
        self.clock.advance(3600)
        self.note("Three")
        names = ["Three", "Two", "One"]
        self.assertEqual([name for name, _ in self.listed()], names)
        for wanted, expected in (
            ({"most": 2}, names[:2]),
            ({"by": "uid 0"}, ["Two"]),
            ({"by": "uid 1"}, []),
            ({"operation": "Three", "by": "(admin)"}, ["Three"]),
            ({"since": "-90m"}, names[:2]),
            ({"since": "-90m", "until": "-30m"}, ["Two"]),
            ({"until": "2025-06-15T16:00:00Z"}, ["One"]),
            ({"since": "now", "until": "now"}, []),
            ({"since": "2025-06-15"}, names),
            ({"until": "2025-06-15"}, []),
        ):
            with self.subTest(wanted=wanted):
                self.assertEqual([name for name, _ in self.listed(**wanted)], expected)
        first = self.now(audit.entries(self.ctx, ADMIN, most=1))[0].id
        self.assertEqual([name for name, _ in self.listed(before=first)], names[1:])
        for text in ("yesterday", "2025-13-01", "-24", "x" * 1000):
            refused = Deferred.fromCoroutine(audit.entries(self.ctx, ADMIN, since=text))
            self.failureResultOf(refused, OperationError)

    def test_old_ones_go(self) -> None:
        self.note("Old")
        self.clock.advance(auditdb.KEPT // 1_000_000 + 1)
        self.note("New")
        self.assertEqual(self.listed(), [("New", "ok")])

    def test_not_too_many(self) -> None:
        self.patch(auditdb, "MOST", 5)
        for number in range(9):
            self.note(str(number))
        self.assertEqual([name for name, _ in self.listed()], list("87654"))

    def test_operations_go_on_without_their_log(self) -> None:
        job(self.ctx.store, lambda tx: tx.raw("DROP TABLE audit_log"))

        async def work() -> str:
            return "done"

        noted = self.ctx.audit.noted(ADMIN, "Add", {}, work())
        self.assertEqual(self.now(noted), "done")
