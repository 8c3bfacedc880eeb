import dataclasses
import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from moxtw.config.codec import with_resolved
from moxtw.config.dynamic import Account, Destination
from moxtw.config.live import LiveConfig, write_file
from moxtw.config.load import ConfigError
from moxtw.config.testing import DYNAMIC, live_from, static_from

COMMENTED = DYNAMIC.replace("Accounts:", "# people\nAccounts:")
OTHER = DYNAMIC.replace("me@example.org: nil", "me@example.org: nil\n\t\t\tyou@example.org: nil")


def rename(name):
    def edit(dynamic):
        account = dataclasses.replace(dynamic.accounts["me"], full_name=name)
        return dataclasses.replace(dynamic, accounts={**dynamic.accounts, "me": account})

    return edit


class LiveTests(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(self.mktemp())
        self.clock = Clock()
        self.live = live_from(COMMENTED, directory=self.directory, reactor=self.clock)
        self.path = self.directory / "domains.conf"

    def write(self, text):
        self.path.write_text(text)
        info = self.path.stat()
        self.stamp = getattr(self, "stamp", info.st_mtime_ns) + 1_000_000_000
        os.utime(self.path, ns=(self.stamp, self.stamp))

    def addresses(self):
        return list(self.live.dynamic.accounts["me"].destinations)

    def test_a_changed_file_is_noticed_within_a_second(self):
        self.write(OTHER)
        self.assertEqual(self.addresses(), ["me@example.org"])
        self.clock.advance(1)
        self.live.dynamic  # noqa: B018 - being used makes it look
        self.assertEqual(self.addresses(), ["me@example.org", "you@example.org"])

    def test_the_file_is_looked_at_once_a_second_at_most(self):
        calls = []

        def run(fn, *args):
            calls.append(fn)
            return maybeDeferred(fn, *args)

        live = LiveConfig.load(self.live.static, self.clock, run=run, check_files=False)
        for _ in range(10):
            self.clock.advance(0.25)
            for _ in range(3):
                live.dynamic  # noqa: B018
        self.assertEqual(len(calls), 2)

    def test_polling_notices_without_use(self):
        changes = []
        self.live.on_change(lambda old, new: changes.append((old, new)))
        self.live.start()
        self.write(OTHER)
        self.clock.advance(1)
        self.assertEqual(len(changes), 1)
        self.live.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_polling_notices_within_a_second_of_the_last_look(self):
        self.live.start()
        self.addCleanup(self.live.stop)
        self.clock.advance(0.5)
        self.assertTrue(self.successResultOf(ensureDeferred(self.live.refresh())))
        self.write(OTHER)
        for _ in range(4):
            self.clock.advance(0.25)
        self.assertIn("you@example.org", self.live.text)

    def test_a_faulty_file_is_logged_once_and_the_old_one_stays(self):
        old = self.live.dynamic
        self.write("Domains: 1\n")
        errors = []
        self.patch(
            __import__("moxtw.config.live", fromlist=["log"]),
            "log",
            type("Log", (), {"error": lambda self, *a, **k: errors.append(k["err"])})(),
        )
        for _ in range(4):
            self.clock.advance(1)
            self.assertIs(self.live.dynamic, old)
        self.assertEqual(len(errors), 2)
        self.assertIn("domains.conf:1: unexpected value '1'", errors[1])

    def test_a_corrected_file_is_used_again(self):
        self.write("Domains: 1\n")
        self.clock.advance(1)
        self.live.dynamic  # noqa: B018
        self.write(OTHER)
        self.assertTrue(self.successResultOf(ensureDeferred(self.live.refresh())))
        self.assertEqual(len(self.addresses()), 2)

    def test_change_writes_and_keeps_comments(self):
        changes = []
        unsubscribe = self.live.on_change(lambda old, new: changes.append((old, new)))
        old = self.live.dynamic
        new = self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))
        self.assertEqual(new.accounts["me"].full_name, "Me")
        self.assertIs(self.live.dynamic, new)
        self.assertEqual(changes, [(old, new)])
        self.assertIsNotNone(new.index)
        self.assertEqual(
            self.path.read_text(),
            COMMENTED.replace("Domain: example.org\n", "Domain: example.org\n\t\tFullName: Me\n"),
        )
        unsubscribe()
        self.successResultOf(ensureDeferred(self.live.change(rename(""))))
        self.assertEqual(len(changes), 1)
        self.assertEqual(self.path.read_text(), COMMENTED)

    def test_edits_by_hand_are_told(self):
        read = []
        self.live.on_read(read.append)
        self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))
        self.assertEqual(read, [])
        self.write(OTHER)
        self.successResultOf(ensureDeferred(self.live.refresh()))
        self.assertEqual(read, [[]])
        self.write("Domains: 1\n")
        self.successResultOf(ensureDeferred(self.live.refresh()))
        self.assertEqual(len(read), 2)
        self.assertTrue(read[1])

    def test_own_changes_do_not_count_as_edits(self):
        self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))
        kept = self.live.dynamic
        self.clock.advance(2)
        self.assertIs(self.live.dynamic, kept)
        self.assertIs(self.live.dynamic, kept)

    def test_edits_by_hand_are_not_overwritten(self):
        self.write(OTHER)
        self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))
        self.assertEqual(len(self.addresses()), 2)
        self.assertIn("you@example.org", self.path.read_text())

    def test_change_is_refused_while_the_file_is_faulty(self):
        self.write("Domains: 1\n")
        for _ in range(2):
            self.failureResultOf(ensureDeferred(self.live.change(rename("Me"))), ConfigError)
        self.assertEqual(self.path.read_text(), "Domains: 1\n")
        self.assertEqual(self.live.dynamic.accounts["me"].full_name, "")

    def test_invalid_change_changes_nothing(self):
        def edit(dynamic):
            return dataclasses.replace(dynamic, monitor_dnsbls=("not a domain",))

        old = self.live.dynamic
        failure = self.failureResultOf(ensureDeferred(self.live.change(edit)), ConfigError)
        self.assertEqual(
            failure.value.errors,
            [
                "MonitorDNSBLs[0]: bad domain 'not a domain': "
                "character not allowed in label 'not a domain'"
            ],
        )
        self.assertIs(self.live.dynamic, old)
        self.assertEqual(self.path.read_text(), COMMENTED)

    def test_text_with_line_ends_cannot_be_written(self):
        def edit(dynamic):
            account = dataclasses.replace(dynamic.accounts["me"], description="a\nb: c")
            return dataclasses.replace(dynamic, accounts={"me": account})

        self.failureResultOf(ensureDeferred(self.live.change(edit)), ConfigError)
        self.assertEqual(self.path.read_text(), COMMENTED)

    def test_errors_of_the_edit_are_passed_on(self):
        self.failureResultOf(ensureDeferred(self.live.change(lambda _: 1 / 0)), ZeroDivisionError)
        self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))

    def test_changes_are_made_one_after_the_other(self):
        waiting = []

        def run(fn, *args):
            result = Deferred()
            waiting.append((result, fn, args))
            return result

        def proceed():
            result, fn, args = waiting.pop(0)
            result.callback(fn(*args))

        live = LiveConfig.load(self.live.static, self.clock, run=run, check_files=False)
        seen = []

        def edit(name):
            def inner(dynamic):
                seen.append(dynamic.accounts["me"].full_name)
                return rename(name)(dynamic)

            return inner

        first = ensureDeferred(live.change(edit("one")))
        second = ensureDeferred(live.change(edit("two")))
        while waiting:
            proceed()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(seen, ["", "one"])
        self.assertEqual(live.dynamic.accounts["me"].full_name, "two")

    def test_a_failing_listener_does_not_stop_others(self):
        seen = []
        self.live.on_change(lambda old, new: 1 / 0)
        self.live.on_change(lambda old, new: seen.append(new))
        self.successResultOf(ensureDeferred(self.live.change(rename("Me"))))
        self.assertEqual(len(seen), 1)

    def test_untouched_accounts_stay_the_same_objects(self):
        def add(dynamic):
            other = Account(domain="example.org", destinations={"other@example.org": Destination()})
            return dataclasses.replace(dynamic, accounts={**dynamic.accounts, "other": other})

        before = self.live.dynamic.accounts["me"]
        self.successResultOf(ensureDeferred(self.live.change(add)))
        self.assertIs(self.live.dynamic.accounts["me"], before)
        self.assertEqual(self.live.dynamic.accounts["other"].dns_domain.name, "example.org")


class WriteFileTests(SynchronousTestCase):
    def setUp(self):
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "f"
        self.path.write_bytes(b"old content")

    def test_mode_is_kept_and_nothing_is_left_behind(self):
        self.path.chmod(0o604)
        write_file(self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"new")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o604)
        self.assertEqual(list(self.directory.iterdir()), [self.path])

    def test_readers_see_the_old_or_the_new_file(self):
        with self.path.open("rb") as reader:
            write_file(self.path, b"new")
            self.assertEqual(reader.read(), b"old content")

    def test_a_link_stays_a_link(self):
        link = self.directory / "link"
        link.symlink_to("f")
        write_file(link, b"new")
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.read_bytes(), b"new")

    def test_falls_back_to_writing_in_place(self):
        def refuse(*args):
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "rename", refuse)
        inode = self.path.stat().st_ino
        write_file(self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"new")
        self.assertEqual(self.path.stat().st_ino, inode)
        self.assertEqual(list(self.directory.iterdir()), [self.path])

    def test_other_failures_leave_the_old_file(self):
        def refuse(*args):
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", refuse)
        self.assertRaises(OSError, write_file, self.path, b"new")
        self.assertEqual(self.path.read_bytes(), b"old content")
        self.assertEqual(list(self.directory.iterdir()), [self.path])


class ResolvedTests(SynchronousTestCase):
    def test_with_resolved_leaves_the_original_alone(self):
        static = static_from()
        changed = with_resolved(static, effective_user="other")
        self.assertEqual(static.effective_user, "mox")
        self.assertEqual(changed.effective_user, "other")
        self.assertEqual(changed, static)
        self.assertIs(with_resolved(static, effective_user="mox"), static)


class ThreadTests(TestCase):
    async def test_files_are_read_and_written_in_threads_of_the_reactor(self):
        directory = Path(self.mktemp())
        static = live_from(DYNAMIC, directory=directory).static
        live = LiveConfig.load(static, reactor, check_files=False)
        await live.change(rename("Me"))
        self.assertIn("FullName: Me\n", live.path.read_text())
        live.path.write_text(OTHER)
        self.assertTrue(await live.refresh())
        self.assertEqual(len(live.dynamic.accounts["me"].destinations), 2)
