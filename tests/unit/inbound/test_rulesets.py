"""Conditions of rulesets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.config.dynamic import Ruleset
from moxtw.config.testing import dynamic_from
from moxtw.inbound.rulesets import Subject, find_match, first_match, matches

CONFIG = """\
Domains:
	example.org: nil
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org:
				Rulesets:
					-
{conditions}
						Mailbox: There
"""

HEAD = (
    b"From: Boss <boss@example.net>\r\nList-Id: Announce\r\n <Announce.lists.example.org> \r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Odd:\r\n\r\n"
)


def ruleset(**conditions: str) -> Ruleset:
    lines = [f"\t\t\t\t\t\t{key}: {value}" for key, value in conditions.items()]
    text = CONFIG.replace("{conditions}", "\n".join(lines))
    dynamic = dynamic_from(text)
    return dynamic.accounts["me"].destinations["me@example.org"].rulesets[0]


def headers(**pairs: str) -> Ruleset:
    lines = "\n".join(f"\t\t\t\t\t\t\t{k.replace('_', '-')}: {v}" for k, v in pairs.items())
    text = CONFIG.replace("{conditions}", "\t\t\t\t\t\tHeadersRegexp:\n" + lines)
    dynamic = dynamic_from(text)
    return dynamic.accounts["me"].destinations["me@example.org"].rulesets[0]


def subject(
    mail_from: str = "news@example.net",
    msg_from: str | None = "boss@example.net",
    verified: tuple[str, ...] = (),
) -> Subject:
    return Subject(mail_from, msg_from, verified, HEAD)


class RulesetTests(SynchronousTestCase):
    def test_envelope_sender(self) -> None:
        self.assertTrue(matches(ruleset(SMTPMailFromRegexp="^news@"), subject()))
        self.assertTrue(matches(ruleset(SMTPMailFromRegexp="example"), subject()))
        self.assertFalse(matches(ruleset(SMTPMailFromRegexp="^ews@"), subject()))
        self.assertTrue(matches(ruleset(SMTPMailFromRegexp="^$"), subject(mail_from="")))

    def test_author(self) -> None:
        self.assertTrue(matches(ruleset(MsgFromRegexp="^boss@"), subject()))
        self.assertFalse(matches(ruleset(MsgFromRegexp="^news@"), subject()))
        self.assertFalse(matches(ruleset(MsgFromRegexp=".*"), subject(msg_from=None)))

    def test_verified_domain(self) -> None:
        rule = ruleset(VerifiedDomain="example.net")
        self.assertFalse(matches(rule, subject()))
        self.assertTrue(matches(rule, subject(verified=("example.net",))))
        self.assertTrue(matches(rule, subject(verified=("x.example", "a.example.net"))))
        self.assertFalse(matches(rule, subject(verified=("notexample.net", "net"))))

    def test_headers(self) -> None:
        for rule, want in (
            (headers(list_id="<announce\\.lists\\.example\\.org>$"), True),
            (headers(list_id="^announce <"), True),
            (headers(list="."), True),
            # Encoded words stay as they are.
            (headers(subject="^=\\?utf-8\\?q\\?gr=c3=bc"), True),
            (headers(x_odd="^$"), True),
            (headers(list_id="."), True),
            (headers(list_id=".", subject="nothing"), False),
            (headers(list_post="."), False),
        ):
            with self.subTest(rule=rule.headers_regexp):
                self.assertEqual(matches(rule, subject()), want)

    def test_all_conditions_must_hold(self) -> None:
        rule = ruleset(SMTPMailFromRegexp="^news@", MsgFromRegexp="^boss@")
        self.assertTrue(matches(rule, subject()))
        self.assertFalse(matches(rule, subject(msg_from="x@example.net")))
        self.assertFalse(matches(rule, subject(mail_from="x@example.net")))

    def test_first_match_counts(self) -> None:
        no, yes, also = (
            ruleset(SMTPMailFromRegexp="^x"),
            ruleset(SMTPMailFromRegexp="^n"),
            ruleset(SMTPMailFromRegexp="^ne"),
        )
        self.assertIs(first_match([no, yes, also], subject()), yes)
        self.assertIsNone(first_match([no], subject()))

    def test_long_headers_leave_time_for_others(self) -> None:
        head = b"Subject: " + b"urgent " * 2000 + b"\r\n"
        rules = [headers(subject=f"urgent.*{word}") for word in ("foo", "bar", "nt$")]
        long = Subject("", None, (), head * 15 + b"\r\n")
        pauses: list[None] = []

        async def pause() -> None:
            pauses.append(None)

        def find(subject: Subject) -> Ruleset | None:
            return self.successResultOf(
                Deferred.fromCoroutine(find_match(rules, subject, pause))
            )

        self.assertIs(find(long), rules[2])
        self.assertGreater(len(pauses), 5)
        self.assertIs(first_match(rules, long), rules[2])
        # For the next recipient it is known.
        pauses.clear()
        self.assertIs(find(long), rules[2])
        self.assertEqual(pauses, [])
        self.assertIsNone(find(subject()))
        self.assertEqual(pauses, [])
