"""Records and policies of MTA-STS."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.tlspolicy.mtasts import (
    Policy,
    PolicyError,
    Record,
    RecordError,
    find_record,
    parse_policy,
    parse_record,
)


class RecordTests(SynchronousTestCase):
    def test_example(self) -> None:
        # RFC 8461 3.1.
        record = parse_record("v=STSv1; id=20160831085700Z;")
        self.assertEqual(record, Record("20160831085700Z"))
        self.assertEqual(str(record), "v=STSv1; id=20160831085700Z;")

    def test_good(self) -> None:
        self.assertEqual(parse_record("v=STSv1;id=1").id, "1")
        self.assertEqual(parse_record("v=STSv1 ;\t id=1 ; x-y=z; ").extensions, (("x-y", "z"),))
        self.assertEqual(parse_record("v=STSv1; id=1; id=!!").id, "1")

    def test_bad(self) -> None:
        for text in (
            "",
            "v=STSv1",
            "v=STSv2; id=1",
            "v=STSv1; id=",
            "v=STSv1; id=a-b",
            "v=STSv1; id=" + "a" * 33,
            "v=STSv1; id=1; moo",
            "v=STSv1; id=1; =x",
            "v=STSv1; id=1; a=",
            "v=STSv1; id=1;; x=y",
            "v=STSv1; id=\u0661",
        ):
            with self.assertRaises(RecordError, msg=text):
                parse_record(text)

    def test_others_beside_it(self) -> None:
        self.assertEqual(find_record(["other", "v=STSv1; id=1"]).id, "1")
        for texts in ([], ["x"], ["v=STSv1; id=1", "v=STSv1; id=2"], ["v=STSv12; id=1"]):
            with self.assertRaises(RecordError):
                find_record(texts)

    @given(st.text())
    def test_anything(self, text: str) -> None:
        for each in (text, "v=STSv1;" + text):
            try:
                record = parse_record(each)
            except RecordError:
                continue
            self.assertEqual(parse_record(str(record)), record)


class PolicyTests(SynchronousTestCase):
    def test_example(self) -> None:
        # RFC 8461 3.2.
        policy = parse_policy(
            b"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\n"
            b"mx: backupmx.example.com\nmax_age: 604800\n"
        )
        self.assertEqual(
            policy,
            Policy(
                "enforce",
                604800,
                ("mail.example.com", "*.example.net", "backupmx.example.com"),
            ),
        )
        self.assertEqual(parse_policy(str(policy).encode()), policy)

    def test_good(self) -> None:
        policy = parse_policy(
            b"version:STSv1  \r\nmode:none\r\nmax_age:0\r\nmode: enforce\r\nother: some text"
        )
        self.assertEqual(policy, Policy("none", 0, (), (("other", "some text"),)))

    def test_bad(self) -> None:
        good = b"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.example\n"
        parse_policy(good)
        for data in (
            b"",
            good.replace(b"STSv1", b"STSv2"),
            good.replace(b"enforce", b"Enforce"),
            good.replace(b"max_age: 1", b"max_age: 12345678901"),
            good.replace(b"max_age: 1", b"max_age: -1"),
            good.replace(b"max_age: 1", b"max_age: \xd9\xa1"),
            good.replace(b"mx: a.example", b""),
            good.replace(b"a.example", b"*"),
            good.replace(b"a.example", b"a.*.example"),
            good.replace(b"a.example", "\u00e4.example".encode()),
            good + b"moo\n",
            good + b"\xff: x\n",
            good + b"x: \x00\n",
            good + b"x: y\n" * 20000,
        ):
            with self.assertRaises(PolicyError, msg=repr(data[:100])):
                parse_policy(data)

    def test_matching(self) -> None:
        policy = Policy("enforce", 1, ("mail.example.com", "*.example.net"))
        for host in ("mail.example.com", "MAIL.example.com.", "a.example.net"):
            self.assertTrue(policy.matches(host), host)
        for host in ("example.net", "a.b.example.net", "x.mail.example.com", "", "example.com"):
            self.assertFalse(policy.matches(host), host)

    @given(st.binary())
    def test_anything(self, data: bytes) -> None:
        for each in (data, b"version: STSv1\nmode: none\nmax_age: 1\n" + data):
            try:
                policy = parse_policy(each)
            except PolicyError:
                continue
            self.assertEqual(parse_policy(str(policy).encode()), policy)
