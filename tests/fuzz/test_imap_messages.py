"""Damaged messages as IMAP clients see them: structure, envelope and sections fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.fuzz.engine import FuzzCase
from tests.fuzz.test_mail import TOKENS
from tests.unit.imap.support import IMAPTestCase
from tests.unit.mail.test_mime import COMPLEX, FORWARD
from tests.unit.mail.test_parsed import DSN, REPLY

MAX_PARTS = 40
"""Parts of a message that are fetched one by one."""


Structure = dict[str, Any]


def leaves_and_messages(part: Structure, path: str = "") -> Iterator[tuple[str, Structure]]:
    """All parts that have a size, with their numbers (RFC 9051 6.4.5.1)."""
    if "size" in part:
        path = path or "1"
        yield path, part
        if "envelope" not in part:
            return
        [part] = part["parts"]
        if "size" in part:
            yield from leaves_and_messages(part, path + ".1")
            return
    for number, child in enumerate(part["parts"], start=1):
        yield from leaves_and_messages(child, f"{path}.{number}" if path else str(number))


def plain(part: dict[str, Any]) -> dict[str, Any]:
    """A BODYSTRUCTURE without its extension data: what BODY says."""
    left = dict(part)
    for name in ("md5", "disposition", "language", "location"):
        left.pop(name, None)
    if "size" not in left:
        left.pop("params")
    if "parts" in left:
        left["parts"] = [plain(child) for child in left["parts"]]
    return left


class MessageTests(IMAPTestCase, FuzzCase):
    def test_structure_fits_sections(self) -> None:
        self.client = self.selected()

        def fetch(items: str) -> dict[str, Any]:
            self.client.send(f"f FETCH * ({items})\r\n".encode())
            found = [r for r in self.client.responses() if r.name == "FETCH"]
            self.assertEqual(len(found), 1)
            data: dict[str, Any] = found[0].data
            return data

        def check(message: bytes) -> None:
            if not message:
                return
            message = message.replace(b"\0", b"")[:20_000] or b"x"
            self.client.send(b"a APPEND Inbox {%d+}\r\n%b\r\n" % (len(message), message))
            self.assertIn(b" OK [APPENDUID", self.client.output())
            items = "BODYSTRUCTURE BODY ENVELOPE RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER]"
            data = fetch(items + " BODY.PEEK[TEXT] PREVIEW BODY.PEEK[HEADER.FIELDS (From X)]"
                         " BODY.PEEK[HEADER.FIELDS.NOT (From X)]")  # fmt: skip
            whole = data["BODY[]"]
            self.assertEqual(whole, message)
            self.assertEqual(data["RFC822.SIZE"], len(message))
            self.assertEqual(data["BODY[HEADER]"] + data["BODY[TEXT]"], whole)
            self.assertEqual(plain(data["BODYSTRUCTURE"]), data["BODY"])
            few = data["BODY[HEADER.FIELDS (From X)]"]
            others = data["BODY[HEADER.FIELDS.NOT (From X)]"]
            # The empty line is in both.
            self.assertLessEqual(len(few) + len(others) - len(data["BODY[HEADER]"]), 2)
            parts = list(leaves_and_messages(data["BODYSTRUCTURE"]))[:MAX_PARTS]
            for path, part in parts:
                got = fetch(f"BODY.PEEK[{path}] BODY.PEEK[{path}.MIME] BODY.PEEK[{path}.HEADER]"
                            f" BODY.PEEK[{path}.TEXT] BODY.PEEK[{path}]<1.3>")  # fmt: skip
                body = got[f"BODY[{path}]"]
                self.assertEqual(len(body), part["size"], path)
                if "lines" in part:
                    self.assertEqual(body.count(b"\n"), part["lines"], path)
                self.assertIn(body, whole)
                self.assertIn(got[f"BODY[{path}.MIME]"], whole)
                self.assertEqual(got[f"BODY[{path}]<1>"], body[1:4])
                if "envelope" in part:
                    head, text = got[f"BODY[{path}.HEADER]"], got[f"BODY[{path}.TEXT]"]
                    self.assertEqual(head + text, body)
                else:
                    self.assertIsNone(got[f"BODY[{path}.HEADER]"])
            self.client.send(b"d STORE 1:* +FLAGS.SILENT (\\Deleted)\r\nd EXPUNGE\r\n")
            self.client.output()

        single = b"From: a@b\r\nContent-Type: text/html; charset=\"x\"\r\n\r\nhello\r\n"
        self.fuzz(check, [COMPLEX, FORWARD, REPLY, DSN, single], TOKENS)
