import ipaddress
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import quickstart
from moxtw.admin.placement import place
from moxtw.admin.quickstart import Installation, NewFile, Order, Secrets
from moxtw.admin.survey import Survey
from moxtw.config.load import load_dynamic, load_static
from moxtw.config.setups import quickstart_ports
from moxtw.mail.address import parse_address
from moxtw.mail.domain import parse_domain
from moxtw.sasl import password as passwords

EXAMPLES = Path(__file__).parents[1] / "config" / "data"
NOW = 1_795_220_838.0  # 2026-11-21 00:27:18, as in the examples
UNIT = "[Unit]\n"


def without_remarks(text):
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.lstrip("\t").startswith("#")
    )


class QuickstartTests(SynchronousTestCase):
    secrets: Secrets

    def setUp(self):
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.order = self.make_order()
        self.found = self.survey("192.0.2.2", "fd00::2")

    def make_order(self, **options):
        options.setdefault("config", self.base / "config" / "mox.conf")
        return Order(address=parse_address("you@example.org"), user="root", **options)

    def survey(self, *machine, host=("192.0.2.2", "fd00::2")):
        found = [ipaddress.ip_address(ip) for ip in ("127.0.0.1", "::1", *machine)]
        return Survey(parse_domain("mail.example.org"), place(found, host))

    def make_secrets(self, *, existing=False):
        return quickstart.make_secrets(NOW, existing_webserver=existing)

    def files(self, order=None, found=None):
        order = order or self.order
        secrets = self.make_secrets(existing=order.existing_webserver)
        return quickstart.new_files(order, found or self.found, secrets, NOW, UNIT)

    def test_same_as_the_examples(self):
        for example, existing in [("quickstart", False), ("quickstart-existing-webserver", True)]:
            files = self.files(self.make_order(existing_webserver=existing))
            texts = {file.path.name: file.data.decode() for file in files}
            for name in ("mox.conf", "domains.conf"):
                self.assertEqual(
                    without_remarks(texts[name]), (EXAMPLES / example / name).read_text()
                )

    def test_files(self):
        files = self.files()
        stamp = "20261121T002718"
        self.assertEqual(
            [(str(file.path.relative_to(self.base)), oct(file.mode)) for file in files],
            [
                *(
                    (f"config/dkim/2026{s}._domainkey.example.org.{stamp}.rsa2048"
                     ".privatekey.pkcs8.pem", "0o640")
                    for s in "ab"
                ),
                *(
                    (f"config/hostkeys/mail.example.org.{stamp}.{kind}.privatekey.pkcs8.pem",
                     "0o640")
                    for kind in ("rsa2048", "ecdsap256")
                ),
                ("config/adminpasswd", "0o640"),
                ("moxtw.service", "0o644"),
                ("config/domains.conf", "0o640"),
                ("config/mox.conf", "0o640"),
            ],
        )  # fmt: skip

    def test_no_host_keys_where_others_get_certificates(self):
        files = self.files(self.make_order(existing_webserver=True))
        self.assertNotIn("hostkeys", {file.path.parent.name for file in files})

    def test_secrets(self):
        secrets = self.make_secrets()
        self.assertEqual(len(secrets.account_password), 12)
        self.assertNotEqual(secrets.account_password, secrets.admin_password)
        self.assertTrue(passwords.verify(secrets.admin_password, secrets.admin_hash))

    def test_configuration_loads_with_its_keys(self):
        for machine, host, listen, nat, nated in [
            (("192.0.2.2",), ("192.0.2.2",), ["192.0.2.2"], [], False),
            (("10.0.0.1",), ("192.0.2.2",), ["10.0.0.1"], ["192.0.2.2"], False),
            (("10.0.0.1",), (), ["10.0.0.1"], [], True),
        ]:
            base = self.base / str(len(list(self.base.iterdir())))
            base.mkdir()
            order = self.make_order(config=base / "config" / "mox.conf", resolvers=["127.0.0.1"])
            Installation(order).write(self.files(order, self.survey(*machine, host=host)))
            static = load_static(order.config)
            dynamic = load_dynamic(static.dynamic_path, static)
            self.assertEqual((*static.warnings, *dynamic.warnings), ())
            public = static.listeners["public"]
            self.assertEqual(list(public.ips), listen)
            self.assertEqual((list(public.nat_ips), public.ips_nated), (nat, nated))
            self.assertEqual(static.resolvers, ("127.0.0.1",))
            self.assertEqual(os.path.normpath(static.data_path), str(base / "data"))
            self.assertEqual(os.path.normpath(order.data), str(base / "data"))

    def test_ports_are_those_of_the_listeners(self):
        for existing in (False, True):
            base = self.base / str(existing)
            base.mkdir()
            order = self.make_order(
                config=base / "config" / "mox.conf", existing_webserver=existing
            )
            Installation(order).write(self.files(order))
            static = load_static(order.config, check_files=False)
            found = set()
            for name, listener in static.listeners.items():
                for field in type(listener).__dataclass_fields__:
                    service = getattr(listener, field)
                    if getattr(service, "enabled", False):
                        found.add((name == "internal", service.effective_port))
            self.assertEqual(found, set(quickstart_ports(existing_webserver=existing)))

    def test_remarks_can_be_taken_into_use(self):
        files = {file.path.name: file.data.decode() for file in self.files()}
        text = files["mox.conf"].replace("\t\t\t# \t", "\t\t\t\t").replace("# DNSBLs", "DNSBLs")
        domains = files["domains.conf"].replace("\t# \t", "\t\t").replace(
            "you@example.org: nil", "you@example.org:"
        )
        rules = domains[domains.index("\t\t\t\tRulesets") : domains.index("\t\t\tyou@")]
        domains = domains.replace(rules, "").replace(
            "\t\t\tyou@example.org:\n", "\t\t\tyou@example.org:\n" + rules
        )
        Installation(self.order).write(self.files())
        self.order.config.write_text(text)
        (self.order.folder / "domains.conf").write_text(domains)
        static = load_static(self.order.config, check_files=False)
        dynamic = load_dynamic(static.dynamic_path, static, check_files=False)
        self.assertEqual(
            static.listeners["public"].smtp.dnsbls, ("sbl.spamhaus.org", "bl.spamcop.net")
        )
        (rule,) = dynamic.accounts["you"].destinations["you@example.org"].rulesets
        self.assertEqual((rule.list_allow_domain, rule.mailbox),
                         ("lists.example.net", "Lists/Example"))

    def test_folder_that_is_not_called_config(self):
        order = self.make_order(config=self.base / "mox.conf")
        Installation(order).write(self.files(order))
        static = load_static(order.config)
        self.assertEqual(static.data_path, self.base / "data")
        self.assertTrue((self.base / "moxtw.service").exists())

    def test_what_is_in_the_way(self):
        self.assertEqual(quickstart.in_the_way(self.order), [])
        for name in ("config/mox.conf", "config/domains.conf", "config/adminpasswd",
                     "moxtw.service", "data/moxtw.db"):  # fmt: skip
            path = self.base / name
            path.parent.mkdir(exist_ok=True)
            path.symlink_to("nowhere")
            self.assertEqual(quickstart.in_the_way(self.order), [path])
            path.unlink()

    def test_nothing_is_overwritten_and_all_is_undone(self):
        there = self.base / "config" / "adminpasswd"
        there.parent.mkdir()
        there.write_text("precious")
        installation = Installation(self.order)
        self.assertRaises(FileExistsError, installation.write, self.files())
        (self.base / "data").mkdir()
        (self.base / "data" / "moxtw.db").touch()
        self.assertEqual(installation.undo(), [])
        left = sorted(str(p.relative_to(self.base)) for p in self.base.rglob("*"))
        self.assertEqual(left, ["config", "config/adminpasswd"])
        self.assertEqual(there.read_text(), "precious")

    def test_data_of_others_stays(self):
        (self.base / "data").mkdir()
        (self.base / "data" / "other").touch()
        installation = Installation(self.order)
        installation.write(self.files())
        (self.base / "data" / "moxtw.db-wal").touch()
        self.assertEqual(installation.undo(), [])
        left = sorted(str(p.relative_to(self.base)) for p in self.base.rglob("*"))
        self.assertEqual(left, ["data", "data/other"])

    def test_what_cannot_be_undone_is_told(self):
        installation = Installation(self.order)
        installation.write([NewFile(self.base / "config" / "a", b"")])
        (self.base / "config" / "of-somebody-else").touch()
        (problem,) = installation.undo()
        self.assertRegex(problem, "config: Directory not empty")

    def test_log_is_private_and_appended_to(self):
        path = self.base / "quickstart.log"
        quickstart.append_log(path, "a\n")
        quickstart.append_log(path, "b\n")
        self.assertEqual(path.read_text(), "a\nb\n")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
