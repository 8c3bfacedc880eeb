"""Whole configurations for new installations: quickstart and localserve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from moxtw.config.defaults import (
    TLSRPT_LOCALPART,
    default_account,
    default_domain,
    default_junk_filter,
    default_junk_flags,
)
from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    DKIM,
    Account,
    ConfigDomain,
    Destination,
    Dynamic,
    Selector,
    WebHandler,
    WebStatic,
)
from moxtw.config.static import (
    ACME,
    CA,
    TLS,
    HostTLSRPT,
    KeyCert,
    Listener,
    ListenerIMAP,
    ListenerIMAPS,
    ListenerMonitor,
    ListenerPolicy,
    ListenerSMTP,
    ListenerSubmission,
    ListenerSubmissions,
    ListenerWebserver,
    Postmaster,
    Static,
    StaticTLS,
    WebService,
)
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

MONITOR_DNSBLS: Final = ("sbl.spamhaus.org", "bl.spamcop.net")
"""Block lists that a new server looks itself up in."""

LOCALSERVE_LISTENER: Final = "local"
LOCALSERVE_ACCOUNT: Final = "mox"
LOCALSERVE_SELECTOR: Final = "localserve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quickstart:
    """What quickstart found out or was told.

    `nat_ips` are the public addresses if `public_ips` are behind NAT, `ips_nated` says that
    those are not known. `existing_webserver`: the ports 80 and 443 belong to another program.
    `selectors` are DKIM selectors with the files of their keys, of which `sign` are used.
    `resolvers` are asked instead of those of the system.
    """

    address: Address
    account: str
    hostname: Domain
    user: str
    public_ips: Sequence[str]
    private_ips: Sequence[str] = ("127.0.0.1", "::1")
    nat_ips: Sequence[str] = ()
    host_private_key_files: Sequence[str] = ()
    selectors: Sequence[tuple[str, str]] = ()
    sign: Sequence[str] = ()
    policy_id: str = ""
    existing_webserver: bool = False
    ips_nated: bool = False
    data_dir: str = "../data"
    resolvers: Sequence[str] = ()


def quickstart_ports(*, existing_webserver: bool) -> list[tuple[bool, int]]:
    """What the listeners of quickstart need: whether on loopback addresses, and the port."""
    public = (25, 465, 993) if existing_webserver else (25, 465, 993, 80, 443)
    internal = (1080, 81, 8010) if existing_webserver else (80, 8010)
    return [*((False, port) for port in public), *((True, port) for port in internal)]


def quickstart_static(q: Quickstart) -> Static:
    """The mox.conf of quickstart."""
    hostname = q.hostname.name
    existing = q.existing_webserver
    web = WebService(enabled=True, port=1080 if existing else 0, forwarded=existing)
    behind = ListenerPolicy(enabled=True, port=81, non_tls=True, forwarded=True)
    front = ListenerPolicy(enabled=True)
    webserver = ListenerWebserver(enabled=True)
    internal = Listener(
        ips=tuple(q.private_ips),
        hostname="localhost",
        account_http=web,
        admin_http=web,
        webmail_http=web,
        webapi_http=web,
        metrics_http=ListenerMonitor(enabled=True),
        autoconfig_https=behind if existing else ListenerPolicy(),
        mtasts_https=behind if existing else ListenerPolicy(),
        webserver_http=ListenerWebserver(enabled=True, port=81)
        if existing
        else ListenerWebserver(),
    )
    if existing:
        names = (hostname, f"mta-sts.{q.address.domain}", f"autoconfig.{q.address.domain}")
        tls = TLS(
            key_certs=tuple(
                KeyCert(
                    cert_file=f"path/to/{name}-chain.crt.pem", key_file=f"path/to/{name}.key.pem"
                )
                for name in names
            )
        )
    else:
        tls = TLS(acme="letsencrypt", host_private_key_files=tuple(q.host_private_key_files))
    public = Listener(
        ips=tuple(q.public_ips),
        nat_ips=tuple(q.nat_ips),
        ips_nated=q.ips_nated,
        tls=tls,
        smtp=ListenerSMTP(enabled=True),
        submissions=ListenerSubmissions(enabled=True),
        imaps=ListenerIMAPS(enabled=True),
    )
    if not existing:
        public = replace(
            public,
            autoconfig_https=front,
            mtasts_https=front,
            webserver_http=webserver,
            webserver_https=webserver,
        )
    letsencrypt = ACME(
        directory_url="https://acme-v02.api.letsencrypt.org/directory",
        contact_email=q.address.pack(),
        issuer_domain_name="letsencrypt.org",
    )
    return Static(
        data_dir=q.data_dir,
        log_level="debug",
        user=q.user,
        hostname=hostname,
        resolvers=tuple(q.resolvers),
        acme={} if existing else {"letsencrypt": letsencrypt},
        admin_password_file="adminpasswd",
        listeners={"internal": internal, "public": public},
        postmaster=Postmaster(account=q.account, mailbox="Postmaster"),
        host_tlsrpt=HostTLSRPT(account=q.account, mailbox="TLSRPT", localpart=TLSRPT_LOCALPART),
    )


def quickstart_dynamic(q: Quickstart) -> Dynamic:
    """The domains.conf of quickstart."""
    dkim = DKIM(
        selectors={
            name: Selector(expiration="72h", private_key_file=file) for name, file in q.selectors
        },
        sign=tuple(q.sign),
    )
    domain = default_domain(
        q.address.domain, q.hostname, account=q.account, dkim=dkim, policy_id=q.policy_id
    )
    return Dynamic(
        domains={q.address.domain.name: domain},
        accounts={q.account: default_account(q.address)},
        monitor_dnsbls=MONITOR_DNSBLS,
    )


def localserve_static(ips: Iterable[str] = ("127.0.0.1", "::1"), user: str = "") -> Static:
    """The mox.conf of localserve; certificate and key are localhost.crt and localhost.key."""

    def web(port: int, path: str = "") -> WebService:
        return WebService(enabled=True, port=port, path=path)

    return Static(
        data_dir=".",
        log_level="traceauth",
        user=user,
        hostname="localhost",
        pedantic=True,
        tls=StaticTLS(ca=CA(additional_to_system=True, cert_files=("localhost.crt",))),
        admin_password_file="adminpasswd",
        listeners={
            LOCALSERVE_LISTENER: Listener(
                ips=tuple(ips),
                tls=TLS(key_certs=(KeyCert(cert_file="localhost.crt", key_file="localhost.key"),)),
                smtp=ListenerSMTP(enabled=True, port=1025),
                submission=ListenerSubmission(enabled=True, port=1587, no_require_starttls=True),
                submissions=ListenerSubmissions(enabled=True, port=1465),
                imap=ListenerIMAP(enabled=True, port=1143, no_require_starttls=True),
                imaps=ListenerIMAPS(enabled=True, port=1993),
                account_http=web(1080, "/account/"),
                account_https=web(1443, "/account/"),
                admin_http=web(1080),
                admin_https=web(1443),
                webmail_http=web(1080, "/webmail/"),
                webmail_https=web(1443, "/webmail/"),
                webapi_http=web(1080, "/webapi/"),
                webapi_https=web(1443, "/webapi/"),
                metrics_http=ListenerMonitor(enabled=True, port=1081),
                webserver_http=ListenerWebserver(enabled=True, port=1080),
                webserver_https=ListenerWebserver(enabled=True, port=1443),
            )
        },
        postmaster=Postmaster(account=LOCALSERVE_ACCOUNT, mailbox="Inbox"),
    )


def localserve_dynamic() -> Dynamic:
    """The domains.conf of localserve."""
    dkim = DKIM(
        selectors={
            LOCALSERVE_SELECTOR: Selector(
                expiration="72h",
                private_key_file=f"dkim.{LOCALSERVE_SELECTOR}.privatekey.pkcs8.pem",
            )
        },
        sign=(LOCALSERVE_SELECTOR,),
    )
    kept = Duration.of(hours=72)
    account = Account(
        keep_retired_message_period=kept,
        keep_retired_webhook_period=kept,
        destinations={"mox@localhost": Destination()},
        rejects_mailbox="Rejects",
        automatic_junk_flags=default_junk_flags(),
        junk_filter=default_junk_filter(),
        no_first_time_sender_delay=True,
    )
    workdir = WebHandler(
        log_name="workdir",
        domain="localhost",
        path_regexp="^/workdir/",
        dont_redirect_plain_http=True,
        web_static=WebStatic(strip_prefix="/workdir/", root=".", list_files=True),
    )
    return Dynamic(
        domains={"localhost": ConfigDomain(localpart_catchall_separator="+", dkim=dkim)},
        accounts={LOCALSERVE_ACCOUNT: account},
        web_handlers=(workdir,),
    )
