"""Logging in at a server, with our own server mechanisms on the other side."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.queue.delivery import DeliveryError, Login, Trouble
from moxtw.smtp.clientauth import login
from moxtw.smtp.clientreply import make_reply


class Auth(SynchronousTestCase):
    def log_in(
        self, replies: list[str], *, offered: str, wanted: str = "", tls: bool = False
    ) -> tuple[list[str], DeliveryError | None]:
        said: list[str] = []

        async def command(verb: str, argument: str = "") -> Any:
            said.append(f"{verb} {argument}".strip())
            line = replies.pop(0)
            return make_reply(int(line[:3]), (line,))

        async def run(function: Any, argument: bytes) -> bytes:
            return function(argument)

        binding = ("tls-exporter", b"x") if tls else None
        deferred = Deferred.fromCoroutine(
            login(
                command,
                Login("user", "secret", tuple(wanted.split())),
                tuple(offered.split()),
                binding,
                run,
                "mx",
            )
        )
        results: list[Any] = []
        deferred.addBoth(results.append)
        failure = results[0]
        return said, None if failure is None else failure.value

    def test_plain_only_if_wanted(self) -> None:
        said, exc = self.log_in([], offered="PLAIN LOGIN")
        assert exc is not None
        self.assertEqual((said, exc.permanent, exc.trouble), ([], True, Trouble.UNSUPPORTED))
        said, exc = self.log_in(["235 ok"], offered="PLAIN LOGIN", wanted="PLAIN")
        self.assertIsNone(exc)
        encoded = base64.b64encode(b"\0user\0secret").decode()
        self.assertEqual(said, [f"AUTH PLAIN {encoded}"])

    def test_login(self) -> None:
        said, exc = self.log_in(
            ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 ok"], offered="LOGIN", wanted="LOGIN"
        )
        self.assertIsNone(exc)
        self.assertEqual(said, ["AUTH LOGIN", "dXNlcg==", "c2VjcmV0"])

    def test_cram_md5_by_default(self) -> None:
        challenge = base64.b64encode(b"<1@mx>").decode()
        said, exc = self.log_in([f"334 {challenge}", "235 ok"], offered="PLAIN CRAM-MD5")
        self.assertIsNone(exc)
        self.assertTrue(base64.b64decode(said[1]).startswith(b"user "))

    def test_refusal_is_temporary(self) -> None:
        _, exc = self.log_in(["535 5.7.8 no"], offered="PLAIN", wanted="PLAIN")
        assert exc is not None
        self.assertEqual((exc.code, exc.secode, exc.permanent), (535, "7.8", False))

    def test_success_without_proof_is_no_success(self) -> None:
        said, exc = self.log_in(["235 ok"], offered="SCRAM-SHA-256")
        self.assertEqual(exc and exc.trouble, Trouble.PROTOCOL)
        self.assertTrue(said[0].startswith("AUTH SCRAM-SHA-256 "))

    def test_bad_challenges_are_aborted(self) -> None:
        for challenge in ("!!", base64.b64encode(b"r=x,s=,i=0").decode()):
            said, exc = self.log_in([f"334 {challenge}", "501 ok"], offered="SCRAM-SHA-1")
            self.assertEqual(exc and exc.trouble, Trouble.PROTOCOL)
            self.assertEqual(said[-1], "*")

    def test_endless_challenges(self) -> None:
        _, exc = self.log_in(["334 "] * 50, offered="PLAIN", wanted="PLAIN")
        self.assertIsNotNone(exc)

    def test_downgrade_is_told(self) -> None:
        said, _ = self.log_in(["535 no"], offered="SCRAM-SHA-256", tls=True)
        first = base64.b64decode(said[0].split()[2])
        self.assertTrue(first.startswith(b"y,,"))
        said, _ = self.log_in(["535 no"], offered="SCRAM-SHA-256-PLUS", tls=True)
        first = base64.b64decode(said[0].split()[2])
        self.assertTrue(first.startswith(b"p=tls-exporter,,"))
