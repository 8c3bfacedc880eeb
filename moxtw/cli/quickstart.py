"""``moxtw quickstart``: from an address to a mail server that can be started."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import pwd
import shlex
import socket
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.config import client_settings, program, service_unit
from moxtw.cli.dns import make_resolver, run_async
from moxtw.cli.invocation import DEFAULT_CONFIG, Invocation
from moxtw.cli.output import clean, plural
from moxtw.cli.server import set_first_password

if TYPE_CHECKING:
    from moxtw.admin.quickstart import Installation, Order, Secrets
    from moxtw.admin.survey import Finding, Surroundings, Survey, Wishes
    from moxtw.config.dynamic import Dynamic
    from moxtw.config.static import Static

DEFAULT_USER: Final = "mox"
_WIDTH: Final = 78

_CERTIFICATES: Final = (
    "This version does not get certificates by ACME yet, and serves one that it made by itself. "
    "For clients, and before the _mta-sts record is added, get certificates with another program, "
    "and name their files in mox.conf, under KeyCerts in place of ACME and HostPrivateKeyFiles."
)


class Report:
    """Writes to the terminal, and keeps it for the log (`survey.Listener`)."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._kept: list[str] = []

    def write(self, text: str) -> None:
        """Write text, at once."""
        self._kept.append(text)
        self._invocation.write(text)
        self._invocation.stdout.flush()

    @property
    def text(self) -> str:
        """All that was written."""
        return "".join(self._kept)

    def begins(self, title: str) -> None:
        """A check's turn has come."""
        self.write(f"{clean(title)} ... ")

    def found(self, finding: Finding) -> None:
        """Its result, with warnings below."""
        self.write(clean(finding.result) + "\n")
        for warning in finding.warnings:
            self.write(_wrapped(clean(warning), "  ! ", "    "))

    def heading(self, text: str) -> None:
        """The title of a section."""
        self.write(f"\n{text}\n{'-' * len(text)}\n\n")

    def paragraph(self, text: str) -> None:
        """A text, as wide as it should be."""
        self.write(_wrapped(text, "", ""))

    def step(self, number: int, text: str, *commands: str) -> None:
        """Something to do, with commands below."""
        self.write(_wrapped(text, f"{number}. ", "   "))
        self.write("".join(f"\n       {command}" for command in commands) + "\n")
        if commands:
            self.write("\n")


def _wrapped(text: str, first: str, others: str) -> str:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def quickstart(invocation: Invocation) -> None:
    """``moxtw quickstart``."""
    from moxtw.admin import quickstart as making
    from moxtw.admin.placement import NoAddress
    from moxtw.admin.survey import survey

    now = time.time()
    order = _order(invocation)
    if present := making.in_the_way(order):
        raise CommandError(
            "nothing was done, since there is an installation already: "
            + ", ".join(str(path) for path in present)
            + ". Remove what is not needed any more, or use another folder."
        )
    wishes = _wishes(invocation, order, now)
    report = Report(invocation)
    report.write(
        f"Setting up {order.address} in {order.base}. First a look around; what is not as it "
        "should be\nis marked, and can be put right later.\n\n"
    )
    try:
        found = run_async(
            lambda reactor: survey(wishes, _surroundings(invocation, reactor), report)
        )
    except NoAddress as exc:
        raise CommandError(f"{exc}: name an address to listen on with -ips") from exc
    secrets = making.make_secrets(now, existing_webserver=order.existing_webserver)
    unit = service_unit(program(), order.config, order.data)
    installation = making.Installation(order)
    try:
        installation.write(making.new_files(order, found, secrets, now, unit))
        _finish(order, found, secrets, report)
    except BaseException:
        _undo(invocation, installation)
        raise


def _finish(order: Order, found: Survey, secrets: Secrets, report: Report) -> None:
    """Read what was written, make the account, tell all about it."""
    from moxtw.admin import dnsrecords
    from moxtw.admin.quickstart import append_log
    from moxtw.config.load import ConfigError, load_dynamic, load_static

    try:
        # With a web server in front, the files of its certificates are still to be named.
        static = load_static(order.config, check_files=not order.existing_webserver)
        dynamic = load_dynamic(static.dynamic_path, static, check_files=True)
    except ConfigError as exc:
        raise CommandError(f"the configuration that was made is not good: {exc}") from exc
    set_first_password(static, order.account, secrets.account_password)
    issuer, _ = dnsrecords.issuer_of(static)
    records = dnsrecords.zone_lines(
        static,
        dynamic.domains[order.address.domain.name],
        dnssec=found.signed,
        issuer=issuer,
    )
    _describe(order, found, secrets, report, static, dynamic, records)
    append_log(order.log, report.text)


def _undo(invocation: Invocation, installation: Installation) -> None:
    for problem in installation.undo():
        invocation.warn(f"not removed: {problem}")
    invocation.warn("What was made is removed again.")


# -- What is asked for ------------------------------------------------------------------------


def _order(invocation: Invocation) -> Order:
    from moxtw.admin.quickstart import Order
    from moxtw.mail.address import AddressError, parse_address

    text, *rest = invocation.args
    try:
        address = parse_address(text)
    except AddressError as exc:
        raise UsageError(f"address {text!r}: {exc}") from exc
    if not address.localpart.isascii():
        invocation.warn(
            f"note: {address} is not in ASCII only. Add an address that is: not all servers can "
            "send to it, nor all programs log in with it."
        )
    resolver = invocation.text("resolver")
    return Order(
        address=address,
        config=Path(invocation.config_path).absolute(),
        user=rest[0] if rest else DEFAULT_USER,
        existing_webserver=invocation.switch("existing-webserver"),
        resolvers=[resolver] if resolver else [],
    )


def _wishes(invocation: Invocation, order: Order, now: float) -> Wishes:
    from moxtw.admin.quickstart import selectors
    from moxtw.admin.survey import Wishes
    from moxtw.config.setups import quickstart_ports
    from moxtw.mail.domain import DomainError, parse_domain

    hostname = None
    if name := invocation.text("hostname"):
        try:
            hostname = parse_domain(name)
        except DomainError as exc:
            raise UsageError(f"flag -hostname: {exc}") from exc
        if "." not in hostname.ascii:
            raise UsageError(f"flag -hostname: {name!r} is not a full name")
    try:
        given = [part.strip() for part in invocation.text("ips").split(",") if part.strip()]
        ips = [str(ipaddress.ip_address(part)) for part in given]
    except ValueError as exc:
        raise UsageError(f"flag -ips: {exc}") from exc
    return Wishes(
        domain=order.address.domain,
        selectors=selectors(now),
        ports=quickstart_ports(existing_webserver=order.existing_webserver),
        hostname=hostname,
        ips=ips,
        skip_dial=invocation.switch("skipdial"),
    )


def _surroundings(invocation: Invocation, reactor: Any) -> Surroundings:
    from moxtw.admin import rdap
    from moxtw.admin.check import probe
    from moxtw.admin.survey import Surroundings
    from moxtw.net import interfaces
    from moxtw.net.tlsclient import Roots
    from moxtw.queue.hookcall import make_client

    resolver = make_resolver(invocation, reactor)
    client = make_client(resolver, reactor, Roots())
    return Surroundings(
        resolver=resolver,
        clock=reactor,
        addresses=interfaces.addresses(),
        system_name=socket.gethostname(),
        dial=lambda ip, port: probe.connect(reactor, ip, port),
        listen_problem=listen_problem,
        registration=lambda domain: rdap.registration(client, domain, reactor),
    )


_PROBLEMS: Final = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
}


def listen_problem(ip: str, port: int) -> str:
    """What keeps us from listening on an address and port; "" for nothing, or if not known."""
    from moxtw.net.listen import bind_socket

    try:
        bind_socket(ip, port).close()
    except OSError as exc:
        # Without root, ports below 1024 cannot be tried.
        return _PROBLEMS.get(exc.errno or 0, "")
    return ""


# -- What is told -----------------------------------------------------------------------------


def _describe(
    order: Order,
    found: Survey,
    secrets: Secrets,
    report: Report,
    static: Static,
    dynamic: Dynamic,
    records: list[str],
) -> None:
    if found.warnings:
        report.write(f"\n{plural(found.warnings, 'check')} with warnings, see above.\n")
    report.write(f"\nWritten: {order.config}, domains.conf and keys beside it, {order.unit}.\n")

    report.heading("Passwords")
    report.write(f"Account  {order.address}, password {secrets.account_password}\n")
    report.write(f"Admin    password {secrets.admin_password}\n\n")
    report.paragraph(
        f"All of this is kept in {order.log}, which only its owner may read. Remove it when you "
        "have stored the passwords."
    )

    report.heading("Mail programs")
    report.write(client_settings(static, dynamic, order.address.domain))

    report.heading(f"DNS records for {order.address.domain}")
    report.paragraph(
        "Add these where the DNS of the domain is served. Records of the hostname itself, with "
        f"the addresses of this machine, are not among them: {found.hostname} needs them too."
    )
    report.write("\n" + "\n".join(records) + "\n")
    if order.existing_webserver:
        _tell_of_web_server(order, found, report)
    _next_steps(order, found, report)


def _tell_of_web_server(order: Order, found: Survey, report: Report) -> None:
    domain = order.address.domain.ascii
    report.heading("Your web server")
    report.paragraph(
        f"It keeps ports 80 and 443. Have it get certificates for {found.hostname}, mail.{domain}, "
        f"autoconfig.{domain} and mta-sts.{domain}, and write their files to mox.conf in place of "
        'those under "path/to": moxtw does not start without them. Restart moxtw when they are '
        "renewed."
    )
    report.write("\n")
    report.paragraph(
        f"It has to pass requests for https://autoconfig.{domain}/ and https://mta-sts.{domain}/ "
        "on to http://127.0.0.1:81, with the Host of the request, and with the address of the "
        "client in X-Forwarded-For. The account, admin, webmail and webapi pages are at "
        "http://127.0.0.1:1080; if you pass requests on to them, also set X-Forwarded-Proto, and "
        "keep /admin/ to yourself."
    )


def _command(order: Order, *words: str) -> str:
    """A command line of this program."""
    option = [] if _is_default(order.config) else ["-config", str(order.config)]
    return shlex.join([*program(), *option, *words])


def _is_default(config: Path) -> bool:
    return config == Path(DEFAULT_CONFIG).absolute()


def _next_steps(order: Order, found: Survey, report: Report) -> None:
    unit = order.unit.name
    port = 1080 if order.existing_webserver else 80
    number = 1
    report.heading("What to do next")

    def step(text: str, *commands: str) -> None:
        nonlocal number
        report.step(number, text, *commands)
        number += 1

    step(
        f"Look through {order.config}: the hostname {found.hostname} and the addresses have to be "
        "right.",
    )
    if not _user_exists(order.user):
        step(
            f"Make the user {order.user}, who the server becomes once its ports are open.",
            shlex.join(["useradd", "--system", "--user-group", order.user]),
        )
    step(
        "Start the server as root, with systemd:",
        shlex.join(["install", "-m", "644", str(order.unit), f"/etc/systemd/system/{unit}"]),
        "systemctl daemon-reload",
        f"systemctl enable --now {unit}",
        f"journalctl -fu {unit}",
    )
    step("Or in a terminal, to try it:", _command(order, "serve"))
    if not order.existing_webserver:
        step(_CERTIFICATES)
    step(
        "Add the DNS records above, those that let mail come here last: MX and _mta-sts. Then see "
        "whether all fits:",
        _command(order, "config", "dnscheck", order.address.domain.name),
    )
    step(
        "See the pages of the admin, /admin/, and of the account, /, at http://localhost:8080 "
        "through a tunnel from your own machine:",
        f"ssh -L 8080:localhost:{port} root@{found.hostname.ascii}",
    )
    report.paragraph(
        "Mail of a new server is looked at with suspicion. Write to people who know you, and ask "
        "them to mark it as no junk; send no masses in the first weeks; and see that reverse "
        "names, SPF, DKIM and DMARC are right."
    )


def _user_exists(user: str) -> bool:
    if user.isdigit():
        return True
    with contextlib.suppress(KeyError):
        pwd.getpwnam(user)
        return True
    return False
