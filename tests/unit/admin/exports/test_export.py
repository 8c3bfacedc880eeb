"""Exports: other programs read them, and an import of one gives back what there was."""

from __future__ import annotations

import io
import mailbox as library
import os
import tarfile
import zipfile
from array import array
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moxtw.admin.exports import containers, engine
from moxtw.admin.exports.engine import Export, all_of, select
from moxtw.admin.exports.operations import make_container
from moxtw.store import mailboxes, messages
from moxtw.store.flagnames import parse_flags
from tests.support.store import job, message, now
from tests.unit.admin.imports.test_engine import ImportCase

CONTENTS = [
    (b"Subject: a\r\n\r\nFrom me\r\n>From you\r\n\r\nFrom all\r\n", ["\\seen", "$junk"], 1),
    (b"Subject: b\r\n\r\n", ["\\deleted", "\\draft", "\\answered", "\\flagged", "work"], 3),
    (b"Subject: c\r\n\r\n" + b"x" * 70_000 + b"\r\n", ["$mdnsent", "$forwarded", "other"], 2),
]


class ExportCase(ImportCase):
    def fill(self, contents: Any = CONTENTS, name: str = "In/box") -> None:
        found = job(self.store, mailboxes.ensure, self.account.id, name)
        for data, flags, seconds in contents:
            bits, keywords = parse_flags(flags)
            new = message(
                self.store,
                data,
                flags=bits,
                keywords=keywords,
                received=seconds * 1_000_000,
                junk_flags=False,
            )
            job(self.store, messages.add, self.account.id, found.id, new)

    def export(
        self, kind: str, archive: str, name: str = "", *, recursive: bool = True
    ) -> tuple[bytes, Export]:
        found = job(self.store, select, self.account.id, name, recursive=recursive)
        task = Export(self.store, self.account.id, kind)
        container = make_container(archive)
        if container is None:
            pieces = task.single(found[0][1], array("q"))
        else:
            pieces = task.mailboxes(container, found)
        return b"".join(all_of(pieces)), task

    def in_order(self, name: str) -> list[Any]:
        return sorted(self.content()[name], key=lambda each: each[2])


class ExportTests(ExportCase):
    def test_round_trips(self) -> None:
        self.fill()
        before = self.in_order("In/box")
        for kind in ("mbox", "maildir"):
            for archive in ("tar", "tgz", "zip"):
                data, task = self.export(kind, archive, "In")
                self.assertEqual((task.messages, task.errors), (3, []))
                self.run_import(self.make(data, mailbox=f"{kind}/{archive}"))
                self.assertEqual(self.in_order(f"{kind}/{archive}/In/box"), before)
                self.assertEqual(self.told("problem"), [])
        data, _ = self.export("mbox", "none", "In/box", recursive=False)
        self.run_import(self.make(data, mailbox="single"))
        self.assertEqual(self.in_order("single"), before)

    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.lists(
            st.lists(
                st.sampled_from([b"From x", b">From ", b"", b"y", b">>From"]), max_size=5
            ),
            max_size=4,
        ),
        st.sampled_from([("mbox", "zip"), ("maildir", "tgz"), ("mbox", "none")]),
    )
    def test_round_trips_of_any_lines(self, bodies: list[list[bytes]], form: Any) -> None:
        self.setUp()
        contents = [
            (b"A: b\r\n\r\n" + b"".join(line + b"\r\n" for line in body), [], number)
            for number, body in enumerate(bodies)
        ]
        self.fill(contents, "x")
        data, _ = self.export(*form, "x", recursive=False)
        if form[1] == "none" and not bodies:
            self.assertEqual(data, b"")
            return
        self.run_import(self.make(data, mailbox="y"))
        name = "y" if form[1] == "none" else "y/x"
        self.assertEqual(
            [each[0] for each in self.content().get(name, [])], [each[0] for each in contents]
        )

    def test_large_messages(self) -> None:
        self.patch(engine, "_BYTES", 50_000)
        self.patch(engine, "_PIECE", 1000)
        lines = [b"From here", b">From there", b"\rx", b"z" * 3000, b"a\rb"] * 20
        self.fill([*CONTENTS, (b"A: b\r\n\r\n" + b"\r\n".join(lines) + b"\r\n", [], 9)], "x")
        before = self.in_order("x")
        for kind, archive in [("mbox", "tgz"), ("maildir", "zip")]:
            data, _ = self.export(kind, archive, "x")
            self.run_import(self.make(data, mailbox=kind))
            self.assertEqual(self.in_order(f"{kind}/x"), before)

    def test_other_programs_read_them(self) -> None:
        self.fill()
        data, _ = self.export("maildir", "tar", "In/box")
        path = self.mktemp()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(path, filter="data")
        found = list(library.Maildir(f"{path}/box", create=False))
        self.assertEqual(len(found), 3)
        self.assertEqual({each["Subject"] for each in found}, {"a", "b", "c"})
        flags = {each["Subject"]: each.get_flags() for each in found}
        self.assertEqual((flags["a"], flags["b"]), ("Sb", "DFRTg"))
        with open(f"{path}/box/dovecot-keywords") as file:
            lines = file.read().splitlines()
        self.assertEqual(lines[:2] + lines[5:], ["0 $Forwarded", "1 $Junk", "5 other", "6 work"])

        data, _ = self.export("mbox", "zip")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertIsNone(archive.testzip())
            self.assertIn("Inbox.mbox", archive.namelist())
            archive.extract("In/box.mbox", path)
        read = list(library.mbox(f"{path}/In/box.mbox"))
        self.assertEqual([each["Subject"] for each in read], ["a", "c", "b"])
        self.assertEqual(set(read[2].get_flags()), set("AFTD"))
        self.assertEqual(read[1]["X-Keywords"], "$Forwarded,$MDNSent,other")

    def test_unreadable_messages_are_listed(self) -> None:
        self.fill()
        (name,) = (
            os.path.join(folder, file)
            for folder, _, files in os.walk(self.store.contents.directory)
            for file in files
        )
        os.unlink(name)
        data, task = self.export("mbox", "zip", "In/box")
        self.assertEqual(len(task.errors), 1)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertIn(b"In/box", archive.read("errors.txt") + b"In/box")
            self.assertEqual(archive.read("box.mbox").count(b"Subject:"), 2)

    def test_a_selection(self) -> None:
        self.fill()
        rows = job(
            self.store,
            lambda tx: messages.rows(
                tx,
                mailboxes.named(tx, self.account.id, "In/box").id,
                messages.ALL_UIDS,
                0,
            ),
        )
        wanted = array("q", [rows[1].id, rows[0].id, 999_999])
        task = Export(self.store, self.account.id, "maildir")
        data = b"".join(all_of(task.selection(containers.Zip(), wanted)))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            self.assertIn("999999", archive.read("errors.txt").decode())
        self.assertEqual(len([n for n in names if n.startswith("Export/") and ":2," in n]), 2)
        other = now(self.store.read(lambda tx: self.account.id + 1))
        task = Export(self.store, other, "mbox")
        self.assertEqual(b"".join(all_of(task.single(None, wanted))), b"")
        self.assertEqual(len(task.errors), 3)

    def test_more_keywords_than_letters(self) -> None:
        words = [f"k{n:02d}" for n in range(30)]
        self.fill([(b"A: b\r\n\r\n", words, 1)], "x")
        _, task = self.export("maildir", "zip", "x")
        self.assertIn("k21 k22", task.errors[0])
        data, task = self.export("mbox", "zip", "x")
        self.run_import(self.make(data, mailbox="y"))
        self.assertEqual(self.content()["y/x"][0][1], words)

    def test_big_zip_files(self) -> None:
        self.patch(containers, "_BIG", 3)
        self.patch(containers, "_ZIP32", 0xFFFFFFFF)
        made = containers.Zip()
        data = b"".join(
            made.start(f"{n}", 5, 0) + made.write(b"12345") + made.stop() for n in range(70_000)
        )
        data += made.finish()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertEqual(len(archive.namelist()), 70_000)
            self.assertEqual(archive.read("69999"), b"12345")


