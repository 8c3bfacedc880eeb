"""Deliveries to hosts whose domains say how safe the way must be: MTA-STS, DANE, REQUIRETLS.

Real sockets and TLS on loopback, names from a dict, certificates of a test authority.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from moxtw import metrics
from moxtw.config.testing import FixedConfig
from moxtw.dns.fake import ZoneResolver
from moxtw.mail.address import parse_address, parse_path
from moxtw.net.tlsclient import Roots
from moxtw.queue.mtasts import PolicyCache
from moxtw.queue.service import QueueService
from moxtw.queue.submit import SubmitRequest, Submitter
from moxtw.queue.tlsrules import Safety
from moxtw.smtp.dial import Dialer
from moxtw.store import accounts, mtastsdb, queuelists, tlsresults
from moxtw.store.db import Store
from moxtw.store.queuelists import Order, Query
from moxtw.store.queuerecord import Queued, Retired
from moxtw.store.tlsresults import TLSResult
from moxtw.tlspolicy import tlsrpt
from moxtw.tlspolicy.dane import make_record
from moxtw.tlspolicy.mtastsfetch import Fetcher
from tests.functional.smtpsink import Sink, reactor
from tests.functional.test_queue_delivery import HEADER, LIMITS, Case
from tests.support.ca import Authority, Issued

CA = Authority()
STRANGER = Authority("stranger")
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n"
TESTING = POLICY.replace(b"enforce", b"testing")


class Policies(Resource):
    """Serves one text as policy, or a status."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answer: bytes | int = 404
        self.asked = 0

    def render_GET(self, request: Any) -> bytes:  # noqa: N802
        self.asked += 1
        if isinstance(self.answer, int):
            request.setResponseCode(self.answer)
            request.setHeader(b"Location", b"/elsewhere")
            return b""
        assert request.path == b"/.well-known/mta-sts.txt"
        return self.answer


def as_deferred(test: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(test)
    def run(self: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(test(self))

    return run


class World(Case):
    """One domain, dst.example, with one host, mx.example."""

    timeout = 30

    async def start(
        self,
        tls: Any = None,
        *,
        policy: bytes | int | None = None,
        tlsa: Any = (),
        authentic: Any = True,
        fail: Any = None,
        web: Issued | None = None,
        requiretls: bool = False,
        mx: str = "mx.example.",
    ) -> None:
        if isinstance(tls, Issued):
            tls = tls.context_factory()
        self.sink = Sink(tls=tls, requiretls=requiretls)
        port = self.listen(self.sink)
        self.policies = Policies()
        web = web or CA.issue("mta-sts.dst.example")
        listening = reactor.listenSSL(
            0, Site(self.policies), web.context_factory(), interface="127.0.0.1"
        )
        self.addCleanup(listening.stopListening)
        zones: dict[str, Any] = {
            "dst.example.": {"MX": [(1, mx)]},
            mx: {"A": ["127.0.0.1"]},
            "alias.example.": {"CNAME": ["mx.example."]},
            "mta-sts.dst.example.": {"A": ["127.0.0.1"]},
        }
        if tlsa:
            zones[f"_25._tcp.{mx}"] = {"TLSA": list(tlsa)}
        if policy is not None:
            zones["_mta-sts.dst.example."] = {"TXT": ["v=STSv1; id=1;"]}
            self.policies.answer = policy
        self.resolver = ZoneResolver(zones, authentic=authentic, fail=fail)
        self.store = Store(self.mktemp(), reactor)
        self.store.open()
        self.store.startService()
        self.addCleanup(self.store.stopService)
        await self.store.write(lambda tx: accounts.ensure(tx, "me"))
        self.config = FixedConfig(LIMITS)
        self.submitter = Submitter(self.store, self.config)
        roots = Roots(system=False, pems=[CA.pem])
        fetcher = Fetcher(
            self.resolver,
            reactor,
            roots,
            user_agent="test",
            ports={443: listening.getHost().port},
        )
        self.cache = PolicyCache(self.store, fetcher, reactor.seconds)
        self.service = QueueService(
            self.store,
            self.config,
            self.resolver,
            Dialer(reactor, roots),
            reactor,
            port=port,
            policy=Safety(self.cache, self.resolver, reactor),
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)

    async def send(self, require_tls: bool | None = None) -> Queued | Retired:
        """Send a message; what became of it after the first attempt."""
        content = await self.store.contents.from_bytes(HEADER)
        [sent] = await self.submitter(
            SubmitRequest(
                account="me",
                login_address=parse_address("me@example.org"),
                mail_from=parse_path("me@example.org"),
                recipients=[parse_path("x@dst.example")],
                content=content,
                require_tls=require_tls,
            )
        )

        def look(tx: Any) -> Any:
            for retired in queuelists.retired(tx, Query(), Order("last_activity", True)):
                if retired.id == sent.id:
                    return retired
            for queued in queuelists.queued(tx, Query(), Order("queued", True)):
                results = queued[0].results
                if queued[0].id == sent.id and results and results[-1].duration:
                    return queued[0]
            return None

        return await self.until(look)  # type: ignore[no-any-return]

    def forget_sessions(self) -> None:
        """End the sessions that are kept for further messages."""
        self.service._pool.stop()
        self.service._pool.start()

    async def delivered(self, require_tls: bool | None = None, *, tls: bool = True) -> None:
        outcome = await self.send(require_tls)
        self.assertIsInstance(outcome, Retired, outcome.results)
        assert isinstance(outcome, Retired)
        self.assertTrue(outcome.success, outcome.results)
        self.assertEqual(self.sink.messages[-1][3], tls)

    async def deferred(self, text: str, require_tls: bool | None = None) -> None:
        outcome = await self.send(require_tls)
        self.assertIsInstance(outcome, Queued, outcome.results)
        self.assertIn(text, outcome.results[-1].error)
        self.assertEqual(self.sink.messages, [])

    async def failed(self, text: str, require_tls: bool | None = None) -> None:
        outcome = await self.send(require_tls)
        self.assertIsInstance(outcome, Retired, outcome.results)
        assert isinstance(outcome, Retired)
        self.assertFalse(outcome.success)
        self.assertIn(text, outcome.results[-1].error)
        self.assertEqual(self.sink.messages, [])

    async def reported(self) -> list[tuple[str, str, int, int, list[tuple[str, str]]]]:
        """Type, domain, good and bad sessions, and failures of what would be reported."""
        await self.service._tls_results.flush()
        found: list[TLSResult] = await self.store.read(tlsresults.list_all)
        return sorted(
            (
                result.policy_type,
                result.domain,
                result.success,
                result.failure,
                [(failure.result_type, failure.reason) for failure in result.failures],
            )
            for row in found
            for result in row.results
        )


class OpportunisticTests(World):
    @as_deferred
    async def test_no_tls(self) -> None:
        await self.start(None)
        await self.delivered(tls=False)
        failures = [("starttls-not-supported", "")]
        self.assertEqual(
            await self.reported(),
            [
                (tlsrpt.NO_POLICY, "dst.example", 0, 1, failures),
                (tlsrpt.NO_POLICY, "mx.example", 0, 1, failures),
            ],
        )

    @as_deferred
    async def test_certificates_are_only_reported(self) -> None:
        await self.start(CA.issue("mx.example", end=timedelta(hours=-1)))
        await self.delivered()
        failures = [("certificate-expired", "")]
        self.assertEqual(
            await self.reported(),
            [
                (tlsrpt.NO_POLICY, "dst.example", 1, 0, failures),
                (tlsrpt.NO_POLICY, "mx.example", 1, 0, failures),
            ],
        )

    @as_deferred
    async def test_good_certificate(self) -> None:
        await self.start(CA.issue("mx.example"))
        await self.delivered()
        self.assertEqual(
            await self.reported(),
            [
                (tlsrpt.NO_POLICY, "dst.example", 1, 0, []),
                (tlsrpt.NO_POLICY, "mx.example", 1, 0, []),
            ],
        )

    @as_deferred
    async def test_broken_tls_falls_back(self) -> None:
        await self.start("broken")
        await self.delivered(tls=False)
        [domain, _] = await self.reported()
        self.assertEqual(domain[2:4], (0, 1))
        [(kind, reason)] = domain[4]
        self.assertEqual(kind, "validation-failure")
        self.assertTrue(reason.startswith("tls-local-error-"), reason)


class MTASTSTests(World):
    @as_deferred
    async def test_enforced_and_good(self) -> None:
        await self.start(CA.issue("mx.example"), policy=POLICY)
        await self.delivered()
        await self.delivered()
        self.assertEqual(self.policies.asked, 1)
        self.assertEqual(
            await self.reported(),
            [
                # The second went over the same session.
                (tlsrpt.NO_POLICY, "mx.example", 1, 0, []),
                (tlsrpt.STS, "dst.example", 1, 0, []),
            ],
        )
        [row] = [
            row for row in await self.store.read(tlsresults.list_all) if not row.is_host
        ]
        self.assertEqual(row.results[0].strings, tuple(POLICY.decode().splitlines()))
        self.assertEqual(row.results[0].mx_hosts, ("mx.example",))

    @as_deferred
    async def test_enforced_without_starttls(self) -> None:
        await self.start(None, policy=POLICY)
        await self.deferred("STARTTLS")
        [_, sts] = await self.reported()
        self.assertEqual(sts[:4], (tlsrpt.STS, "dst.example", 0, 1))
        self.assertEqual(sts[4][0][0], "starttls-not-supported")

    @as_deferred
    async def test_enforced_with_bad_certificates(self) -> None:
        for issued, kind in (
            (CA.issue("mx.example", end=timedelta(hours=-1)), "certificate-expired"),
            (CA.issue("other.example"), "certificate-host-mismatch"),
            (STRANGER.issue("mx.example"), "certificate-not-trusted"),
        ):
            await self.start(issued, policy=POLICY)
            await self.deferred(kind)
            [_, sts] = await self.reported()
            self.assertEqual(sts, (tlsrpt.STS, "dst.example", 0, 1, [(kind, "")]))

    @as_deferred
    async def test_enforced_for_other_hosts(self) -> None:
        await self.start(CA.issue("mx.example"), policy=POLICY.replace(b"mx: mx", b"mx: my"))
        await self.deferred("not in the mta-sts policy")
        self.assertEqual(
            await self.reported(),
            [
                (
                    tlsrpt.STS,
                    "dst.example",
                    0,
                    1,
                    [("validation-failure", "mtasts-policy-mx-mismatch")],
                )
            ],
        )

    @as_deferred
    async def test_testing_is_only_reported(self) -> None:
        await self.start(
            STRANGER.issue("mx.example"), policy=TESTING.replace(b"mx: mx", b"mx: my")
        )
        await self.delivered()
        [_, sts] = await self.reported()
        self.assertEqual(
            sts,
            (
                tlsrpt.STS,
                "dst.example",
                1,
                0,
                [
                    ("validation-failure", "mtasts-policy-mx-mismatch"),
                    ("certificate-not-trusted", ""),
                ],
            ),
        )

    @as_deferred
    async def test_testing_without_starttls(self) -> None:
        await self.start(None, policy=TESTING)
        await self.delivered(tls=False)

    @as_deferred
    async def test_policies_that_cannot_be_had(self) -> None:
        for answer, web, kind in (
            (404, None, "sts-policy-fetch-error"),
            (301, None, "sts-policy-fetch-error"),
            (b"moo\n", None, "sts-policy-invalid"),
            (b"x" * 70_000, None, "sts-policy-fetch-error"),
            (POLICY, STRANGER.issue("mta-sts.dst.example"), "sts-webpki-invalid"),
            (POLICY, CA.issue("dst.example"), "sts-webpki-invalid"),
        ):
            await self.start(None, policy=answer, web=web)
            await self.delivered(tls=False)
            sts = [each for each in await self.reported() if each[0] == tlsrpt.STS]
            self.assertEqual(
                sts,
                [
                    (
                        tlsrpt.STS,
                        "dst.example",
                        0,
                        1,
                        [(kind, ""), ("starttls-not-supported", "")],
                    )
                ],
            )
            # It is not asked for again with each message.
            asked = self.policies.asked
            await self.delivered(tls=False)
            self.assertEqual(self.policies.asked, asked)

    @as_deferred
    async def test_dns_trouble_defers(self) -> None:
        await self.start(None, fail={("_mta-sts.dst.example", "TXT"): "servfail"})
        await self.deferred("mta-sts policy of dst.example")
        await self.delivered(False, tls=False)

    @as_deferred
    async def test_record_that_vanishes_ends_nothing(self) -> None:
        await self.start(CA.issue("mx.example"), policy=POLICY)
        await self.delivered()
        del self.resolver.zones["_mta-sts.dst.example."]
        self.forget_sessions()
        self.sink.tls = None
        self.sink.messages.clear()
        await self.deferred("STARTTLS")

    @as_deferred
    async def test_newer_policy(self) -> None:
        await self.start(CA.issue("mx.example"), policy=POLICY)
        await self.delivered()
        self.resolver.zones["_mta-sts.dst.example."]["TXT"] = ["v=STSv1; id=2;"]
        self.policies.answer = 500
        await self.delivered()
        [_, sts] = await self.reported()
        self.assertEqual(sts[4], [("sts-policy-fetch-error", "fallback-to-cached-policy")])
        self.policies.answer = POLICY.replace(b"enforce", b"none")
        self.sink.tls = None
        await self.delivered(tls=False)
        kept = await self.store.read(lambda tx: mtastsdb.get(tx, "dst.example"))
        assert kept is not None
        self.assertEqual(kept.record_id, "2")


class DANETests(World):
    @as_deferred
    async def test_match(self) -> None:
        for usage in (2, 3):
            issued = STRANGER.issue("mx.example")
            about = issued.certificate if usage == 3 else STRANGER.certificate
            await self.start(issued, tlsa=[make_record(usage, 1, 1, about)])
            await self.delivered()
            self.assertEqual(
                await self.reported(),
                [
                    # What public authorities would say of the certificate matters there only.
                    (
                        tlsrpt.NO_POLICY,
                        "dst.example",
                        1,
                        0,
                        [("certificate-not-trusted", "")],
                    ),
                    (tlsrpt.TLSA, "mx.example", 1, 0, []),
                ],
            )

    @as_deferred
    async def test_anchor_wants_a_name(self) -> None:
        for name in ("mx.example", "dst.example"):
            await self.start(
                STRANGER.issue(name), tlsa=[make_record(2, 1, 1, STRANGER.certificate)]
            )
            await self.delivered()
        await self.start(
            STRANGER.issue("x.example"), tlsa=[make_record(2, 1, 1, STRANGER.certificate)]
        )
        await self.deferred("certificate is not for mx.example")

    @as_deferred
    async def test_mismatch(self) -> None:
        other = CA.issue("mx.example").certificate
        await self.start(CA.issue("mx.example"), tlsa=[make_record(3, 1, 1, other)])
        await self.deferred("no tlsa record matches")
        [_, tlsa] = await self.reported()
        self.assertEqual(
            tlsa,
            (tlsrpt.TLSA, "mx.example", 0, 1, [("validation-failure", "dane-no-match")]),
        )
        # RFC 8689 5: the message itself may say that it does not care.
        before = metrics.queue_tlsrequiredno_ignored_total.labels("badtls")._value.get()
        await self.delivered(False)
        after = metrics.queue_tlsrequiredno_ignored_total.labels("badtls")._value.get()
        self.assertEqual(after, before + 1)

    @as_deferred
    async def test_no_starttls(self) -> None:
        other = CA.issue("mx.example").certificate
        await self.start(None, tlsa=[make_record(3, 1, 1, other)])
        await self.deferred("STARTTLS")

    @as_deferred
    async def test_records_that_nobody_can_use(self) -> None:
        issued = STRANGER.issue("x.example")
        record = make_record(1, 1, 1, issued.certificate)
        await self.start(issued, tlsa=[record])
        await self.delivered()
        [_, tlsa] = await self.reported()
        self.assertEqual(
            tlsa,
            (
                tlsrpt.TLSA,
                "mx.example",
                1,
                0,
                [("tlsa-invalid", "all-unusable-records+ignored")],
            ),
        )
        await self.start(None, tlsa=[record])
        await self.deferred("STARTTLS")

    @as_deferred
    async def test_not_authentic(self) -> None:
        other = CA.issue("mx.example").certificate
        for authentic in (
            (),
            [("_25._tcp.mx.example", "TLSA"), "mx.example"],
            ["dst.example", ("_25._tcp.mx.example", "TLSA")],
            ["dst.example", "mx.example"],
        ):
            await self.start(None, tlsa=[make_record(3, 1, 1, other)], authentic=authentic)
            await self.delivered(tls=False)

    @as_deferred
    async def test_unknown_records(self) -> None:
        await self.start(
            CA.issue("mx.example"), fail={("_25._tcp.mx.example", "TLSA"): "servfail"}
        )
        await self.deferred("tlsa records of mx.example")
        await self.delivered(False)

    @as_deferred
    async def test_host_that_is_an_alias(self) -> None:
        issued = STRANGER.issue("mx.example")
        await self.start(
            issued,
            tlsa=[make_record(3, 1, 1, issued.certificate)],
            mx="mx.example.",
        )
        self.resolver.zones["dst.example."]["MX"] = [
            self.resolver.zones["dst.example."]["MX"][0]._replace(host="alias.example.")
        ]
        await self.delivered()
        [_, tlsa] = await self.reported()
        self.assertEqual(tlsa[:3], (tlsrpt.TLSA, "mx.example", 1))

    @as_deferred
    async def test_with_mta_sts_both_must_be_content(self) -> None:
        issued = CA.issue("mx.example")
        record = make_record(3, 1, 1, issued.certificate)
        await self.start(issued, tlsa=[record], policy=POLICY)
        await self.delivered()
        stranger = STRANGER.issue("mx.example")
        await self.start(
            stranger, tlsa=[make_record(3, 1, 1, stranger.certificate)], policy=POLICY
        )
        await self.deferred("certificate-not-trusted")
        await self.start(CA.issue("mx.example"), tlsa=[record], policy=POLICY)
        await self.deferred("no tlsa record matches")


class RequireTLSTests(World):
    @as_deferred
    async def test_policies_that_are_enough(self) -> None:
        issued = CA.issue("mx.example")
        for more in (
            {"policy": POLICY},
            {"tlsa": [make_record(3, 1, 1, issued.certificate)]},
        ):
            await self.start(issued, requiretls=True, **more)  # type: ignore[arg-type]
            await self.delivered(True)
            self.assertIn("REQUIRETLS", self.sink.messages[0][0])

    @as_deferred
    async def test_policies_that_are_not(self) -> None:
        issued = CA.issue("mx.example")
        for more in (
            {},
            {"policy": TESTING},
            {"tlsa": [make_record(1, 1, 1, issued.certificate)]},
        ):
            await self.start(issued, requiretls=True, **more)  # type: ignore[arg-type]
            await self.failed("REQUIRETLS", True)

    @as_deferred
    async def test_servers_without_it(self) -> None:
        await self.start(CA.issue("mx.example"), policy=POLICY)
        await self.failed("lacks REQUIRETLS", True)

    @as_deferred
    async def test_message_that_does_not_care(self) -> None:
        for more in (
            {"policy": POLICY.replace(b"mx: mx", b"mx: my")},
            {"policy": POLICY},
            {"tlsa": [make_record(3, 1, 1, CA.certificate)]},
        ):
            await self.start(None, **more)  # type: ignore[arg-type]
            await self.delivered(False, tls=False)
