"""Deliveries in a world with signed zones: what becomes of a message, and what is reported.

Names come from BIND by way of a validating unbound; hosts, certificates and policy servers are
on loopback (`tests.support.tlsworld`). The messages of a test are all sent at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from moxtw.config.testing import FixedConfig
from moxtw.dns.client import StubResolver
from moxtw.mail.address import parse_address, parse_path
from moxtw.net.tlsclient import Roots
from moxtw.queue.mtasts import PolicyCache
from moxtw.queue.service import QueueService
from moxtw.queue.submit import SubmitRequest, Submitter
from moxtw.queue.tlsrules import Safety
from moxtw.smtp.dial import Dialer
from moxtw.store import accounts, queuelists, tlsresults
from moxtw.store.db import Store
from moxtw.store.queuelists import Order, Query
from moxtw.store.queuerecord import Queued, Retired
from moxtw.tlspolicy.mtastsfetch import Fetcher
from moxtw.tlspolicy.tlsrpt import NO_POLICY, STS, TLSA
from tests.functional.smtpsink import Sink, reactor
from tests.functional.test_queue_delivery import HEADER, LIMITS, Case
from tests.functional.test_tls_policies import as_deferred
from tests.support.tlsworld import SAFE, World, world

TLS, PLAIN = "by TLS", "in the clear"

Failures = Sequence[tuple[str, str]]
NOT_TRUSTED = ("certificate-not-trusted", "")
EXPIRED = ("certificate-expired", "")
OTHER_NAME = ("certificate-host-mismatch", "")
NO_STARTTLS = ("starttls-not-supported", "")
NO_MATCH = ("validation-failure", "dane-no-match")
UNUSABLE = ("tlsa-invalid", "all-unusable-records+ignored")
BOGUS = "dns-extended-error-6-dnssec-bogus"


@dataclass(frozen=True)
class Try:
    """A message to a domain, and what must come of it.

    to: a domain under ``safe.example``. outcome: TLS or PLAIN for a delivery, else part of the
    error, for one that fails for good after ``!``. at: the host that gets it. results: for the
    domain first, then for the hosts: policy type, domain (under ``safe.example``), sessions that
    went well, sessions that failed, failures.
    """

    to: str
    outcome: str
    results: Sequence[tuple[str, str, int, int, Failures]]
    require_tls: bool | None = None
    at: str = ""


def both(to: str, host: str, good: int, bad: int, *failures: tuple[str, str]) -> Any:
    """The same result for a domain and its host, without a policy."""
    return [
        (NO_POLICY, to, good, bad, failures),
        (NO_POLICY, host, good, bad, failures),
    ]


def by_dane(
    to: str,
    host: str,
    good: int,
    bad: int,
    *of_dane: tuple[str, str],
    domain: Failures = (NOT_TRUSTED,),
) -> Any:
    """The results for a domain without a policy whose host has DANE."""
    return [(NO_POLICY, to, good, bad, domain), (TLSA, host, good, bad, of_dane)]


def by_sts(to: str, host: str, good: int, bad: int, *failures: tuple[str, str]) -> Any:
    """The results for a domain with MTA-STS, whose host has no policy of its own."""
    return [(STS, to, good, bad, failures), (NO_POLICY, host, good, bad, failures)]


class Policies(Resource):
    """Serves the policies of the world by the name that is asked for."""

    isLeaf = True

    def __init__(self, policies: dict[str, bytes | int]) -> None:
        super().__init__()
        self.policies = policies

    def render_GET(self, request: Any) -> bytes:  # noqa: N802
        host = request.getRequestHostname().decode()
        answer = self.policies[host.removeprefix("mta-sts.").removesuffix(f".to.{SAFE}")]
        if isinstance(answer, int):
            request.setResponseCode(answer)
            request.setHeader(b"Location", b"/elsewhere")
            return b""
        return answer


class TLSWorld(Case):
    timeout = 30

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start(world()))

    async def _start(self, there: World) -> None:
        self.sinks: dict[str, Sink] = {}
        for name, host in there.hosts.items():
            tls = host.tls if isinstance(host.tls, str | None) else host.tls.context_factory()
            self.sinks[name] = Sink(tls=tls, requiretls=host.requiretls)
            self.listen(self.sinks[name], host.ip, there.port)
        for ip, issued in there.web.items():
            site = Site(Policies(there.policies))
            listening = reactor.listenSSL(
                there.https_port, site, issued.context_factory(), interface=ip
            )
            self.addCleanup(listening.stopListening)
        resolver = StubResolver(reactor, [there.names.resolver])
        resolver.startService()
        self.addCleanup(resolver.stopService)
        self.store = Store(self.mktemp(), reactor)
        self.store.open()
        self.store.startService()
        self.addCleanup(self.store.stopService)
        await self.store.write(lambda tx: accounts.ensure(tx, "me"))
        config = FixedConfig(LIMITS)
        self.submitter = Submitter(self.store, config)
        roots = Roots(system=False, pems=[there.ca.pem])
        fetcher = Fetcher(
            resolver, reactor, roots, user_agent="test", ports={443: there.https_port}
        )
        self.service = QueueService(
            self.store,
            config,
            resolver,
            Dialer(reactor, roots),
            reactor,
            port=there.port,
            policy=Safety(PolicyCache(self.store, fetcher, reactor.seconds), resolver, reactor),
        )
        self.service.startService()
        self.addCleanup(self.service.stopService)

    async def send(self, to: str, require_tls: bool | None) -> int:
        content = await self.store.contents.from_bytes(HEADER)
        [sent] = await self.submitter(
            SubmitRequest(
                account="me",
                login_address=parse_address("me@example.org"),
                mail_from=parse_path("me@example.org"),
                recipients=[parse_path(f"x@{to}.{SAFE}")],
                content=content,
                require_tls=require_tls,
            )
        )
        return sent.id

    async def tries(self, *tries: Try) -> None:
        """Send all, and check all."""
        await self.start()
        ids = [await self.send(each.to, each.require_tls) for each in tries]

        def look(tx: Any) -> dict[int, Queued | Retired] | None:
            found: dict[int, Any] = {
                row.id: row
                for row in queuelists.retired(tx, Query(), Order("last_activity", True))
            }
            for row, *_ in queuelists.queued(tx, Query(), Order("queued", True)):
                if row.results and row.results[-1].duration:
                    found[row.id] = row
            return found if len(found) == len(ids) else None

        outcomes = await self.until(look)
        problems = []
        for each, number in zip(tries, ids, strict=True):
            problems += self.compare(each, outcomes[number])
        await self.service._tls_results.flush()
        rows = await self.store.read(tlsresults.list_all)
        for each in tries:
            name = f"{each.to}.{SAFE}"
            own = sorted(
                (row for row in rows if row.recipient_domain == name), key=lambda row: row.is_host
            )
            got = [
                (
                    result.policy_type,
                    result.domain.removesuffix(f".{SAFE}"),
                    result.success,
                    result.failure,
                    [(failure.result_type, failure.reason) for failure in result.failures],
                )
                for row in own
                for result in row.results
            ]
            expected = [(*result[:4], list(result[4])) for result in each.results]
            if got != expected:
                problems.append(f"{each.to}: reported\n  {got}\n  not\n  {expected}")
        if problems:
            self.fail("\n".join(problems))

    def compare(self, wanted: Try, found: Queued | Retired) -> list[str]:
        """What is not as it was to be."""
        error = found.results[-1].error
        kind = "retired" if isinstance(found, Retired) else "queued"
        text = f"{wanted.to}: {kind}, {error!r}"
        if wanted.outcome not in (TLS, PLAIN):
            final = wanted.outcome.startswith("!")
            good = (
                isinstance(found, Retired) == final
                and not found.results[-1].success
                and wanted.outcome.removeprefix("!") in error
            )
            return [] if good else [text]
        if not isinstance(found, Retired) or not found.success:
            return [text]
        host = wanted.at or wanted.results[-1][1]
        taken = [
            message[3]
            for message in self.sinks[host].messages
            if f"@{wanted.to}.{SAFE}>" in message[1][0]
        ]
        return [] if taken == [wanted.outcome == TLS] else [f"{text}, at {host}: {taken}"]


class OpportunisticTests(TLSWorld):
    @as_deferred
    async def test_without_policies(self) -> None:
        """RFC 7435: anything is better than nothing, and what is wrong is reported."""
        await self.tries(
            Try("good.to", TLS, both("good.to", "good", 1, 0)),
            Try("expired.to", TLS, both("expired.to", "expired", 1, 0, EXPIRED)),
            Try("othername.to", TLS, both("othername.to", "othername", 1, 0, OTHER_NAME)),
            Try("selfsigned.to", TLS, both("selfsigned.to", "selfsigned", 1, 0, NOT_TRUSTED)),
            Try("plain.to", PLAIN, both("plain.to", "plain", 0, 1, NO_STARTTLS)),
        )

    @as_deferred
    async def test_domains_that_share_a_session(self) -> None:
        """Each is told of it, also when TLS failed and the session goes on without."""
        by_age = Order("queued", True)
        await self.start()
        for host in ("selfsigned", "broken"):
            for number, to in enumerate((f"{host}.to", f"{host}.too", f"{host}.too")):
                await self.send(to, None)
                await self.sinks[host].received(number + 1)
                await self.until(lambda tx: not queuelists.queued(tx, Query(), by_age))
        self.assertEqual([message[3] for message in self.sinks["broken"].messages], [False] * 3)
        self.assertEqual(self.sinks["selfsigned"].connections, 1)
        self.assertEqual(self.sinks["broken"].connections, 2)
        await self.service._tls_results.flush()
        rows = await self.store.read(tlsresults.list_all)
        found = {
            (row.recipient_domain.removesuffix(f".{SAFE}"), row.is_host): (
                result.success,
                result.failure,
                [failure.result_type for failure in result.failures],
            )
            for row in rows
            for result in row.results
        }
        good, bad = (1, 0, ["certificate-not-trusted"]), (0, 1, ["validation-failure"])
        expected = {
            (f"{host}.{name}", is_host): result
            for host, result in (("selfsigned", good), ("broken", bad))
            for name in ("to", "too")
            for is_host in (False, True)
        }
        self.assertEqual(found, expected)


class DANETests(TLSWorld):
    @as_deferred
    async def test_records_that_fit(self) -> None:
        await self.tries(
            Try("ee.to", TLS, by_dane("ee.to", "ee", 1, 0)),
            Try("ee-expired.to", TLS, by_dane("ee-expired.to", "ee-expired", 1, 0)),
            Try("ta.to", TLS, by_dane("ta.to", "ta", 1, 0)),
            Try("ta-full.to", TLS, by_dane("ta-full.to", "ta-full", 1, 0)),
            Try("ta-domain.to", TLS, by_dane("ta-domain.to", "ta-domain", 1, 0)),
            Try("several.to", TLS, by_dane("several.to", "several", 1, 0)),
            Try("no-requiretls-ee.to", TLS,
                by_dane("no-requiretls-ee.to", "no-requiretls-ee", 1, 0)),
        )  # fmt: skip

    @as_deferred
    async def test_records_that_do_not(self) -> None:
        await self.tries(
            Try("mismatch.to", "no tlsa record matches",
                by_dane("mismatch.to", "mismatch", 0, 1, NO_MATCH, domain=[NO_MATCH])),
            Try("ta-expired.to", "certificate has expired",
                by_dane("ta-expired.to", "ta-expired", 0, 1,
                        ("validation-failure", "dane-no-match+errors"),
                        domain=[("validation-failure", "dane-no-match+errors")])),
            Try("ta-othername.to", f"certificate is not for ta-othername.{SAFE}",
                by_dane("ta-othername.to", "ta-othername", 0, 1,
                        ("validation-failure", "dane-no-match+errors"),
                        domain=[("validation-failure", "dane-no-match+errors")])),
            Try("dane-plain.to", "STARTTLS",
                by_dane("dane-plain.to", "dane-plain", 0, 1,
                        ("starttls-not-supported", "smtp-starttls-reply-code-502"),
                        domain=[("starttls-not-supported", "smtp-starttls-reply-code-502")])),
            # The next host is as good as the first.
            Try("second.to", TLS,
                [(NO_POLICY, "second.to", 1, 1, [NO_MATCH, NOT_TRUSTED]),
                 (TLSA, "ee", 1, 0, []),
                 (TLSA, "mismatch", 0, 1, [NO_MATCH])], at="ee"),
        )  # fmt: skip

    @as_deferred
    async def test_records_that_nobody_can_use(self) -> None:
        """RFC 7672 2.2: TLS is demanded still, but nothing of its certificate."""
        refused = ("starttls-not-supported", "smtp-starttls-reply-code-502")
        await self.tries(
            Try("unusable.to", TLS, by_dane("unusable.to", "unusable", 1, 0, UNUSABLE)),
            Try("unusable-plain.to", "STARTTLS",
                by_dane("unusable-plain.to", "unusable-plain", 0, 1, UNUSABLE, refused,
                        domain=[refused])),
        )  # fmt: skip

    @as_deferred
    async def test_what_dnssec_does_not_vouch_for(self) -> None:
        """RFC 7672 2.2: no DANE where an answer on the way is insecure."""
        await self.tries(
            Try("open", PLAIN, both("open", "mismatch.open", 0, 1, NO_STARTTLS)),
            Try("open-host.to", PLAIN, both("open-host.to", "mismatch.open", 0, 1, NO_STARTTLS)),
            Try("safe-host.open", TLS, both("safe-host.open", "mismatch", 1, 0)),
            Try("to-open.to", PLAIN, both("to-open.to", "mismatch.open", 0, 1, NO_STARTTLS)),
            Try("tlsa-alias-open.to", PLAIN,
                both("tlsa-alias-open.to", "tlsa-alias-open", 0, 1, NO_STARTTLS)),
        )  # fmt: skip

    @as_deferred
    async def test_forged_answers(self) -> None:
        forged = ("validation-failure", BOGUS)
        await self.tries(
            # RFC 8460 4.3.2: dnssec-invalid is about the records of DANE.
            Try("tlsa-forged.to", "tlsa records of tlsa-forged",
                [(NO_POLICY, "tlsa-forged.to", 0, 1, [("dnssec-invalid", BOGUS)]),
                 (TLSA, "tlsa-forged", 0, 1, [("dnssec-invalid", BOGUS)])]),
            Try("host-forged.to", "looking up host-forged",
                [(NO_POLICY, "host-forged.to", 0, 1, [forged]),
                 (TLSA, "host-forged", 0, 1, [forged])]),
            Try("mx-forged.to", "looking up mx-forged.to",
                [(NO_POLICY, "mx-forged.to", 0, 1, [forged])]),
            Try("late", "looking up late",
                [(NO_POLICY, "late", 0, 1,
                  [("validation-failure", "dns-extended-error-7-signature-expired")])]),
            Try("late.to", "looking up mx.late",
                [(NO_POLICY, "late.to", 0, 1,
                  [("validation-failure", "dns-extended-error-7-signature-expired")]),
                 (TLSA, "mx.late", 0, 1,
                  [("validation-failure", "dns-extended-error-7-signature-expired")])]),
        )  # fmt: skip

    @as_deferred
    async def test_aliases(self) -> None:
        """RFC 7672 2.2.1 to 2.2.3: where the records are, and which answers must be secure."""
        await self.tries(
            Try("alias.to", TLS, by_dane("alias.to", "ee", 1, 0)),
            Try("mx-alias.to", TLS, by_dane("mx-alias.to", "ee", 1, 0)),
            # No records at the name that the alias leads to, but at its own.
            Try("mx-alias-own.to", TLS,
                by_dane("mx-alias-own.to", "alias-own", 1, 0, domain=[OTHER_NAME]), at="good"),
            # It leads out of what is signed: its own records count.
            Try("mx-alias-open.to", TLS,
                by_dane("mx-alias-open.to", "alias-open", 1, 0, domain=[OTHER_NAME]),
                at="good.open"),
            Try("mx-alias-open-bad.to", "no tlsa record matches",
                by_dane("mx-alias-open-bad.to", "alias-open-bad", 0, 1, NO_MATCH,
                        domain=[NO_MATCH])),
            Try("tlsa-alias.to", TLS,
                by_dane("tlsa-alias.to", "tlsa-alias", 1, 0, domain=[NOT_TRUSTED])),
            Try("loop.to", "cname loop", []),
            Try("ee.no-mx.to", TLS, by_dane("ee.no-mx.to", "ee", 1, 0)),
        )  # fmt: skip


class MTASTSTests(TLSWorld):
    @as_deferred
    async def test_enforced(self) -> None:
        refused = ("starttls-not-supported", "smtp-starttls-reply-code-502")
        mismatch = ("validation-failure", "mtasts-policy-mx-mismatch")
        await self.tries(
            Try("sts-good.to", TLS, by_sts("sts-good.to", "good", 1, 0)),
            Try("sts-expired.to", "certificate-expired",
                by_sts("sts-expired.to", "expired", 0, 1, EXPIRED)),
            Try("sts-othername.to", "certificate-host-mismatch",
                by_sts("sts-othername.to", "othername", 0, 1, OTHER_NAME)),
            Try("sts-selfsigned.to", "certificate-not-trusted",
                by_sts("sts-selfsigned.to", "selfsigned", 0, 1, NOT_TRUSTED)),
            Try("sts-plain.to", "STARTTLS", by_sts("sts-plain.to", "plain", 0, 1, refused)),
            Try("sts-wrong-mx.to", "not in the mta-sts policy",
                [(STS, "sts-wrong-mx.to", 0, 1, [mismatch])]),
            Try("sts-second.to", TLS,
                [(STS, "sts-second.to", 1, 1, [mismatch]), (NO_POLICY, "good", 1, 0, [])],
                at="good"),
        )  # fmt: skip

    @as_deferred
    async def test_not_enforced(self) -> None:
        mismatch = ("validation-failure", "mtasts-policy-mx-mismatch")
        await self.tries(
            Try("sts-testing.to", PLAIN, by_sts("sts-testing.to", "plain", 0, 1, NO_STARTTLS)),
            Try("sts-testing-mx.to", TLS,
                [(STS, "sts-testing-mx.to", 1, 0, [mismatch, NOT_TRUSTED]),
                 (NO_POLICY, "selfsigned", 1, 0, [NOT_TRUSTED])]),
            Try("sts-none.to", PLAIN, by_sts("sts-none.to", "plain", 0, 1, NO_STARTTLS)),
            # The policy of what an alias leads to is not asked for.
            Try("sts-alias.to", PLAIN, both("sts-alias.to", "plain", 0, 1, NO_STARTTLS)),
            Try("sts-two-records.to", PLAIN,
                both("sts-two-records.to", "plain", 0, 1, NO_STARTTLS)),
        )  # fmt: skip

    @as_deferred
    async def test_policies_that_cannot_be_had(self) -> None:
        def bad(to: str, kind: str) -> Try:
            domain = (STS, to, 0, 1, [(kind, ""), NO_STARTTLS])
            return Try(to, PLAIN, [domain, (NO_POLICY, "plain", 0, 1, [NO_STARTTLS])])

        await self.tries(
            bad("sts-broken.to", "sts-policy-invalid"),
            bad("sts-missing.to", "sts-policy-fetch-error"),
            bad("sts-moved.to", "sts-policy-fetch-error"),
            bad("sts-no-host.to", "sts-policy-fetch-error"),
            bad("sts-refused.to", "sts-policy-fetch-error"),
            bad("sts-webpki.to", "sts-webpki-invalid"),
            bad("sts-web-expired.to", "sts-webpki-invalid"),
            # Who forges the record must not be able to switch the policy off.
            Try("sts-forged.to", "mta-sts policy of sts-forged.to",
                [(NO_POLICY, "sts-forged.to", 0, 1, [("validation-failure", BOGUS)])]),
        )  # fmt: skip

    @as_deferred
    async def test_with_dane(self) -> None:
        """Both must be content."""
        await self.tries(
            Try("sts-dane.to", TLS,
                [(STS, "sts-dane.to", 1, 0, []), (TLSA, "both", 1, 0, [])]),
            Try("sts-dane-only.to", "certificate-not-trusted",
                [(STS, "sts-dane-only.to", 0, 1, [NOT_TRUSTED]),
                 (TLSA, "ee", 0, 1, [NOT_TRUSTED])]),
            Try("sts-dane-mismatch.to", "no tlsa record matches",
                [(STS, "sts-dane-mismatch.to", 0, 1, [NO_MATCH]),
                 (TLSA, "both-mismatch", 0, 1, [NO_MATCH])]),
        )  # fmt: skip


class RequireTLSTests(TLSWorld):
    @as_deferred
    async def test_demanded(self) -> None:
        """RFC 8689 4.2.1: a policy that makes sure of TLS, and a host that passes it on."""
        await self.tries(
            Try("ee.to", TLS, by_dane("ee.to", "ee", 1, 0), True),
            Try("sts-requiretls.to", TLS, by_sts("sts-requiretls.to", "good", 1, 0), True),
            Try("good.to", "!demands a policy", [], True),
            Try("sts-testing-mx.to", "!demands a policy",
                [(STS, "sts-testing-mx.to", 0, 0,
                  [("validation-failure", "mtasts-policy-mx-mismatch")])], True),
            Try("unusable.to", "!demands a policy", [], True),
            Try("no-requiretls-ee.to", "!lacks REQUIRETLS",
                by_dane("no-requiretls-ee.to", "no-requiretls-ee", 1, 0), True),
            Try("no-requiretls-sts.to", "!lacks REQUIRETLS",
                by_sts("no-requiretls-sts.to", "no-requiretls", 1, 0), True),
            # Trouble that may pass is no reason to give up.
            Try("mismatch.to", "no tlsa record matches",
                by_dane("mismatch.to", "mismatch", 0, 1, NO_MATCH, domain=[NO_MATCH]), True),
        )  # fmt: skip
        [message] = self.sinks["good"].messages
        self.assertIn("REQUIRETLS", message[0])

    @as_deferred
    async def test_not_wanted(self) -> None:
        """RFC 8689 5: TLS-Required: No."""
        mismatch = ("validation-failure", "mtasts-policy-mx-mismatch")
        await self.tries(
            Try("good.to", TLS, both("good.to", "good", 1, 0), False),
            Try("mismatch.to", TLS,
                by_dane("mismatch.to", "mismatch", 1, 0, NO_MATCH, domain=[]), False),
            Try("dane-plain.to", PLAIN,
                by_dane("dane-plain.to", "dane-plain", 0, 1, NO_STARTTLS, domain=[NO_STARTTLS]),
                False),
            Try("tlsa-forged.to", TLS,
                [(NO_POLICY, "tlsa-forged.to", 1, 0, []),
                 (TLSA, "tlsa-forged", 1, 0, [("dnssec-invalid", BOGUS)])], False),
            Try("sts-wrong-mx.to", TLS,
                [(STS, "sts-wrong-mx.to", 1, 0, [mismatch]), (NO_POLICY, "good", 1, 0, [])],
                False),
            Try("sts-expired.to", TLS, by_sts("sts-expired.to", "expired", 1, 0, EXPIRED), False),
            Try("sts-plain.to", PLAIN, by_sts("sts-plain.to", "plain", 0, 1, NO_STARTTLS), False),
            Try("sts-forged.to", TLS,
                [(NO_POLICY, "sts-forged.to", 1, 1, [("validation-failure", BOGUS)]),
                 (NO_POLICY, "good", 1, 0, [])], False),
        )  # fmt: skip
