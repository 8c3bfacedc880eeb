import ipaddress
from datetime import UTC, datetime, timedelta

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from moxtw.admin import survey
from moxtw.admin.check.probe import ProbeError
from moxtw.admin.placement import NoAddress
from moxtw.admin.rdap import RDAPError
from moxtw.admin.survey import Surroundings, Wishes
from moxtw.config.setups import MONITOR_DNSBLS
from moxtw.dns.fake import ZoneResolver
from moxtw.dns.resolver import reverse_name
from moxtw.mail.domain import parse_domain

NOW = datetime(2026, 11, 26, tzinfo=UTC)
IPS = ("192.0.2.1", "2001:db8::1")
ADVICE = "Records of an earlier mail service"


def zone():
    """What DNS has for a machine that is ready to become a mail server."""
    found = {
        "com.": {"NS": ["a.gtld-servers.net."]},
        "mail.example.org.": {"A": [IPS[0]], "AAAA": [IPS[1]]},
        "gmail.com.": {"MX": [(5, "mx.gmail.example."), (10, "no.gmail.example.")]},
        "mx.gmail.example.": {"A": ["198.51.100.1"], "AAAA": ["2001:db8:1::1"]},
    }
    for ip in IPS:
        found[reverse_name(ip)] = {"PTR": ["mail.example.org."]}
    for listed in MONITOR_DNSBLS:
        found[f"2.0.0.127.{listed}."] = {"A": ["127.0.0.2"]}
        mapped = ipaddress.ip_address("::ffff:7f00:2").reverse_pointer[: -len("ip6.arpa")]
        found[f"{mapped}{listed}."] = {"A": ["127.0.0.2"]}
    return found


class Silent:
    """A resolver that never answers."""

    async def lookup(self, name, rtype):
        await Deferred()


class Ears:
    """Remembers what was told, as "title: result", and warnings."""

    def __init__(self):
        self.titles, self.lines, self.warnings = [], {}, {}

    def begins(self, title):
        self.titles.append(title)

    def found(self, finding):
        assert finding.title == self.titles[-1]
        self.lines[finding.title] = finding.result
        if finding.warnings:
            self.warnings[finding.title] = " | ".join(finding.warnings)


class SurveyTests(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.clock.advance(NOW.timestamp())
        self.resolver = ZoneResolver(zone(), authentic=True)
        self.system_name = "mail.example.org"
        self.machine = (*IPS, "127.0.0.1", "::1", "fe80::1")
        self.dialed = []
        self.closed = set()
        self.used = {}
        self.since = NOW - timedelta(days=400)
        self.ears = Ears()

    async def dial(self, ip, port):
        self.dialed.append((ip, port))
        if ip in self.closed:
            raise ProbeError("connection refused")

    async def registration(self, domain):
        if isinstance(self.since, Exception):
            raise self.since
        return self.since

    def begin(self, **wishes):
        around = Surroundings(
            resolver=self.resolver,
            clock=self.clock,
            addresses=[ipaddress.ip_address(ip) for ip in self.machine],
            system_name=self.system_name,
            dial=self.dial,
            listen_problem=lambda ip, port: self.used.get((ip, port), ""),
            registration=self.registration,
        )
        asked = Wishes(
            domain=parse_domain("example.org"),
            selectors=("2026a", "2026b"),
            ports=[(False, 25), (False, 443), (True, 80)],
            **wishes,
        )
        return Deferred.fromCoroutine(survey.survey(asked, around, self.ears))

    def look(self, **wishes):
        return self.successResultOf(self.begin(**wishes))

    def warned(self, **wishes):
        """The only warnings."""
        found = self.look(**wishes)
        self.assertEqual(found.warnings, len(self.ears.warnings))
        return self.ears.warnings

    def test_all_is_well(self):
        found = self.look()
        self.assertEqual(self.ears.warnings, {})
        self.assertEqual(
            self.ears.lines,
            {
                "DNS resolver": "verifies DNSSEC",
                "Addresses of this machine": (
                    "public 192.0.2.1, 2001:db8::1; loopback 127.0.0.1, ::1"
                ),
                "Hostname": "mail.example.org, the system's name",
                "Addresses of mail.example.org": "192.0.2.1, 2001:db8::1",
                "Addresses to listen on": "192.0.2.1, 2001:db8::1",
                "Reverse names": "OK",
                "DNSSEC of example.org": "signed",
                "DNS records of example.org": "no mail yet",
                "Outgoing connections to port 25": "OK, to a mail host of gmail.com",
                "Age of example.org": "400 days, registered 2025-10-22",
                "DNS block lists": "not listed",
                "Ports": "free",
            },
        )
        self.assertEqual(str(found.hostname), "mail.example.org")
        self.assertEqual(found.placement.listen, IPS)
        self.assertTrue(found.verifies and found.signed)
        self.assertEqual({port for _, port in self.dialed}, {25})

    def test_nothing_is_dialed_if_so_asked(self):
        self.look(skip_dial=True)
        self.assertEqual(self.dialed, [])
        self.assertNotIn("Age of example.org", self.ears.titles)
        self.assertNotIn(("gmail.com.", "MX"), self.resolver.asked)

    def test_hostname(self):
        self.resolver.add("a.example.net.", "A", *IPS[:1])
        for given, system, expected, warning in [
            ("a.example.net", "mail.example.org", "a.example.net", ""),
            ("", "Mail.Example.ORG.", "mail.example.org", ""),
            ("", "vm7", "mail.example.org", ""),
            ("", "localhost.localdomain", "mail.example.org", ""),
            ("", "ip-10-0-0-1.ec2.internal", "mail.example.org", ""),
            ("", "bad_name.example.org", "bad_name.example.org", "no name for a host"),
        ]:
            self.ears = Ears()
            self.system_name = system
            hostname = parse_domain(given) if given else None
            found = self.look(hostname=hostname)
            if warning:
                self.assertRegex(self.ears.warnings["Hostname"], warning)
                self.assertEqual(str(found.hostname), "mail.example.org")
            else:
                self.assertNotIn("Hostname", self.ears.warnings)
                self.assertEqual(str(found.hostname), expected)

    def test_several_reverse_names(self):
        self.system_name = "vm7"
        self.resolver.zones[reverse_name(IPS[1])]["PTR"] = ["a.example.org."]
        self.resolver.add("a.example.org.", "A", IPS[0])
        found = self.look()
        self.assertEqual(str(found.hostname), "a.example.org")
        self.assertRegex(
            self.ears.warnings["Hostname"], r"a\.example\.org, mail\.example\.org\. The first"
        )

    def test_guessed_hostname(self):
        self.system_name = "vm7"
        for ip in IPS:
            del self.resolver.zones[reverse_name(ip)]
        found = self.look()
        self.assertEqual(str(found.hostname), "vm7.example.org")
        self.assertRegex(self.ears.warnings["Hostname"], "vm7.example.org is a guess")
        self.assertRegex(
            self.ears.warnings["Addresses of vm7.example.org"], "DNS has no addresses"
        )
        self.assertRegex(self.ears.warnings["Reverse names"], "192.0.2.1 has no reverse name")

    def test_loopback_in_dns(self):
        self.resolver.zones["mail.example.org."] = {"A": ["127.0.1.1"]}
        warnings = self.warned()
        self.assertRegex(warnings["Addresses of mail.example.org"], "/etc/hosts")
        self.assertRegex(warnings["Addresses to listen on"], "does not lead to 192.0.2.1")
        self.assertRegex(warnings["Reverse names"], "does not lead back to 192.0.2.1")

    def test_nat(self):
        self.machine = ("10.0.0.5", "127.0.0.1")
        self.resolver.zones["mail.example.org."] = {"A": [IPS[0]]}
        found = self.look()
        self.assertEqual(self.ears.warnings, {})
        self.assertEqual((found.placement.listen, found.placement.outside),
                         (("10.0.0.5",), IPS[:1]))
        self.assertEqual(
            self.ears.lines["Addresses to listen on"], "10.0.0.5, behind NAT with 192.0.2.1"
        )

    def test_nat_with_unknown_addresses(self):
        self.machine = ("10.0.0.5", "127.0.0.1")
        del self.resolver.zones["mail.example.org."]
        warnings = self.warned()
        self.assertEqual(list(warnings)[1:], ["Addresses to listen on"])
        self.assertRegex(warnings["Addresses to listen on"], "IPsNATed")
        self.assertEqual(self.ears.lines["Reverse names"], "no addresses")
        self.assertEqual(self.ears.lines["DNS block lists"], "no public addresses")

    def test_no_address(self):
        self.machine = ("127.0.0.1",)
        self.failureResultOf(self.begin(), NoAddress)

    def test_reverse_names(self):
        for names, pattern in [
            (["other.example.org."], "192.0.2.1 has reverse name other.example.org, instead"),
            (["mail.example.org.", "other.example."], "several reverse names"),
        ]:
            self.ears = Ears()
            self.resolver.zones[reverse_name(IPS[0])]["PTR"] = names
            warnings = self.warned()
            self.assertEqual(list(warnings), ["Reverse names"])
            self.assertRegex(warnings["Reverse names"], pattern)

    def test_resolver_without_dnssec(self):
        self.resolver.all_authentic = False
        found = self.look()
        self.assertFalse(found.verifies or found.signed)
        self.assertEqual(list(self.ears.warnings), ["DNS resolver", "DNSSEC of example.org"])
        self.assertRegex(self.ears.warnings["DNS resolver"], "unbound")
        self.resolver.authentic = {("com.", "NS")}
        self.ears = Ears()
        found = self.look()
        self.assertEqual((found.verifies, found.signed), (True, False))

    def test_records_of_another_service(self):
        add = self.resolver.add
        add("example.org.", "MX", (10, "mx.old.example."))
        add("example.org.", "TXT", "verification=abc", "v=spf1 include:old.example " + "x" * 90)
        add("_dmarc.example.org.", "TXT", "v=DMARC1;p=none")
        add("_mta-sts.example.org.", "TXT", "v=STSv1; id=1")
        add("2026b._domainkey.example.org.", "TXT", "v=DKIM1;p=")
        add("autoconfig.example.org.", "A", "198.51.100.9")
        warnings = self.warned()
        self.assertEqual(list(warnings), ["DNS records of example.org"])
        text = warnings["DNS records of example.org"]
        for pattern in (
            r"goes to mx\.old\.example\. now",
            r"an SPF record, .*: v=spf1 include:old\.example x+\.\.\. \|",
            r"_dmarc\.example\.org\. has a DMARC record",
            r"_mta-sts",
            r"2026b\._domainkey\.example\.org\. has a DKIM key",
            r"autoconfig\.example\.org\. exists, with addresses 198\.51\.100\.9",
            ADVICE,
        ):
            self.assertRegex(text, pattern)
        self.assertNotIn("verification", text)

    def test_port_25_is_blocked(self):
        self.closed = {"198.51.100.1"}
        self.assertEqual(self.warned(), {})  # The other address will do.
        self.closed.add("2001:db8:1::1")
        self.ears = Ears()
        warnings = self.warned()
        self.assertEqual(list(warnings), ["Outgoing connections to port 25"])
        self.assertRegex(
            warnings["Outgoing connections to port 25"],
            "198.51.100.1: connection refused; 2001:db8:1::1: connection refused.*Transports",
        )

    def test_age(self):
        self.since = NOW - timedelta(days=41)
        self.assertRegex(self.warned()["Age of example.org"], "six weeks")
        self.since = NOW - timedelta(days=42)
        self.ears = Ears()
        self.assertEqual(self.warned(), {})
        self.since = RDAPError("the registry of org offers no RDAP")
        self.ears = Ears()
        self.assertEqual(self.warned(), {})
        self.assertRegex(self.ears.lines["Age of example.org"], "not known: .*no RDAP")

    def test_block_lists(self):
        zone = MONITOR_DNSBLS[0]
        self.resolver.add(f"1.2.0.192.{zone}.", "A", "127.0.0.3")
        self.resolver.add(f"1.2.0.192.{zone}.", "TXT", "sent spam")
        warnings = self.warned()
        self.assertEqual(list(warnings), ["DNS block lists"])
        self.assertRegex(
            warnings["DNS block lists"], rf"192\.0\.2\.1 is on block list {zone}: sent spam"
        )

    def test_block_list_that_cannot_be_believed(self):
        del self.resolver.zones[f"2.0.0.127.{MONITOR_DNSBLS[1]}."]
        self.assertEqual(self.warned(), {})
        self.assertRegex(
            self.ears.lines["DNS block lists"], f"not known: {MONITOR_DNSBLS[1]}: zone does not"
        )

    def test_ports_in_use(self):
        self.used = {(IPS[0], 25): "another program listens there"}
        warnings = self.warned()
        self.assertRegex(
            warnings["Ports"], r"Port 25 of 192\.0\.2\.1: another program.*ss -ltnp"
        )
        self.assertNotIn("-existing-webserver", warnings["Ports"])
        self.used[("127.0.0.1", 80)] = "another program listens there"
        self.ears = Ears()
        self.assertRegex(self.warned()["Ports"], "Port 80 of 127.0.0.1.*-existing-webserver")

    def test_named_addresses(self):
        found = self.look(ips=[IPS[1]])
        self.assertEqual(found.placement.listen, IPS[1:])
        self.assertRegex(self.ears.warnings["Addresses to listen on"], f"DNS leads to {IPS[0]}")

    def test_failing_lookups_end_no_other_check(self):
        for name in ("com.", "example.org.", "gmail.com.", "mail.example.org."):
            self.resolver.fail[name] = "servfail"
        found = self.look()
        self.assertEqual(found.placement.listen, IPS)
        for title in (
            "DNS resolver", "Addresses of mail.example.org", "DNSSEC of example.org",
            "DNS records of example.org", "Outgoing connections to port 25",
        ):  # fmt: skip
            self.assertRegex(self.ears.warnings[title], "(?i)lookup failed|not found: .*fail")
        self.assertEqual(self.ears.lines["Age of example.org"][:8], "400 days")
        self.assertEqual(self.ears.lines["DNS block lists"], "not listed")

    def test_time_is_bounded(self):
        self.resolver = Silent()
        self.system_name = "vm7"
        work = self.begin()
        for _ in range(3):
            self.assertNoResult(work)
            self.clock.advance(survey.SECONDS)
        found = self.successResultOf(work)
        self.assertEqual(str(found.hostname), "vm7.example.org")
        self.assertEqual(found.placement.listen, IPS)
        for title in ("DNS resolver", "Hostname", "Reverse names", "DNS block lists"):
            self.assertEqual(self.ears.lines[title], "not known")
            self.assertRegex(self.ears.warnings[title], "within 10 seconds")

    def test_internal_failure_is_told(self):
        self.since = RuntimeError("broken")
        warnings = self.warned()
        self.assertRegex(warnings["Age of example.org"], "internal reason: RuntimeError")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 0)
