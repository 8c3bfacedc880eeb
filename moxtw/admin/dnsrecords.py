"""The DNS records that a domain and its mail host should have, as lines of a zone file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from moxtw.admin import hostkeys, ownips
from moxtw.admin.context import AdminContext, Caller, OperationError, log
from moxtw.admin.domains import get
from moxtw.authn.dkimkey import public_record
from moxtw.config.dynamic import ConfigDomain, Selector
from moxtw.config.static import Static
from moxtw.dns.resolver import DNSError, NotFound, Resolver
from moxtw.mail.address import Address, format_localpart
from moxtw.mail.domain import Domain

TTL: Final = 300

_PIECE: Final = 100
"""Characters of one string of a TXT record: 255 is the limit, this is how much fits on a line."""

_MAILTO_SAFE: Final = "!$&'*+-./=?^_`{|}~"


def txt_strings(text: str) -> str:
    """Text as a TXT record has it in a zone file: quoted, in pieces if it is long.

    Texts of records hold neither quotes nor backslashes.
    """
    if len(text) <= _PIECE:
        return f'"{text}"'
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    lines = "".join(f'\t\t"{piece}"\n' for piece in pieces)
    return f"(\n{lines}\t)"


def mailto(localpart: str, domain: Domain) -> str:
    """The URI of an address (RFC 6068 2), as records for reports have it."""
    # "!" sets a size off in DMARC records, "," and ";" end a URI in all of them.
    local = quote(format_localpart(localpart), safe=_MAILTO_SAFE.replace("!", ""))
    return f"mailto:{local}@{domain.ascii}"


def dkim_text(static: Static, selector: Selector) -> str:
    """The text of a selector's record. Reads the key if loading did not.

    Raises OSError, ValueError, TypeError.
    """
    key: object = selector.private_key
    if key is None:
        path = static.directory / selector.private_key_file
        key = load_pem_private_key(path.read_bytes(), None)
    return public_record(key)


def spf_text(static: Static) -> str:
    """The text of a domain's SPF record."""
    terms = [f"ip{6 if ':' in ip else 4}:{ip}" for ip in ownips.smtp_ips(static)]
    return " ".join(("v=spf1", *terms, "mx", "~all"))


def dmarc_text(domain: ConfigDomain) -> str:
    """The text of a domain's DMARC record."""
    text = "v=DMARC1;p=reject"
    if domain.dmarc is not None:
        text += f";rua={mailto(domain.dmarc.parsed_localpart, domain.dmarc.dns_domain)}!10m"
    return text


def tlsrpt_text(address: Address) -> str:
    """The text of a TLSRPT record."""
    return f"v=TLSRPTv1; rua={mailto(address.localpart, address.domain)}"


def host_tlsrpt_address(static: Static) -> Address | None:
    """Where reports about TLS with the mail host go."""
    if not static.host_tlsrpt.parsed_localpart:
        return None
    return Address(static.host_tlsrpt.parsed_localpart, static.dns_hostname)


def domain_tlsrpt_address(domain: ConfigDomain) -> Address | None:
    """Where reports about TLS with a domain go."""
    if domain.tlsrpt is None:
        return None
    return Address(domain.tlsrpt.parsed_localpart, domain.tlsrpt.dns_domain)


def client_settings_host(static: Static, domain: ConfigDomain) -> Domain:
    """The host that mail clients are told to use."""
    settings = domain.client_settings_dns_domain
    return static.dns_hostname if settings.is_zero else settings


class _Zone:
    """Collects lines, with records in columns."""

    def __init__(self, domain: Domain) -> None:
        self.lines: list[str] = []
        # Room for the longest of the names that all have: _autodiscover._tcp.
        self._width = len("_autodiscover._tcp.") + len(domain.ascii) + 1

    def comment(self, *texts: str) -> None:
        self.lines += [f"; {text}" if text else ";" for text in texts]

    def gap(self) -> None:
        self.lines.append("")

    def add(self, name: str, rtype: str, value: str, *, off: bool = False) -> None:
        """A record of an absolute name; commented out if `off`."""
        head = f";; {name}." if off else f"{name}."
        self.lines.append(f"{head:<{self._width}} {rtype} {value}")


def zone_lines(
    static: Static,
    domain: ConfigDomain,
    *,
    dnssec: bool,
    issuer: str = "",
    account_uri: str = "",
) -> list[str]:
    """The records for a domain as lines of a zone file, with comments.

    dnssec: whether the domain's zone is signed. issuer: the name of the certificate authority for
    CAA records (RFC 8659 4.2), account_uri: our account there (RFC 8657 3). A record may span
    lines within its string. Raises OSError, ValueError, TypeError for keys.
    """
    zone = _Zone(domain.domain)
    zone.comment(
        "Time to live: 5 minutes. Raise it when all works.",
    )
    zone.lines.append(f"$TTL {TTL}")
    zone.gap()
    _host(zone, static, domain, dnssec)
    _mail(zone, static, domain)
    _policies(zone, static, domain)
    _clients(zone, static, domain)
    if issuer:
        _caa(zone, static, domain, issuer, account_uri)
    return zone.lines


def _host(zone: _Zone, static: Static, domain: ConfigDomain, dnssec: bool) -> None:
    host = static.dns_hostname
    public = static.listeners.get("public")
    tlsa = hostkeys.tlsa_records(static, public) if public is not None else []
    if tlsa:
        zone.comment(
            "DANE: servers that deliver mail to the host verify that its TLS certificate is for",
            "one of these public keys: DANE-EE (3), SPKI (1), SHA2-256 (1). Who issued the",
            "certificate and how long it is valid does not matter to them.",
            "The records are about the host: once is enough, for all its domains.",
        )
        if not dnssec:
            zone.comment(
                "",
                "WARNING: the zone does not seem to be signed with DNSSEC, without which these",
                "records have no effect. Sign it first, then add them.",
            )
        for each in tlsa:
            zone.add(f"_25._tcp.{host.ascii}", "TLSA", each, off=not dnssec)
        zone.gap()
    if host == domain.domain:
        return
    zone.comment(
        "The host sends mail of its own, such as notifications about mail that could not be",
        "delivered. Once is enough, for all domains.",
    )
    zone.add(host.ascii, "TXT", '"v=spf1 a -all"')
    zone.gap()
    address = host_tlsrpt_address(static)
    if address is not None:
        zone.comment(
            "Ask for reports about TLS connections to the host (DANE). Once is enough.",
        )
        zone.add(f"_smtp._tls.{host.ascii}", "TXT", txt_strings(tlsrpt_text(address)))
        zone.gap()


def _mail(zone: _Zone, static: Static, domain: ConfigDomain) -> None:
    name = domain.domain.ascii
    zone.comment("Mail for the domain goes to this host.")
    zone.add(name, "MX", f"10 {static.dns_hostname.ascii}.")
    zone.gap()
    selectors = sorted(domain.dkim.selectors.items())
    if selectors:
        zone.comment(
            "Keys by which others verify signatures of our mail (DKIM). A selector that does not",
            "sign yet is there to take over: that is a change of the configuration only.",
        )
    for selector, config in selectors:
        text = dkim_text(static, config)
        if len(text) > _PIECE:
            zone.comment(
                "One long record, in pieces for zone files. In a web form enter the pieces as one",
                "text, without parentheses, quotes and gaps.",
            )
        zone.add(f"{_ascii(config, selector)}._domainkey.{name}", "TXT", txt_strings(text))
    if selectors:
        zone.gap()
    zone.comment(
        "The hosts that may send for the domain (SPF). ~all (softfail) instead of -all, as some",
        "receivers refuse at -all before they look at DKIM and DMARC.",
    )
    zone.add(name, "TXT", txt_strings(spf_text(static)))
    zone.gap()
    zone.comment(
        "Mail with the domain in From that has neither a signature of it nor comes from its",
        "hosts is to be refused, and reports about it are welcome (DMARC). If you write to",
        "mailing lists that break signatures and keep From, take p=none.",
    )
    zone.add(f"_dmarc.{name}", "TXT", txt_strings(dmarc_text(domain)))
    zone.gap()


def _ascii(config: Selector, selector: str) -> str:
    return config.dns_name.ascii or selector


def _policies(zone: _Zone, static: Static, domain: ConfigDomain) -> None:
    name, host = domain.domain.ascii, static.dns_hostname.ascii
    if domain.mtasts is not None:
        zone.comment(
            "Servers that deliver to the domain must use TLS, with a certificate for the host of",
            "an authority that they trust (MTA-STS). Change the id with each change of the policy.",
        )
        zone.add(f"mta-sts.{name}", "CNAME", f"{host}.")
        zone.add(f"_mta-sts.{name}", "TXT", f'"v=STSv1; id={domain.mtasts.policy_id}"')
    else:
        zone.comment(
            "No MTA-STS: it is not configured for the domain, or no listener serves policies.",
        )
    zone.gap()
    address = domain_tlsrpt_address(domain)
    if address is not None:
        zone.comment("Ask for reports about TLS connections to hosts of the domain.")
        zone.add(f"_smtp._tls.{name}", "TXT", txt_strings(tlsrpt_text(address)))
        zone.gap()


def _clients(zone: _Zone, static: Static, domain: ConfigDomain) -> None:
    name, host = domain.domain.ascii, static.dns_hostname.ascii
    settings = client_settings_host(static, domain).ascii
    if settings != host:
        zone.comment(
            "The host that mail clients are set to. As a name of the domain it can be moved to",
            "another server later without a change in any client.",
        )
        zone.add(settings, "CNAME", f"{host}.")
        zone.gap()
    zone.comment(
        "Settings that clients find by themselves: Thunderbird and others, and Microsoft's.",
    )
    zone.add(f"autoconfig.{name}", "CNAME", f"{host}.")
    zone.add(f"_autodiscover._tcp.{name}", "SRV", f"0 1 443 {host}.")
    zone.gap()
    zone.comment("Where clients find IMAP and submission with TLS (RFC 6186, RFC 8314).")
    zone.add(f"_imaps._tcp.{name}", "SRV", f"0 1 993 {settings}.")
    zone.add(f"_submissions._tcp.{name}", "SRV", f"0 1 465 {settings}.")
    zone.gap()
    zone.comment("These say that there is no POP3 and nothing without TLS. They are optional.")
    for service in ("_imap", "_submission", "_pop3", "_pop3s"):
        zone.add(f"{service}._tcp.{name}", "SRV", "0 0 0 .")


def _caa(zone: _Zone, static: Static, domain: ConfigDomain, issuer: str, account_uri: str) -> None:
    name, host = domain.domain.ascii, static.dns_hostname.ascii
    settings = client_settings_host(static, domain).ascii
    zone.gap()
    zone.comment(
        "Optional: no other authority may issue certificates for the domain (CAA, RFC 8659).",
    )
    zone.add(name, "CAA", f'0 issue "{issuer}"')
    zone.comment("")
    if not account_uri:
        zone.comment(
            "When the server runs and has an ACME account, records that allow certificates to",
            "this account only will be suggested here.",
        )
        return
    value = (
        f'0 issue "{issuer}; accounturi={account_uri}; '
        'validationmethods=tls-alpn-01,http-01"'
    )
    zone.comment("Stricter: only to the account and with the methods of this server (RFC 8657).")
    zone.add(name, "CAA", value, off=True)
    zone.comment("", "Or so for the names only that are for mail.")
    names = dict.fromkeys((f"autoconfig.{name}", f"mta-sts.{name}"))
    if settings != host:
        names[settings] = None
    for each in names:
        zone.add(each, "CAA", value, off=True)
    if host.endswith("." + name):
        zone.comment("", "And for the mail host.")
        zone.add(host, "CAA", value, off=True)


def records_only(lines: Sequence[str]) -> Iterator[str]:
    """Of lines of a zone file, the records."""
    for line in lines:
        if line and not line.startswith((";", "$")):
            yield line


# -- The operation ----------------------------------------------------------------------------


def issuer_of(static: Static) -> tuple[str, str]:
    """Name of the certificate authority of listener "public", and our account there.

    Empty where not known. Reads a file.
    """
    public = static.listeners.get("public")
    if public is None or public.tls is None or not public.tls.acme:
        return "", ""
    acme = static.acme.get(public.tls.acme)
    if acme is None or not acme.issuer_domain_name:
        return "", ""
    return acme.issuer_domain_name, account_uri(static, public.tls.acme)


def account_uri(static: Static, provider: str) -> str:
    """The URI of our account with an ACME provider, empty if there is none yet."""
    path = static.data_path / "acme" / provider / "account.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ""
    uri = found.get("uri") if isinstance(found, dict) else None
    # What does not fit into a CAA record's quotes is no account of ours.
    if not isinstance(uri, str) or not uri.isprintable() or set(uri) & set(' ";\\'):
        return ""
    return uri


async def is_signed(resolver: Resolver, domain: Domain) -> bool:
    """Whether DNSSEC vouches for a domain. Raises DNSError."""
    try:
        answer = await resolver.lookup(domain.ascii + ".", "TXT")
    except NotFound as exc:
        return exc.authentic
    return answer.authentic


async def domain_records(ctx: AdminContext, caller: Caller, name: str) -> list[str]:
    """The records that a configured domain should have, as lines of a zone file."""
    domain, static = get(ctx, name), ctx.config.static
    dnssec = False
    if ctx.resolver is not None:
        try:
            dnssec = await is_signed(ctx.resolver, domain.domain)
        except DNSError as exc:
            log.info("looking up whether a zone is signed", cid=caller.cid, err=exc)

    def work() -> list[str]:
        issuer, account = issuer_of(static)
        return zone_lines(
            static, domain, dnssec=dnssec, issuer=issuer, account_uri=account
        )

    try:
        return list(await ctx.store.run(work))
    except (OSError, ValueError, TypeError) as exc:
        log.error("making dns records", domain=domain.domain, err=exc)
        raise OperationError("server", f"making DNS records: {exc}") from exc
