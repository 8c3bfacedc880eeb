"""Changelogs: what is signed, and what is trusted."""

from __future__ import annotations

import base64
import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from moxtw.updates import changelog
from moxtw.updates.changelog import Change, ChangelogError
from moxtw.updates.record import Version

SEED = bytes(range(32))
KEY = changelog.public_key(SEED)
OTHER = changelog.public_key(bytes(32))


def text(version: str) -> str:
    return f"version: {version}\ndate: 2026-11-27\n\nWhat is new, with ü.\n"


class ChangelogTests(SynchronousTestCase):
    def test_signed_and_back(self) -> None:
        changes = [changelog.sign(SEED, text(version)) for version in ("v0.2.0", "v0.1.9")]
        data = changelog.encode(changes)
        raw = json.loads(data)["Changes"][0]
        self.assertEqual(base64.b64decode(raw["PubKey"]), KEY)
        self.assertEqual(len(base64.b64decode(raw["Sig"])), 64)
        found = changelog.decode(data)
        self.assertEqual(found, changes)
        changelog.verify(found, KEY)
        self.assertEqual(changelog.since(found[::-1], Version(0, 1, 0)), changes)
        self.assertEqual(changelog.since(found, Version(0, 1, 9)), changes[:1])
        self.assertEqual(changelog.since(found, Version(0, 2, 0)), [])

    def test_not_trusted(self) -> None:
        good = changelog.sign(SEED, text("v0.2.0"))
        changelog.verify([good], KEY)
        for change, error in (
            (good, "change 1 is signed with another key"),
            (Change(OTHER, good.sig, good.text), "change 1 has an invalid signature"),
        ):
            with self.assertRaisesRegex(ChangelogError, error):
                changelog.verify([change], OTHER)
        for change in (
            Change(KEY, good.sig, good.text + " "),
            Change(KEY, good.sig[:-1], good.text),
            Change(KEY, b"", good.text),
        ):
            with self.assertRaisesRegex(ChangelogError, "change 2 has an invalid signature"):
                changelog.verify([good, change], KEY)

    def test_heads(self) -> None:
        for bad, error in (
            ("", "no version"),
            ("version: v1.0.0\n\ndate: 2026-01-01\n", "no date"),
            ("version: new\ndate: 2026-01-01\n", "bad version 'new'"),
            ("text\n\nversion: v1.0.0\ndate: 2026-01-01\n", "no version"),
        ):
            with self.assertRaisesRegex(ChangelogError, error):
                changelog.sign(SEED, bad)
        self.assertEqual(
            changelog.head_of("Date:\t2026-01-01\r\nVERSION: 1.2.3\r\n\r\nversion: 9.9.9"),
            (1, 2, 3),
        )

    def test_what_is_no_changelog(self) -> None:
        self.assertEqual(changelog.decode(b'{"Changes": null, "More": 1}'), [])
        for data in (
            b"", b"[]", b'{"Changes": [{}]}',
            b'{"Changes": [{"PubKey": "!", "Sig": "", "Text": ""}]}',
            b'{"Changes": ' + b"[" * 100_000, b"\xff", b"<html>",
        ):  # fmt: skip
            self.assertRaises(ChangelogError, changelog.decode, data)

    @given(st.binary() | st.text().map(str.encode))
    def test_any(self, data: bytes) -> None:
        with contextlib.suppress(ChangelogError):
            changelog.verify(changelog.decode(data), KEY)

    def test_bad_seed(self) -> None:
        self.assertRaises(ValueError, changelog.public_key, b"short")
        self.assertRaises(ValueError, changelog.sign, b"short", text("v1.0.0"))
