"""Operations on domains, accounts, addresses, aliases and the server."""

from __future__ import annotations

import os
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from moxtw import log as logs
from moxtw.admin import accounts, adminpassword, aliases, domains, keys, system
from moxtw.admin.context import Caller, OperationError
from moxtw.config.dynamic import Alias, Route, Selector
from moxtw.config.load import load_document
from moxtw.config.testing import static_from
from moxtw.sasl import password as passwords
from moxtw.store import accounts as rows
from moxtw.store import credentials
from moxtw.store.credentials import TLSKey
from tests.support.admin import make_admin_context
from tests.support.store import job

CALLER = Caller("ctl", "uid 0")

DYNAMIC = """\
# About this file.
Domains:
	example.org:
		# About example.org.
		LocalpartCatchallSeparator: +
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
"""


class OperationsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.ctx = make_admin_context(self, DYNAMIC)
        self.directory = self.ctx.config.static.directory

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refused(self, kind: str, coroutine: Coroutine[Any, Any, Any]) -> str:
        """The operation is refused, and domains.conf stays as it was. Returns the message."""
        before = self.ctx.config.path.read_bytes()
        failure = self.failureResultOf(Deferred.fromCoroutine(coroutine), OperationError)
        self.assertEqual(failure.value.kind, kind, failure.value)
        self.assertEqual(self.ctx.config.path.read_bytes(), before)
        return str(failure.value)

    def add_key(self, address: str, account: str = "me") -> None:
        key = TLSKey("fp", 1, "ed25519", "", False, b"", account, address)
        job(self.ctx.store, credentials.add_tls_key, key)

    def files(self, folder: str = "dkim") -> list[str]:
        path = self.directory / folder
        return sorted(p.name for p in path.iterdir() if p.is_file()) if path.exists() else []

    def reload(self) -> Any:
        """What a new start would read, with keys."""
        static = static_from(directory=self.directory)
        return load_document(self.ctx.config.path, static)


class DomainTests(OperationsCase):
    def test_add_makes_keys_and_keeps_comments(self) -> None:
        self.do(domains.add(self.ctx, CALLER, "Bücher.example", "me"))
        domain = self.ctx.config.dynamic.domains["bücher.example"]
        self.assertEqual(list(domain.dkim.selectors), ["2025a", "2025b"])
        self.assertEqual(domain.dkim.sign, ("2025a",))
        self.assertIsNone(domain.mtasts)
        self.assertEqual(
            self.files(),
            [
                f"2025{letter}._domainkey.xn--bcher-kva.example.20250615T150640.rsa2048"
                ".privatekey.pkcs8.pem"
                for letter in "ab"
            ],
        )
        for name in self.files():
            mode = os.stat(self.directory / "dkim" / name).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o640)
        document = self.reload()
        self.assertIn("# About example.org.", document.text)
        loaded = document.value.domains["bücher.example"].dkim.selectors["2025a"]
        self.assertEqual(loaded.private_key.key_size, 2048)

    def test_add_with_localpart_makes_an_account(self) -> None:
        self.do(domains.add(self.ctx, CALLER, "b.example", "you", "you", disabled=True))
        self.assertTrue(self.ctx.config.dynamic.domains["b.example"].disabled)
        self.assertIn("you@b.example", self.ctx.config.dynamic.accounts["you"].destinations)
        self.assertIsNotNone(job(self.ctx.store, rows.find, "you"))

    def test_add_that_is_refused_leaves_no_keys(self) -> None:
        for kind, name, account, localpart in [
            ("user", "example.org", "me", ""),
            ("user", "b.example", "nobody", ""),
            ("user", "b.example", "me", "x"),
            ("user", "not a domain", "me", ""),
            ("user", "", "me", ""),
            ("user", "b.example", "bad/name", "x"),
        ]:
            self.refused(kind, domains.add(self.ctx, CALLER, name, account, localpart))
        self.assertEqual(self.files(), [])

    def test_keys_are_removed_when_the_file_cannot_be_changed(self) -> None:
        # Passes the first look, and is refused by the check of the whole.
        self.ctx.config.path.write_text(DYNAMIC + "Nonsense: 1\n")
        self.ctx.clock.advance(2)  # type: ignore[attr-defined]
        self.refused("user", domains.add(self.ctx, CALLER, "b.example", "me"))
        self.assertEqual(self.files(), [])

    def test_keys_that_cannot_be_written(self) -> None:
        (self.directory / "dkim").write_text("a file in the place of the directory")
        text = self.refused("server", domains.add(self.ctx, CALLER, "b.example", "me"))
        self.assertIn("dkim key", text)
        self.flushLoggedErrors()

    def test_remove_keeps_keys_aside(self) -> None:
        self.do(domains.add(self.ctx, CALLER, "b.example", "me"))
        names = self.files()
        self.do(domains.remove(self.ctx, CALLER, "B.example"))
        self.assertNotIn("b.example", self.ctx.config.dynamic.domains)
        self.assertEqual(self.files(), [])
        self.assertEqual(self.files("dkim/old"), names)

    def test_remove_is_refused(self) -> None:
        self.refused("user", domains.remove(self.ctx, CALLER, "example.org"))
        self.refused("notFound", domains.remove(self.ctx, CALLER, "c.example"))
        self.do(domains.add(self.ctx, CALLER, "b.example", "me"))
        self.add_key("x@b.example")
        self.assertIn("key", self.refused("user", domains.remove(self.ctx, CALLER, "b.example")))

    def test_dkim_selectors(self) -> None:
        add = domains.dkim_add
        self.do(add(self.ctx, CALLER, "example.org", "sel", "ed25519", lifetime=10**9 * 3600))
        selector = self.ctx.config.dynamic.domains["example.org"].dkim.selectors["sel"]
        self.assertEqual(selector.expiration, "1h0m0s")
        self.assertEqual(len(self.files()), 1)
        self.refused("user", add(self.ctx, CALLER, "example.org", "sel", "ed25519"))
        self.refused("user", add(self.ctx, CALLER, "example.org", "other", "dsa"))
        self.refused("user", add(self.ctx, CALLER, "example.org", "bad selector", "ed25519"))
        self.refused("user", add(self.ctx, CALLER, "example.org", "../x", "ed25519"))
        self.refused("notFound", add(self.ctx, CALLER, "c.example", "sel", "ed25519"))
        self.refused("user", add(self.ctx, CALLER, "example.org", "s2", "rsa", hash="md5"))
        self.assertEqual(len(self.files()), 1)
        save = domains.dkim_save
        self.do(save(self.ctx, CALLER, "example.org", {"sel": selector}, ["sel"]))
        self.assertEqual(self.ctx.config.dynamic.domains["example.org"].dkim.sign, ("sel",))
        moved = Selector(private_key_file="other.pem")
        self.refused("user", save(self.ctx, CALLER, "example.org", {"sel": moved}, []))
        self.refused("user", save(self.ctx, CALLER, "example.org", {}, []))
        self.reload()
        self.do(domains.dkim_remove(self.ctx, CALLER, "example.org", "sel"))
        self.assertEqual((self.files(), len(self.files("dkim/old"))), ([], 1))
        self.refused("notFound", domains.dkim_remove(self.ctx, CALLER, "example.org", "sel"))

    def test_settings(self) -> None:
        ctx = self.ctx
        self.do(domains.save(ctx, CALLER, "example.org", description="us", disabled=True))
        self.do(domains.save_localparts(ctx, CALLER, "example.org", ["+", "-"], True))
        self.do(domains.save_mtasts(ctx, CALLER, "example.org", "id1", "testing", 10**12, []))
        args = ("reports", "", "me", "DMARC")
        self.do(domains.save_dmarc(ctx, CALLER, "example.org", *args))
        self.do(domains.save_tlsrpt(ctx, CALLER, "example.org", "tlsrpt", "", "me", "TLSRPT"))
        self.do(domains.save_routes(ctx, CALLER, "example.org", []))
        domain = ctx.config.dynamic.domains["example.org"]
        self.assertEqual(domain.description, "us")
        self.assertEqual(domain.effective_separators, ("+", "-"))
        self.assertEqual(domain.mtasts and domain.mtasts.mode, "testing")
        self.assertEqual(domain.dmarc and domain.dmarc.localpart, "reports")
        self.reload()
        bad_route = Route(transport="nowhere")
        self.refused("user", domains.save_routes(ctx, CALLER, "example.org", [bad_route]))
        self.refused("user", domains.save_mtasts(ctx, CALLER, "example.org", "i", "x", 1, []))
        bad = ("r", "", "nobody", "DMARC")
        self.refused("user", domains.save_dmarc(ctx, CALLER, "example.org", *bad))
        self.refused("notFound", domains.save(ctx, CALLER, "c.example", description=""))

    def test_localparts(self) -> None:
        self.do(accounts.address_add(self.ctx, CALLER, "@example.org", "me"))
        alias = Alias(addresses=("me@example.org",))
        self.do(aliases.add(self.ctx, CALLER, "list", "example.org", alias))
        found, named = self.do(domains.localparts(self.ctx, CALLER, "example.org"))
        self.assertEqual(found, {"me": "me", "": "me"})
        self.assertEqual(list(named), ["list"])

    def test_client_configs(self) -> None:
        self.assertEqual(self.do(domains.client_configs(self.ctx, CALLER, "example.org")), [])
        self.refused("notFound", domains.client_configs(self.ctx, CALLER, "c.example"))


class AccountTests(OperationsCase):
    def test_add_and_remove(self) -> None:
        self.do(accounts.add(self.ctx, CALLER, "you", "You@example.org"))
        self.assertEqual(
            self.do(accounts.account_list(self.ctx, CALLER)), (["me", "you"], [])
        )
        self.assertEqual(
            self.do(accounts.addresses(self.ctx, CALLER, "you")), ["you@example.org"]
        )
        self.assertIsNotNone(job(self.ctx.store, rows.find, "you"))
        self.do(accounts.remove(self.ctx, CALLER, "you"))
        self.assertIsNone(job(self.ctx.store, rows.find, "you"))
        self.assertNotIn("you", self.ctx.config.dynamic.accounts)
        self.assertEqual(self.ctx.ended, ["you"])  # type: ignore[attr-defined]
        self.do(accounts.add(self.ctx, CALLER, "you", "you@example.org"))

    def test_refused(self) -> None:
        ctx = self.ctx
        for kind, name, address in [
            ("user", "me", "x@example.org"),
            ("user", "you", "me@example.org"),
            ("user", "you", "x+y@example.org"),
            ("user", "you", "example.org"),
            ("user", "you", ""),
            ("user", "a/b", "x@example.org"),
            ("user", "", "x@example.org"),
            ("notFound", "you", "x@c.example"),
        ]:
            self.refused(kind, accounts.add(ctx, CALLER, name, address))
        self.refused("notFound", accounts.remove(ctx, CALLER, "nobody"))
        self.refused("user", accounts.remove(ctx, CALLER, "me"))
        self.refused("notFound", accounts.account(ctx, CALLER, "nobody"))
        self.refused("notFound", accounts.set_password(ctx, CALLER, "nobody", "password1"))
        self.refused("notFound", accounts.save_login_disabled(ctx, CALLER, "nobody", "x"))

    def test_mail_of_an_account_that_was_edited_away_is_not_given_to_another(self) -> None:
        job(self.ctx.store, rows.ensure, "old")
        text = self.refused("user", accounts.add(self.ctx, CALLER, "old", "o@example.org"))
        self.assertIn("earlier account", text)
        self.refused("user", domains.add(self.ctx, CALLER, "b.example", "old", "o"))

    def test_password(self) -> None:
        self.do(accounts.set_password(self.ctx, CALLER, "me", "correct horse"))

        def verifiers(tx: Any) -> Any:
            return credentials.verifiers(tx, rows.get(tx, "me").id)

        stored = job(self.ctx.store, verifiers)
        self.assertTrue(passwords.verify("correct horse", stored.bcrypt))
        for bad in ["short", "", "with\x00control"]:
            self.refused("user", accounts.set_password(self.ctx, CALLER, "me", bad))

    def test_settings(self) -> None:
        self.do(
            accounts.save_settings(
                self.ctx,
                CALLER,
                "me",
                max_outgoing=5,
                max_first_time=3,
                quota=1000,
                first_time_sender_delay=False,
                no_custom_password=True,
            )
        )
        config, usage = self.do(accounts.account(self.ctx, CALLER, "me"))
        self.assertEqual((config.effective_max_outgoing, config.quota_message_size), (5, 1000))
        self.assertTrue(config.no_first_time_sender_delay)
        self.assertEqual(usage, 0)

    def test_login_disabled(self) -> None:
        self.do(accounts.save_login_disabled(self.ctx, CALLER, "me", "ask the admin"))
        self.assertEqual(self.do(accounts.account_list(self.ctx, CALLER)), (["me"], ["me"]))
        self.assertEqual(self.ctx.ended, ["me"])  # type: ignore[attr-defined]
        self.do(accounts.save_login_disabled(self.ctx, CALLER, "me", ""))
        self.assertEqual(self.do(accounts.account_list(self.ctx, CALLER)), (["me"], []))
        self.refused("user", accounts.save_login_disabled(self.ctx, CALLER, "me", "a\nb"))

    def test_addresses(self) -> None:
        ctx = self.ctx
        self.do(accounts.address_add(ctx, CALLER, "b@example.org", "me"))
        self.do(accounts.address_add(ctx, CALLER, "@example.org", "me"))
        self.assertEqual(
            self.do(accounts.addresses(ctx, CALLER, "me")),
            ["me@example.org", "b@example.org", "@example.org"],
        )
        self.assertEqual(self.do(accounts.address_account(ctx, CALLER, "B+x@example.org")), "me")
        self.refused("notFound", accounts.address_account(ctx, CALLER, "c@example.org"))
        self.refused("user", accounts.address_add(ctx, CALLER, "b@example.org", "me"))
        self.refused("notFound", accounts.address_add(ctx, CALLER, "c@example.org", "nobody"))
        self.add_key("b+phone@example.org")
        self.refused("user", accounts.address_remove(ctx, CALLER, "b@example.org"))
        job(ctx.store, credentials.remove_tls_key, "fp")
        self.do(accounts.address_remove(ctx, CALLER, "b@example.org"))
        self.do(accounts.address_remove(ctx, CALLER, "@example.org"))
        self.assertEqual(self.do(accounts.addresses(ctx, CALLER, "me")), ["me@example.org"])
        self.refused("notFound", accounts.address_remove(ctx, CALLER, "b@example.org"))


class AliasTests(OperationsCase):
    def test_life_of_an_alias(self) -> None:
        ctx = self.ctx
        self.do(accounts.add(ctx, CALLER, "you", "you@example.org"))
        alias = Alias(addresses=("me@example.org",))
        self.do(aliases.add(ctx, CALLER, "list", "example.org", alias))
        self.refused("user", aliases.add(ctx, CALLER, "list", "example.org", alias))
        self.refused("user", aliases.add(ctx, CALLER, "me", "example.org", alias))
        self.refused("user", aliases.add(ctx, CALLER, "empty", "example.org", Alias()))
        outside = Alias(addresses=("x@c.example",))
        self.refused("user", aliases.add(ctx, CALLER, "out", "example.org", outside))
        self.do(aliases.update(ctx, CALLER, "list", "example.org", post_public=True))
        self.do(aliases.addresses_add(ctx, CALLER, "list", "example.org", ["you@example.org"]))
        found = self.do(aliases.get(ctx, CALLER, "list", "example.org"))
        self.assertEqual(found.addresses, ("me@example.org", "you@example.org"))
        self.assertTrue(found.post_public)
        self.assertFalse(found.list_members)
        self.do(aliases.addresses_remove(ctx, CALLER, "list", "example.org", ["me@example.org"]))
        last = ["you@example.org"]
        self.refused("user", aliases.addresses_remove(ctx, CALLER, "list", "example.org", last))
        self.refused("user", accounts.remove(ctx, CALLER, "you"))
        self.assertEqual(len(self.do(aliases.alias_list(ctx, CALLER, "example.org"))), 1)
        self.do(aliases.remove(ctx, CALLER, "list", "example.org"))
        self.refused("notFound", aliases.get(ctx, CALLER, "list", "example.org"))
        self.assertEqual(aliases.split("a.b@Example.org"), ("a.b", "example.org"))


class SystemTests(OperationsCase):
    def test_log_levels(self) -> None:
        before = (logs.levels.default, dict(logs.levels.packages))
        self.addCleanup(lambda: logs.levels.configure(logs.NAMES[before[0]], {}))
        self.do(system.log_level_set(self.ctx, CALLER, "smtpserver", "trace"))
        self.do(system.log_level_set(self.ctx, CALLER, "", "debug"))
        levels = self.do(system.log_levels(self.ctx, CALLER))
        self.assertEqual((levels[""], levels["smtpserver"]), ("debug", "trace"))
        self.do(system.log_level_remove(self.ctx, CALLER, "smtpserver"))
        self.refused("notFound", system.log_level_remove(self.ctx, CALLER, "smtpserver"))
        self.refused("user", system.log_level_remove(self.ctx, CALLER, ""))
        self.refused("user", system.log_level_set(self.ctx, CALLER, "x", "loud"))

    def test_config_files(self) -> None:
        static, dynamic, static_text, text = self.do(system.config_files(self.ctx, CALLER))
        self.assertEqual(Path(static).read_text(), static_text)
        self.assertEqual((dynamic, text), (str(self.ctx.config.path), DYNAMIC))
        self.ctx.config.path.unlink()
        failure = self.failureResultOf(
            Deferred.fromCoroutine(system.config_files(self.ctx, CALLER)), OperationError
        )
        self.assertEqual(failure.value.kind, "server")

    def test_lookup_cid(self) -> None:
        text = self.ctx.ids.encrypt(0xABC)
        self.assertEqual(self.do(system.lookup_cid(self.ctx, CALLER, text)), "abc")
        for bad in ["", "x", text[:-1], "A" * 22]:
            self.refused("user", system.lookup_cid(self.ctx, CALLER, bad))

    def test_stop(self) -> None:
        stopped: list[str] = []
        self.ctx.stop = lambda: stopped.append("now")
        self.do(system.stop(self.ctx, CALLER))
        self.assertEqual(stopped, ["now"])


class AdminPasswordTests(OperationsCase):
    def test_set_and_check(self) -> None:
        path = self.directory / "adminpasswd"
        text = self.refused("user", adminpassword.check(self.ctx, "moxadmin"))
        self.assertIn("AdminPasswordFile", text)
        object.__setattr__(self.ctx.config.static, "admin_password_path", path)
        text = self.refused("user", adminpassword.check(self.ctx, "moxadmin"))
        self.assertIn("setadminpassword", text)
        adminpassword.set_admin_password(path, "moxadmin")
        self.assertTrue(path.read_bytes().endswith(b"\n"))
        self.assertTrue(self.do(adminpassword.check(self.ctx, "moxadmin")))
        self.assertFalse(self.do(adminpassword.check(self.ctx, "moxadmin2")))
        self.assertFalse(self.do(adminpassword.check(self.ctx, "x" * 100_000)))
        with self.assertRaises(OperationError):
            adminpassword.set_admin_password(path, "short")
        path.write_text("nonsense\n")
        self.refused("server", adminpassword.check(self.ctx, "moxadmin"))


class KeyTests(SynchronousTestCase):
    def test_private_files_are_never_replaced(self) -> None:
        path = Path(self.mktemp()) / "a" / "key.pem"
        keys.write_private(path, b"one")
        with self.assertRaises(FileExistsError):
            keys.write_private(path, b"two")
        self.assertEqual(path.read_bytes(), b"one")
        self.assertEqual([p.name for p in path.parent.iterdir()], ["key.pem"])

    def test_moving_twice_keeps_both(self) -> None:
        path = Path(self.mktemp()) / "key.pem"
        for data in [b"one", b"two"]:
            keys.write_private(path, data)
            keys.move_to_old(path)
        found = {p.name: p.read_bytes() for p in (path.parent / "old").iterdir()}
        self.assertEqual(found, {"key.pem": b"one", "key.pem.2": b"two"})
