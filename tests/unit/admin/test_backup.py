"""Backups of a store, and what they are made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import backup, backupfiles
from moxtw.admin.backupfiles import BackupError, read_manifest
from moxtw.admin.context import Caller, OperationError
from moxtw.store import accounts, mailboxes, messages
from moxtw.store.db import Store
from moxtw.store.verify import verify_all
from tests.support.admin import make_admin_context
from tests.support.store import job, message, now

CALLER = Caller("cli", "test")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self)
        self.store = self.ctx.store
        self.data = Path(self.store.data_dir)
        (self.data / "receivedid.key").write_bytes(b"k" * 24)
        (self.data / "acme").mkdir()
        (self.data / "acme" / "cert").write_bytes(b"c")
        self.target = Path(self.mktemp()).absolute() / "backup"
        self.target.parent.mkdir()
        self.add(b"small\r\n")
        self.add(b"x" * 70 + b"\r\n" * 100_000)

    def add(self, body: bytes) -> int:
        new = message(self.store, b"Subject: x\r\n\r\n" + body)

        def add(tx: Any) -> int:
            account = accounts.get(tx, accounts.all_names(tx)[0])
            inbox = mailboxes.named(tx, account.id, "Inbox")
            return messages.add(tx, account.id, inbox.id, new).uid

        return job(self.store, add)

    def backup(self, target: Path | None = None, **more: Any) -> backup.Backup:
        return self.successResultOf(
            Deferred.fromCoroutine(
                backup.backup(self.ctx, CALLER, str(target or self.target), **more)
            )
        )

    def refused(self, target: Path | str) -> OperationError:
        failure = self.failureResultOf(
            Deferred.fromCoroutine(backup.backup(self.ctx, CALLER, str(target)))
        )
        error = failure.value
        self.assertIsInstance(error, OperationError)
        return error

    def files(self, target: Path) -> set[str]:
        return {
            str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()
        }

    def open_copy(self, target: Path) -> Store:
        store = Store(str(target / "data"), None, inline=True)
        store.open()
        self.addCleanup(store.stopService)
        return store


class BackupTests(Case):
    def test_whole(self) -> None:
        (self.data / "notes").write_text("n")
        told: list[str] = []
        steps: list[str] = []
        done = self.backup(tell=told.append, progress=steps.append)
        self.assertEqual((done.messages, done.content_files), (2, 1))
        (content,) = (self.data / "content").glob("*/*")
        self.assertEqual(
            self.files(self.target),
            {
                "backup.json",
                "config/mox.conf",
                "config/domains.conf",
                "data/moxtw.db",
                "data/receivedid.key",
                "data/acme/cert",
                "data/notes",
                "data/moxversion",
                f"data/content/{content.parent.name}/{content.name}",
            }
            | {
                f"config/{path.relative_to(self.ctx.config.static.directory)}"
                for path in self.ctx.config.static.directory.rglob("*")
                if path.is_file() and not path.is_relative_to(self.data)
            },
        )
        self.assertEqual(told, [f"unknown file {self.data / 'notes'} is copied, too"])
        self.assertIn("content: 1 of 1 files", steps)
        copy = self.open_copy(self.target)
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(copy))), [])
        manifest = read_manifest(self.target)
        self.assertEqual(manifest.content_files, 1)
        for entry in manifest.files:
            self.assertEqual(
                backupfiles.digest_of(self.target / entry.path), (entry.size, entry.sha256)
            )
        self.assertEqual(os.stat(self.target).st_mode & 0o007, 0)

    def test_never_overwrites(self) -> None:
        self.backup()
        before = self.files(self.target)
        self.assertIn("holds a backup already", str(self.refused(self.target)))
        self.assertEqual(self.files(self.target), before)
        other = self.target.parent / "other"
        other.mkdir()
        (other / "mine").write_text("mine")
        self.assertIn("not empty", str(self.refused(other)))
        self.assertEqual(os.listdir(other), ["mine"])
        self.assertIn("no directory", str(self.refused(other / "mine")))

    def test_places_that_cannot_be(self) -> None:
        for target in (
            self.data / "backup",
            self.data,
            self.ctx.config.static.directory / "x",
            self.ctx.config.static.directory.parent,
            "relative",
            "",
        ):
            self.assertEqual(self.refused(target).kind, "user", target)
        self.assertFalse((self.data / "backup").exists())

    def test_failure_leaves_no_complete_backup(self) -> None:
        (content,) = (self.data / "content").glob("*/*")
        content.rename(self.data / "away")
        error = self.refused(self.target)
        self.assertEqual(error.kind, "server")
        self.assertIn("is missing", str(error))
        self.assertRaises(BackupError, read_manifest, self.target)
        # It can be finished later, and what has changed since is in it.
        (self.data / "away").rename(content)
        self.add(b"later\r\n")
        self.assertEqual(self.backup().messages, 3)
        self.assertEqual(
            now(Deferred.fromCoroutine(verify_all(self.open_copy(self.target)))), []
        )

    def test_cut_off_content_is_no_backup(self) -> None:
        (content,) = (self.data / "content").glob("*/*")
        with open(content, "r+b") as file:
            file.truncate(10)
        self.assertIn("has 10 bytes", str(self.refused(self.target)))
        self.assertTrue(backupfiles.is_incomplete(self.target))

    def test_manifest_and_marker(self) -> None:
        self.backup()
        (self.target / "data" / backupfiles.MARKER).write_text("")
        self.assertRaises(BackupError, read_manifest, self.target)
        (self.target / "data" / backupfiles.MARKER).unlink()
        (self.target / "backup.json").write_text("{}")
        self.assertRaises(BackupError, read_manifest, self.target)

    def test_what_is_written_meanwhile_is_not_in_it(self) -> None:
        seen: list[str] = []

        def progress(text: str) -> None:
            if text.startswith("content"):
                self.add(b"meanwhile\r\n")
                seen.append(text)

        self.assertEqual(self.backup(progress=progress).messages, 2)
        self.assertTrue(seen)
        copy = self.open_copy(self.target)
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(copy))), [])

    def test_what_is_removed_meanwhile_is_in_it(self) -> None:
        (content,) = (self.data / "content").glob("*/*")
        name = str(content.relative_to(self.data / "content"))

        def progress(text: str) -> None:
            if text == "copying the database":
                self.store.contents.remove_file(name)

        self.backup(progress=progress)
        self.assertTrue((self.target / "data" / "content" / name).exists())
        self.assertFalse(content.exists())

    def test_links_to_an_earlier_backup(self) -> None:
        self.backup()
        # As on another file system than the server's.
        link = os.link

        def other_device(source: Any, target: Any) -> None:
            if Path(source).is_relative_to(self.data):
                raise OSError(18, "Invalid cross-device link")
            link(source, target)

        self.patch(os, "link", other_device)
        self.add(b"y" * 70 + b"\r\n" * 100_000)
        second = self.target.with_name("second")
        done = self.backup(second)
        self.assertEqual((done.linked, done.copied), (1, 1))
        self.assertEqual(now(Deferred.fromCoroutine(verify_all(self.open_copy(second)))), [])

    def test_links_in_the_configuration_are_copied_as_files(self) -> None:
        directory = self.ctx.config.static.directory
        outside = self.target.parent / "key"
        outside.write_text("key")
        (directory / "linked").symlink_to(outside)
        (directory / "dangling").symlink_to("nowhere")
        os.mkfifo(directory / "fifo")
        told: list[str] = []
        self.backup(tell=told.append)
        self.assertFalse((self.target / "config" / "linked").is_symlink())
        self.assertEqual((self.target / "config" / "linked").read_text(), "key")
        self.assertEqual(len(told), 2)

    def test_other_databases_are_refused(self) -> None:
        self.patch(backup, "can_copy", lambda store: False)
        self.assertIn("pg_dump", str(self.refused(self.target)))
        self.assertFalse(self.target.exists())
