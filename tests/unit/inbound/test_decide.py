"""The decision on a message, step by step."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.authn import NOTHING, AuthResults
from moxtw.authn.dmarc import DMARCResult
from moxtw.authn.dmarcrecord import DMARCRecord
from moxtw.authn.dnsbl import Lookup
from moxtw.authn.iprev import IPRevResult
from moxtw.config.lookup import lookup_address
from moxtw.inbound.decide import Case, Decider, Decision
from moxtw.inbound.envelope import Envelope, Recipient, TraceFields
from moxtw.inbound.rulesets import Subject
from moxtw.junk.score import Classification, WordScore
from moxtw.mail.address import parse_ipdomain, parse_path
from moxtw.mail.domain import Domain, parse_domain
from moxtw.mail.received import Trace
from moxtw.net.tlsinfo import TLSInfo
from moxtw.store import accounts, history, mailboxes, messages
from moxtw.store.errors import StoreError
from moxtw.store.model import Delivery, Flag, NewMessage
from tests.support.smtp import DYNAMIC, World
from tests.support.store import job, now

MESSAGE = (
    b"From: <boss@example.net>\r\nTo: <me@example.org>\r\nSubject: %s\r\n\r\nbody\r\n"
)
DYNAMIC_MORE = DYNAMIC.replace(
    "\tme:\n\t\tDomain: example.org\n",
    "\tme:\n\t\tDomain: example.org\n\t\tIntrobox: Introbox\n"
    "\t\tSubjectPass:\n\t\t\tPeriod: 1h\n"
    "\t\tJunkFilter:\n\t\t\tThreshold: 0.9\n\t\t\tParams:\n\t\t\t\tOnegrams: true\n"
    "\t\t\t\tMaxPower: 0.01\n\t\t\t\tTopWords: 10\n",
).replace(
    "\t\t\tme@example.org: nil\n",
    "\t\t\tme@example.org: nil\n"
    "\t\t\tverified@example.org:\n\t\t\t\tMessageAuthRequiredSMTPError: prove it\n"
    "\t\t\tlists@example.org:\n\t\t\t\tRulesets:\n\t\t\t\t\t-\n"
    "\t\t\t\t\t\tVerifiedDomain: esp.example\n\t\t\t\t\t\tListAllowDomain: esp.example\n"
    "\t\t\t\t\t\tMailbox: Lists\n"
    "\t\t\tforwarded@example.org:\n\t\t\t\tRulesets:\n\t\t\t\t\t-\n"
    "\t\t\t\t\t\tSMTPMailFromRegexp: .\n\t\t\t\t\t\tVerifiedDomain: forwarder.example\n"
    "\t\t\t\t\t\tIsForward: true\n\t\t\t\t\t\tMailbox: Inbox\n"
    "\t\t\tkept@example.org:\n\t\t\t\tRulesets:\n\t\t\t\t\t-\n"
    "\t\t\t\t\t\tSMTPMailFromRegexp: .\n\t\t\t\t\t\tAcceptRejectsToMailbox: Bad\n"
    "\t\t\t\t\t\tMailbox: Inbox\n",
)
GOOD_IPREV = IPRevResult("pass", "mx.example.net")
TLS = TLSInfo("TLS1.3", "x", 0x0304, 1, "", False, "")
DOMAIN = parse_domain("example.net")
ZONE = parse_domain("bl.example")
EVALUATED = replace(NOTHING, evaluated=True, iprev=GOOD_IPREV)


def dmarc(status: str, policy: str = "none", **fields: Any) -> DMARCResult:
    return DMARCResult(
        status, DOMAIN, DOMAIN, record=DMARCRecord(), policy=policy, use=True, **fields  # type: ignore[arg-type]
    )


class Lists:
    """Block lists of which each lists given addresses."""

    def __init__(self, *listed: str) -> None:
        self.listed = listed
        self.asked: list[str] = []

    async def check(self, zones: Any, ip: str, *, cid: int = 0) -> tuple[Lookup, ...]:
        self.asked.append(ip)
        return tuple(Lookup(zone, "fail" if ip in self.listed else "pass") for zone in zones)


class DecideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self, dynamic=DYNAMIC_MORE)
        self.store = self.world.store
        self.probability: float | Exception = 0.0
        self.significant = True
        self.lists = Lists()
        self.decider = Decider(
            self.world.rates,
            self.store,
            classify=self.classify,
            blocklists=self.lists,
            random=Random(1),
        )

    async def classify(self, account_id: int, params: Any, content: Any) -> Classification:
        if isinstance(self.probability, Exception):
            raise self.probability
        return Classification(
            self.probability,
            10,
            5,
            ham=(WordScore("hallo", 0.1),),
            spam=(WordScore("grüße; x", 0.9),),
            significant=self.significant,
        )

    def decide(
        self,
        address: str = "me@example.org",
        *,
        auth: AuthResults = EVALUATED,
        subject: bytes = b"hi",
        tls: TLSInfo | None = TLS,
        mail_from: str = "news@example.net",
        dnsbls: tuple[Domain, ...] = (),
        data: bytes = MESSAGE,
        hello: str = "client.example",
    ) -> Decision:
        config = self.world.config
        path = parse_path(address)
        found = lookup_address(
            config, path.localpart, path.ipdomain.domain,
            allow_postmaster=True, allow_alias=False, allow_disabled=False,
        )  # fmt: skip
        data = data % subject
        envelope = Envelope(
            cid=1,
            remote_ip="192.0.2.1",
            hello=parse_ipdomain(hello),
            mail_from=parse_path(mail_from),
            recipients=[],
            received=int(self.world.clock.seconds() * 1_000_000),
            head=data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
            trace=TraceFields(Trace(hostname=config.static.dns_hostname, local_ip="192.0.2.99",
                                    protocol="ESMTP", id="x")),
            tls=tls,
            dnsbls=dnsbls,
        )  # fmt: skip

        async def pause() -> None:
            pass

        case = Case(
            account_name="me",
            account=config.dynamic.accounts["me"],
            destination=found.destination,  # type: ignore[union-attr]
            recipient=Recipient(path, destination=found, local=True),  # type: ignore[arg-type]
            envelope=envelope,
            auth=auth,
            subject=Subject(
                mail_from, "boss@example.net",
                [*auth.dkim_domains, *([mail_from.partition("@")[2]]
                                       if auth.mail_from_validated else []),
                 *([hello] if auth.ehlo_validated else [])],
                envelope.head,
            ),
            content=now(self.store.contents.from_bytes(data)),
            author=("boss", "example.net", "example.net"),
            size=len(data),
            pause=pause,
        )  # fmt: skip
        return self.successResultOf(Deferred.fromCoroutine(self.decider.decide(case)))

    def judged(self, flags: int, mailbox: str = "Inbox", **fields: Any) -> None:
        """A message of the same author that was judged."""
        account = job(self.store, accounts.get, "me")
        box = job(self.store, mailboxes.ensure, account.id, mailbox)
        known = {
            "remote_ip": "192.0.2.1",
            "msg_from_localpart": "boss",
            "msg_from_domain": "example.net",
            "msg_from_org_domain": "example.net",
        }
        delivery = Delivery(**{**known, **fields})
        content = now(self.store.contents.from_bytes(MESSAGE % b"old"))
        new = NewMessage(content, delivery=delivery, flags=flags, junk_flags=False,
                         received=int(self.world.clock.seconds() * 1_000_000))  # fmt: skip
        job(self.store, messages.add, account.id, box.id, new)
        job(self.store, history.follow)

    def check(self, decision: Decision, accept: bool, reason: str, mailbox: str = "",
              code: int = 0) -> None:  # fmt: skip
        self.assertEqual((decision.accept, decision.reason), (accept, reason), decision)
        if mailbox:
            self.assertEqual(decision.mailbox, mailbox)
        if code:
            self.assertEqual(decision.code, code)

    # -- What the user and the domain say ------------------------------------------------

    def test_stranger_without_bad_signs(self) -> None:
        decision = self.decide()
        self.check(decision, True, "no-bad-signals", "Introbox")
        self.assertEqual(decision.destined, "Inbox")
        self.assertTrue(decision.first_time)
        self.assertIn("reputation by none: unknown, inconclusive", decision.details)

    def test_mailing_list(self) -> None:
        self.probability = 1.0
        auth = replace(EVALUATED, dkim_domains=("esp.example",), dmarc=dmarc("fail", "reject"))
        decision = self.decide("lists@example.org", auth=auth)
        self.check(decision, True, "list-allow", "Lists")
        self.assertTrue(decision.is_mailing_list)
        self.assertEqual(decision.overrides, ("mailing_list",))
        auth = replace(EVALUATED, mail_from_validated=True)
        decision = self.decide("lists@example.org", auth=auth, mail_from="x@esp.example")
        self.check(decision, True, "list-allow", "Lists")

    def test_mailing_list_is_not_known_by_its_server_alone(self) -> None:
        self.probability = 1.0
        auth = replace(EVALUATED, ehlo_validated=True)
        decision = self.decide("lists@example.org", auth=auth, hello="esp.example")
        self.check(decision, False, "junk-content-strict", "Lists")

    def test_dmarc(self) -> None:
        for policy in ("reject", "quarantine"):
            auth = replace(EVALUATED, dmarc=dmarc("fail", policy))
            self.check(self.decide(auth=auth), False, "dmarc-policy", code=550)
        for result in (dmarc("fail"), dmarc("pass", "reject"), dmarc("temperror", "reject"),
                       replace(dmarc("fail", "reject"), use=False)):  # fmt: skip
            self.check(self.decide(auth=replace(EVALUATED, dmarc=result)), True, "no-bad-signals")

    def test_forwarded(self) -> None:
        auth = replace(EVALUATED, dmarc=dmarc("fail", "reject"),
                       dkim_domains=("forwarder.example",))  # fmt: skip
        decision = self.decide("forwarded@example.org", auth=auth)
        self.check(decision, True, "no-bad-signals", "Inbox")
        self.assertTrue(decision.is_forward)
        self.assertEqual(decision.overrides, ("forwarded",))
        # What the forwarder is known for does not count.
        self.judged(
            int(Flag.JUNK),
            msg_from_localpart="x",
            msg_from_domain="x.example",
            msg_from_org_domain="x.example",
            dkim_domains=("forwarder.example",),
        )
        self.check(self.decide("forwarded@example.org", auth=auth), True, "no-bad-signals")

    def test_author_has_to_be_real(self) -> None:
        address = "verified@example.org"
        decision = self.decide(address)
        self.check(decision, False, "msg-auth-required", code=550)
        self.assertEqual(decision.text, "prove it")
        auth = replace(EVALUATED, dmarc=dmarc("temperror"))
        self.check(self.decide(address, auth=auth), False, "msg-auth-required", code=451)
        auth = replace(EVALUATED, from_validation="strict")
        self.check(self.decide(address, auth=auth), True, "no-bad-signals")

    # -- Reputation ----------------------------------------------------------------------

    def test_known_authors(self) -> None:
        self.judged(int(Flag.NOTJUNK), msg_from_validated=True)
        self.probability = 1.0
        auth = replace(EVALUATED, from_validation="strict", mail_from_status="fail")
        decision = self.decide(auth=auth)
        # No introbox for whom one knows.
        self.check(decision, True, "msgfromfull", "Inbox")
        self.assertFalse(decision.first_time)
        self.judged(int(Flag.JUNK), msg_from_validated=True)
        self.judged(int(Flag.JUNK), msg_from_validated=True)
        decision = self.decide(auth=auth)
        self.check(decision, False, "msgfromfull", code=451)
        self.assertNotIn("junk", decision.text)

    def test_reputation_goes_by_mailbox(self) -> None:
        self.judged(int(Flag.JUNK), "Other", msg_from_validated=True)
        auth = replace(EVALUATED, from_validation="strict")
        self.check(self.decide(auth=auth), True, "no-bad-signals")

    def test_spf_of_strangers(self) -> None:
        for status, accept in (("fail", False), ("softfail", False), ("neutral", True),
                               ("none", True), ("temperror", True)):  # fmt: skip
            decision = self.decide(auth=replace(EVALUATED, mail_from_status=status))
            self.check(decision, accept, "no-bad-signals" if accept else "spf-policy")

    def test_address_without_name_and_a_bad_sign(self) -> None:
        self.judged(int(Flag.JUNK), msg_from_localpart="x", msg_from_domain="x.example",
                    msg_from_org_domain="x.example")  # fmt: skip
        auth = replace(EVALUATED, iprev=IPRevResult("permerror"))
        self.check(self.decide(auth=auth), False, "iprev")
        self.check(self.decide(), True, "no-bad-signals")

    def test_store_out_of_order(self) -> None:
        def fail(*args: Any, **kw: Any) -> Any:
            raise StoreError("no")

        self.patch(history.Questions, "ask", fail)
        self.check(self.decide(), False, "reputation-error", code=451)

    # -- Content -------------------------------------------------------------------------

    def test_content(self) -> None:
        self.probability = 0.8
        self.check(self.decide(), True, "no-bad-signals")
        self.probability = 0.96
        decision = self.decide()
        self.check(decision, False, "junk-content", code=451)
        [detail] = [d for d in decision.details if d.startswith("content")]
        self.assertIn("probability 0.96", detail)
        self.assertIn("ham words hallo:0.100, spam words (non-ascii):0.900", detail)

    def test_strict_content(self) -> None:
        self.probability = 0.3
        for more in (
            {"tls": None},
            {"auth": replace(EVALUATED, iprev=IPRevResult("fail"))},
            {"data": MESSAGE.replace(b"<me@", b"<you@")},
        ):
            self.check(self.decide(**more), False, "junk-content-strict")  # type: ignore[arg-type]
        self.check(self.decide(data=MESSAGE.replace(b"To: <me@", b"Cc: <Me@")), True,
                   "no-bad-signals")  # fmt: skip

    def test_little_history(self) -> None:
        self.probability, self.significant = 0.99, False
        self.check(self.decide(), True, "no-bad-signals")
        auth = replace(EVALUATED, iprev=IPRevResult("fail"))
        self.check(self.decide(auth=auth), False, "junk-content-strict")

    def test_filter_out_of_order(self) -> None:
        self.probability = OSError("no")
        self.check(self.decide(), False, "junk-classify-error", code=451)

    def test_small_content(self) -> None:
        """The filter is asked at once, with the reputation, where it will be asked at all."""
        asked: list[int] = []
        answer: Classification | Exception | None = Classification(0.96, significant=True)

        def small(tx: Any, account_id: int, params: Any, content: Any) -> Classification | None:
            asked.append(account_id)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.decider = Decider(
            self.world.rates, self.store, classify=self.classify, classify_small=small
        )
        self.check(self.decide(), False, "junk-content", code=451)
        # Too large for that: asked later.
        answer = None
        self.check(self.decide(), True, "no-bad-signals")
        answer = OSError("no")
        self.check(self.decide(), False, "junk-classify-error", code=451)
        self.assertEqual(len(asked), 3)
        auth = replace(EVALUATED, mail_from_status="fail", mail_from_validated=False)
        self.check(self.decide(auth=auth), False, "spf-policy")
        self.judged(int(Flag.NOTJUNK), msg_from_validated=True)
        auth = replace(EVALUATED, from_validation="strict")
        self.check(self.decide(auth=auth), True, "msgfromfull")
        self.assertEqual(len(asked), 3)

    def test_block_lists(self) -> None:
        self.check(self.decide(), True, "no-bad-signals")
        self.assertEqual(self.lists.asked, [])
        self.check(self.decide(dnsbls=(ZONE,)), True, "no-bad-signals")
        self.lists.listed = ("192.0.2.1",)
        decision = self.decide(dnsbls=(ZONE,))
        self.check(decision, False, "dns-blocklisted", code=451)
        self.assertIn("listed in bl.example", decision.details)

    def test_token(self) -> None:
        auth = replace(EVALUATED, dmarc=dmarc("pass"))
        self.lists.listed = ("192.0.2.1",)
        decision = self.decide(auth=auth, dnsbls=(ZONE,))
        self.check(decision, False, "give-subjectpass", code=550)
        token = decision.text[decision.text.index("(pass:") :].encode()
        again = self.decide(auth=auth, dnsbls=(ZONE,), subject=b"Re: hi " + token)
        self.check(again, True, "subjectpass")
        self.world.clock.advance(2 * 3600)
        again = self.decide(auth=auth, dnsbls=(ZONE,), subject=token)
        self.check(again, False, "give-subjectpass")
        # Not for everybody: clear junk, or an author who may be another.
        self.check(self.decide(dnsbls=(ZONE,)), False, "dns-blocklisted")
        self.lists.listed = ()
        self.probability = 0.99
        self.check(self.decide(auth=auth), False, "junk-content")

    def test_refused_messages_that_are_wanted(self) -> None:
        self.probability = 0.99
        decision = self.decide("kept@example.org", data=MESSAGE.replace(b"<me@", b"<kept@"))
        self.check(decision, True, "junk-content", "Bad")
        self.assertTrue(decision.is_reject)
        self.assertEqual(decision.destined, "Inbox")

    def test_refused_message_is_destined_for_the_inbox(self) -> None:
        self.probability = 0.99
        decision = self.decide()
        self.check(decision, False, "junk-content")
        self.assertEqual(decision.destined, "Inbox")
