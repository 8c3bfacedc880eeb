"""Messages of every shape, appended to this server and to Dovecot: both have to say the same.

Structure, envelope, and every section of every part are compared, of well-formed messages made at
random, and of such damage as both understand alike.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

from tests.support.imapgrammar import Response, ResponseReader
from tests.support.peers import Dovecot, need
from tests.unit.imap.support import IMAPTestCase

MESSAGES = 60
WORDS = ("hello", "", "two words", "--", "x" * 75, "From: nobody", "=3D", "a\tb")


def message(rng: random.Random, depth: int = 0, counter: list[int] | None = None) -> bytes:
    """A message, or a part of one, with whatever may be in it."""
    counter = [0] if counter is None else counter
    head: list[str] = []
    if not depth or rng.random() < 0.2:
        head += [
            "From: " + rng.choice(("Joe Doe <joe@example.org>", '"D, \\"J\\"" <joe@example.org>',
                                   "joe@example.org (Joe)", "<@a,@b:joe@example.org>")),
            "To: " + rng.choice(("a@b.example, C <c@d.example>", "all: a@b.example, c@d.example;",
                                 "nobody:;", "=?utf-8?q?J=C3=BC?= <j@x.example>")),
            "Subject: " + rng.choice(("hi", "=?utf-8?b?w7w=?=", 'a "quoted" \\ word', "")),
            "Date: Thu, 15 Feb 2007 01:02:03 +0200",
            f"Message-ID: <{rng.randrange(1000)}@example.org>",
            "MIME-Version: 1.0",
        ]  # fmt: skip
        if rng.random() < 0.3:
            head += ["Sender: s@example.org", "Reply-To: r@example.org, q@example.org",
                     "In-Reply-To: <1@example.org>", "Bcc: b@example.org"]  # fmt: skip
    for field in (
        "Content-ID: <part@example.org>",
        "Content-Description: some part",
        'Content-Disposition: attachment; filename="a b.txt"; size=10',
        "Content-Disposition: inline",
        "Content-Language: en",
        "Content-Language: en, de",
        "Content-Location: http://example.org/x",
        "X-Other: value",
    ):
        name = field.partition(":")[0]
        if rng.random() < 0.12 and not any(line.startswith(name) for line in head):
            head.append(field)
    kind = rng.choice(("text", "text", "html", "binary", "multi", "multi", "message"))
    if depth > 3 and kind in ("multi", "message"):
        kind = "text"
    lines = [rng.choice(WORDS) for _ in range(rng.randint(1, 4))]
    body = "\r\n".join(lines).encode() + rng.choice((b"", b"\r\n"))
    if kind == "text":
        head.append(rng.choice(("Content-Type: text/plain; charset=utf-8; format=flowed",
                                'Content-Type: text/plain;\r\n charset="us-ascii"')))  # fmt: skip
        if rng.random() < 0.3:
            head.append("Content-Transfer-Encoding: quoted-printable")
    elif kind == "html":
        head.append("Content-Type: text/html; charset=iso-8859-1")
    elif kind == "binary":
        head += ['Content-Type: application/octet-stream; name="x.bin"',
                 "Content-Transfer-Encoding: base64"]  # fmt: skip
        body = b"AAECAwQ=\r\n"
    elif kind == "message":
        head.append("Content-Type: message/rfc822")
        body = message(rng, depth + 1, counter)
    else:
        counter[0] += 1
        boundary = f"={counter[0]:03}=_'()+,-./:?"
        subtype = rng.choice(("mixed", "alternative", "related", "digest"))
        head.append(f'Content-Type: multipart/{subtype}; boundary="{boundary}"')
        mark = b"--" + boundary.encode()
        body = rng.choice((b"", b"prologue\r\n"))
        for _ in range(rng.randint(1, 3)):
            body += mark + b"\r\n" + message(rng, depth + 1, counter) + b"\r\n"
        body += mark + b"--\r\n" + rng.choice((b"", b"epilogue\r\n"))
    rng.shuffle(head)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _multipart(content: bytes, boundary: bytes = b"b") -> bytes:
    return b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="%b"\r\n\r\n%b' % (
        boundary, content.replace(b"TEXT", b"Content-Type: text/plain; charset=us-ascii\r\n\r\n")
    )  # fmt: skip


def _typed(fields: bytes) -> bytes:
    return b"MIME-Version: 1.0\r\n%b\r\n\r\nx\r\n" % fields


DAMAGED = [
    _multipart(b"--b\r\nTEXTone\r\n--b\r\nTEXTtwo\r\n"),
    _multipart(b"--b\r\nTEXTone\r\n--b\r\nTEXTtwo"),
    _multipart(b""),
    _multipart(b"--b\r\n"),
    _multipart(b"--b\r\n--b--\r\n"),
    _multipart(b"--b\r\n\r\n--b--\r\n"),
    _multipart(b"--b\r\nContent-Type: text/html; charset=us-ascii\r\n--b--\r\n"),
    _multipart(b"--b\r\nTEXTone\r\n--b--\r\n--b\r\nTEXTtwo\r\n--b--\r\n"),
    _multipart(b"--b  \t\r\nTEXTone\r\n--b-- \r\nepilogue\r\n"),
    _multipart(b"--b more\r\nTEXTone\r\n--b-- more\r\nepilogue\r\n"),
    _multipart(b"--bmore\r\nTEXTone\r\n--b--more\r\nepilogue\r\n"),
    _multipart(b"--bnd\r\nTEXTone\r\n--Bnd\r\nTEXTtwo\r\n--Bnd--\r\n", b"Bnd"),
    # The outer one's boundary ends what the inner one left open.
    _multipart(
        b"--o\r\n" + _multipart(b"--i\r\nTEXT1\r\n", b"i") + b"--o\r\nTEXT2\r\n--o--\r\n", b"o"
    ),
    _multipart(
        b"--o\r\nContent-Type: message/rfc822\r\n\r\n"
        + _multipart(b"--z\r\nTEXT1\r\n--z\r\nTEXT2\r\n", b"z")
        + b"--o\r\nTEXT2\r\n--o--\r\n",
        b"o",
    ),
    b"From: a@b.example\r\nSubject: s\r\n",
    b"From: a@b.example\r\nSubject: s",
    b"\r\nbody only\r\n",
    b"Subject: s\r\njunk line\r\nFrom: a@b.example\r\n\r\nbody\r\n",
    b"From a@b Mon Jan  1 00:00:00 2024\r\nSubject: s\r\n\r\nbody\r\n",
    b"Subject: s\r\n \r\nFrom: a@b.example\r\n\r\nbody\r\n",
    b"Subject : spaced\r\nFrom : a@b\r\n\r\nx\r\n",
    b"Subject: s\r\n\r\none\rtwo\r\n",
    _typed(b"Content-Type: text/plain (a); charset=us-ascii (Plain text)"),
    _typed(b'Content-Type: (a) text (b) / (c) plain (d) ; (e) charset (f) = (g) "x(y" (h)'),
    _typed(b'Content-Type: text/plain; name="a \\"b\\" \\\\ c;d"; charset=utf-8'),
    _typed(b'Content-Type: text/plain; foo=""; charset=x-none'),
    _typed(b"Content-Type: application/x; name*=utf-8''J%C3%BCrgen.txt"),
    _typed(b'Content-Type: application/x; name*0="abc ";\r\n name*1="def"'),
    _typed(b"CONTENT-TYPE: TEXT/HTML; CHARSET=UTF-8"),
    _typed(b"Content-Language: mi (Maori), en (English)\r\nContent-Location: http://x/\r\n y"),
    _typed(b"Content-Disposition: (c) attachment (d); filename=x (e)"),
    _typed(b"Content-Type: message/partial; id=x; number=1"),
    _typed(b"Content-Type: message/rfc822\r\n\r\nSubject: only a header"),
]


def plain(value: Any) -> Any:
    """A structure without what one server adds: a text's charset where none is said."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: plain(each) for name, each in value.items()}
    params = found.get("params")
    if params and params.get(b"charset", b"").lower() == b"us-ascii":
        found["params"] = {k: v for k, v in params.items() if k != b"charset"} or None
    return found


def same(value: Any) -> Any:
    """A structure without what servers may say in different ways."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, each in value.items():
        if name in ("type", "subtype", "encoding"):
            result[name] = each.lower()
        elif name == "disposition" and each is not None:
            result[name] = (each[0].lower(), each[1])
        else:
            result[name] = same(each)
    return result


def numbers(part: dict[str, Any], path: str = "") -> list[str]:
    """The numbers of all parts."""
    inner = part.get("parts", ())
    if "envelope" in part and "size" not in inner[0]:
        inner = inner[0]["parts"]
    found = [path] if path else []
    if "size" in part and not path:
        path = "1"
        found = ["1"]
    for number, child in enumerate(inner, start=1):
        found += numbers(child, f"{path}.{number}" if path else str(number))
    return found


class Theirs:
    """A session with Dovecot."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.reader = ResponseReader()
        self.ask(b"")

    def ask(self, data: bytes) -> list[Response]:
        """What comes up to a tagged reply, or to the greeting."""
        self.socket.sendall(data)
        found: list[Response] = []
        while not any(r.kind == "tagged" or not data for r in found):
            received = self.socket.recv(1 << 16)
            if not received:
                raise AssertionError(f"closed by Dovecot after {data[:200]!r}")
            found += self.reader.feed(received)
        return found


class DovecotTests(IMAPTestCase):
    def setUp(self) -> None:
        super().setUp()
        need("dovecot", root=True)
        dovecot = Dovecot()
        self.addCleanup(dovecot.stop)
        dovecot.start()
        self.theirs = Theirs(dovecot.port)
        self.addCleanup(self.theirs.socket.close)
        self.theirs.ask(b"a LOGIN u secret\r\n")
        self.theirs.ask(b"a SELECT INBOX\r\n")
        self.ours = self.selected()

    def both(self, command: bytes) -> list[dict[str, Any]]:
        self.ours.send(b"t " + command + b"\r\n")
        found = []
        for responses in (self.ours.responses(), self.theirs.ask(b"t " + command + b"\r\n")):
            self.assertEqual(responses[-1].name, "OK", (command, responses))
            fetched: dict[str, Any] = {}
            for response in responses:
                if response.name == "FETCH":
                    fetched.update(response.data)
            found.append({k.upper(): v for k, v in fetched.items() if k != "UID"})
        return found

    def compare(self, data: bytes, shown: str) -> None:
        self.both(b"APPEND INBOX {%d+}\r\n%b" % (len(data), data))
        mine, other = self.both(b"FETCH * (BODYSTRUCTURE ENVELOPE RFC822.SIZE BODY.PEEK[TEXT])")
        self.assertEqual(plain(same(mine)), plain(same(other)), shown)
        for path in numbers(mine["BODYSTRUCTURE"]):
            p = path.encode()
            mine_parts, their_parts = self.both(
                b"FETCH * (BODY.PEEK[%b] BODY.PEEK[%b.MIME] BODY.PEEK[%b.TEXT]"
                b" BODY.PEEK[%b.HEADER] BODY.PEEK[%b.HEADER.FIELDS (TO X-OTHER)]"
                b" BODY.PEEK[%b]<3.20>)" % (p, p, p, p, p, p)
            )
            # Where there is no such section, one says NIL, the other "".
            self.assertEqual(
                {name: value or b"" for name, value in mine_parts.items()},
                {name: value or b"" for name, value in their_parts.items()},
                shown,
            )

    def test_structure_and_sections(self) -> None:
        start = int(os.environ.get("MOXTW_FUZZ_SEED") or 1)
        for seed in range(start, start + MESSAGES):
            data = message(random.Random(seed))
            self.compare(data, f"seed {seed}\n{data!r}")
        for data in DAMAGED:
            self.compare(data, repr(data))
