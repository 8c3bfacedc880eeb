"""Checking domains.conf, and filling in what follows from it.

First each section by itself, then (in `moxtw.config.index`) what refers to something else.
Sections that an edit left alone are not checked by themselves again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from moxtw.config.check import Report, Scope, account_name_problem
from moxtw.config.codec import set_resolved, with_resolved
from moxtw.config.duration import DurationError, parse_duration
from moxtw.config.dynamic import (
    DEFAULT_DKIM_HEADERS,
    DEFAULT_MAX_FIRST_TIME,
    DEFAULT_MAX_OUTGOING,
    DKIM,
    DMARC,
    MTASTS,
    TLSRPT,
    Account,
    ConfigDomain,
    Destination,
    Dynamic,
    IncomingWebhook,
    JunkFilter,
    OutgoingWebhook,
    Route,
    Ruleset,
    Selector,
    WebHandler,
    WebRedirect,
)
from moxtw.config.index import build_index
from moxtw.config.regexp import replacement_template
from moxtw.config.static import Static
from moxtw.mail.domain import Domain, DomainError, parse_domain

WEBHOOK_EVENTS: Final = (
    "delivered",
    "suppressed",
    "delayed",
    "failed",
    "relayed",
    "expanded",
    "canceled",
    "unrecognized",
)
"""What an outgoing webhook can be told about."""

MAX_FORWARD: Final = 10
"""Addresses that an address passes messages on to."""

MAX_WEBHOOK_URL: Final = 2000

WEB_SERVICES: Final = ("admin", "account", "webmail", "webapi")
"""What a WebInternal handler can serve."""

MIN_RSA_BITS: Final = 1024
"""RFC 8301 3.2: shorter keys are of no use to verifiers."""

MAX_MTASTS_AGE: Final = 31557600
"""Seconds, RFC 8461 3.2."""

_POLICY_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,100}")
_CAPABILITY: Final = re.compile(r"[A-Za-z0-9=+./&_-]{1,100}")
_SEPARATOR: Final = re.compile(r"[^@\s\"\\\x00-\x1f\x7f]{1,16}")
_SMTP_ERROR: Final = re.compile(r"(421|550)(?: (.*))?", re.DOTALL)
_SMTP_ERRORS: Final = {
    "421": (451, "4.3.0", "mailbox is temporarily unavailable"),
    "550": (550, "5.1.1", "no such user"),
}


def check_dynamic(
    dynamic: Dynamic, static: Static, report: Report, *, check_files: bool
) -> Dynamic:
    """Check all of domains.conf against mox.conf; return it with the resolved fields set.

    check_files: read DKIM keys, else they are left unset.
    """
    at = Scope(report)
    domains: dict[str, ConfigDomain] = {}
    for name, domain in dynamic.domains.items():
        domains[name] = _check_domain(name, domain, static, at.at("Domains", name), check_files)
    for name, account in dynamic.accounts.items():
        scope = at.at("Accounts", name)
        problem = account_name_problem(name)
        if problem:
            scope.error(f"bad account name {name[:100]!r}: {problem}")
        if account.checked is not static:
            errors = len(report.errors)
            _check_account(account, static, scope)
            if len(report.errors) == errors:
                set_resolved(account, checked=static)
    redirects: dict[str, Domain] = {}
    for source, target in dynamic.web_domain_redirects.items():
        scope = at.at("WebDomainRedirects", source)
        domain_from, domain_to = scope.domain(source), scope.domain(target)
        if domain_from == domain_to and not domain_from.is_zero:
            scope.error("redirects to itself")
        if domain_from.ascii in redirects:
            scope.error(f"duplicate redirect for {domain_from}")
        redirects[domain_from.ascii] = domain_to
    handlers = tuple(
        _check_handler(number, handler, static, at.at("WebHandlers", number))
        for number, handler in enumerate(dynamic.web_handlers)
    )
    _check_routes(dynamic.routes, static, at.at("Routes"))
    zones = tuple(
        at.at("MonitorDNSBLs", n).domain(zone) for n, zone in enumerate(dynamic.monitor_dnsbls)
    )
    dynamic = with_resolved(
        build_index(replace(dynamic, web_handlers=handlers), domains, static, report),
        monitor_dnsbl_zones=zones,
        web_dns_domain_redirects=redirects,
    )
    set_resolved(dynamic, warnings=tuple(text for _, text in report.warnings))
    return dynamic


def _check_domain(
    name: str, domain: ConfigDomain, static: Static, at: Scope, check_files: bool
) -> ConfigDomain:
    try:
        dns_domain = parse_domain(name)
    except DomainError as exc:
        at.error(f"bad domain {name[:100]!r}: {exc}")
        dns_domain = Domain()
    if not dns_domain.is_zero and dns_domain.name != name:
        at.error(f"must be written as {dns_domain.name!r}: lower-case, Unicode")
    if domain.checked is static and domain.domain == dns_domain:
        return domain
    errors = len(at.report.errors)
    separators = domain.localpart_catchall_separators
    if domain.localpart_catchall_separator:
        if separators:
            at.at("LocalpartCatchallSeparators").error(
                "not together with LocalpartCatchallSeparator"
            )
        separators = (domain.localpart_catchall_separator,)
    for index, separator in enumerate(separators):
        scope = at.at(
            *(
                ("LocalpartCatchallSeparator",)
                if domain.localpart_catchall_separator
                else ("LocalpartCatchallSeparators", index)
            )
        )
        if not _SEPARATOR.fullmatch(separator):
            scope.error(f"bad separator {separator[:100]!r}")
        elif separator in separators[:index]:
            scope.error(f"duplicate separator {separator!r}")
        elif not domain.localpart_case_sensitive and separator != separator.lower():
            scope.error(f"bad separator {separator!r}: localparts are compared in lower case")
    client_settings = at.at("ClientSettingsDomain").optional_domain(domain.client_settings_domain)
    _check_dkim(domain.dkim, static, at.at("DKIM"), check_files)
    for field, reports in (("DMARC", domain.dmarc), ("TLSRPT", domain.tlsrpt)):
        if reports is not None:
            _check_reports(reports, dns_domain, at.at(field))
    if domain.mtasts is not None:
        _check_mtasts(domain.mtasts, static, at.at("MTASTS"))
    _check_routes(domain.routes, static, at.at("Routes"))
    domain = with_resolved(
        domain,
        domain=dns_domain,
        effective_separators=separators,
        client_settings_dns_domain=client_settings,
    )
    if len(at.report.errors) == errors:
        set_resolved(domain, checked=static)
    return domain


def _check_dkim(dkim: DKIM, static: Static, at: Scope, check_files: bool) -> None:
    for name, selector in dkim.selectors.items():
        _check_selector(name, selector, static, at.at("Selectors", name), check_files)
    sign = []
    for index, name in enumerate(dkim.sign):
        scope = at.at("Sign", index)
        if name not in dkim.selectors:
            scope.error(f"no selector {name[:100]!r} is configured")
        elif name in dkim.sign[:index]:
            scope.error(f"duplicate selector {name!r}")
        else:
            sign.append((name, dkim.selectors[name]))
    set_resolved(dkim, sign_selectors=tuple(sign))


def _check_selector(
    name: str, selector: Selector, static: Static, at: Scope, check_files: bool
) -> None:
    try:
        # RFC 6376 3.1: a selector is one or more labels; underscores are in use.
        dns_name = parse_domain(name, False)
    except DomainError as exc:
        at.error(f"bad selector {name[:100]!r}: {exc}")
        dns_name = Domain()
    if selector.hash not in ("", "sha256", "sha1"):
        at.at("Hash").error(f"unknown hash {selector.hash[:100]!r}, need sha256 or sha1")
    elif selector.hash == "sha1":
        at.at("Hash").warn("signatures with sha1 are refused by most receivers (RFC 8301)")
    seen: set[str] = set()
    for index, field in enumerate(selector.headers):
        scope = at.at("Headers", index)
        if not _FIELD_NAME.fullmatch(field):
            scope.error(f"bad header field name {field[:100]!r}")
        elif field.lower() in seen:
            scope.error(f"duplicate header field {field}")
        seen.add(field.lower())
    if selector.headers and "from" not in seen:
        at.at("Headers").error("From must be signed (RFC 6376 5.4)")
    expiration = 0
    if selector.expiration:
        try:
            expiration = int(parse_duration(selector.expiration.strip()).seconds)
            if expiration <= 0:
                raise DurationError("must be at least a second")
        except DurationError as exc:
            at.at("Expiration").error(str(exc))
    path = static.resolve_path(selector.private_key_file)
    set_resolved(
        selector,
        dns_name=dns_name,
        effective_hash=selector.hash or "sha256",
        effective_headers=selector.headers or DEFAULT_DKIM_HEADERS,
        expiration_seconds=expiration,
        private_key_path=path,
    )
    scope = at.at("PrivateKeyFile")
    if not selector.private_key_file:
        scope.error("must not be empty")
        return
    if not check_files:
        return
    key = scope.private_key(scope.file(path), path)
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            scope.error(f"RSA key of {key.key_size} bits, need {MIN_RSA_BITS} at least")
            return
        if key.key_size < 2048:
            scope.warn(f"RSA key of {key.key_size} bits, 2048 are recommended")
        set_resolved(selector, private_key=key, algorithm=f"rsa-{key.key_size}")
    elif isinstance(key, Ed25519PrivateKey):
        if selector.hash == "sha1":
            at.at("Hash").error("ed25519 needs sha256 (RFC 8463)")
        set_resolved(selector, private_key=key, algorithm="ed25519")
    elif key is not None:
        scope.error(f"need an RSA or ed25519 key in {path}")


def _check_reports(reports: DMARC | TLSRPT, domain: Domain, at: Scope) -> None:
    set_resolved(
        reports,
        parsed_localpart=at.at("Localpart").report_localpart(reports.localpart),
    )
    # Where the address is in the domain itself, that may differ for an object that is used in
    # two domains, so that the index works out the domain again.
    set_resolved(
        reports, dns_domain=at.at("Domain").domain(reports.domain) if reports.domain else domain
    )
    if not reports.account:
        at.at("Account").error("must not be empty")
    at.at("Mailbox").mailbox(reports.mailbox)


def _check_mtasts(mtasts: MTASTS, static: Static, at: Scope) -> None:
    if not _POLICY_ID.fullmatch(mtasts.policy_id):
        at.at("PolicyID").error("need 1 to 32 letters and digits")
    if mtasts.mode not in ("enforce", "testing", "none"):
        at.at("Mode").error(f"unknown mode {mtasts.mode[:100]!r}, need enforce, testing or none")
    seconds = mtasts.max_age.seconds
    if not 1 <= seconds <= MAX_MTASTS_AGE:
        at.at("MaxAge").error(f"must be between 1s and {MAX_MTASTS_AGE // 3600}h (RFC 8461 3.2)")
    hosts = []
    for index, text in enumerate(mtasts.mx):
        wildcard = text.startswith("*.")
        hosts.append((wildcard, at.at("MX", index).domain(text[2:] if wildcard else text)))
    if not hosts:
        hosts = [(False, static.dns_hostname)]
    set_resolved(mtasts, effective_mx=tuple(hosts))


def _check_routes(routes: tuple[Route, ...], static: Static, at: Scope) -> None:
    for index, route in enumerate(routes):
        scope = at.at(index)
        if route.minimum_attempts < 0:
            scope.at("MinimumAttempts").error("must not be negative")
        if route.transport not in static.transports:
            scope.at("Transport").error(f"no transport {route.transport[:100]!r} is configured")
        set_resolved(
            route,
            from_domain_ascii=_route_domains(route.from_domain, scope.at("FromDomain")),
            to_domain_ascii=_route_domains(route.to_domain, scope.at("ToDomain")),
        )


def _route_domains(texts: tuple[str, ...], at: Scope) -> tuple[str, ...]:
    result = []
    for index, text in enumerate(texts):
        if text == ".":
            result.append(".")
            continue
        dot = "." if text.startswith(".") else ""
        result.append(dot + at.at(index).domain(text.removeprefix(".")).ascii)
    return tuple(result)


def _check_account(account: Account, static: Static, at: Scope) -> None:
    dns_domain = at.at("Domain").optional_domain(account.domain)
    for name, limit in (
        ("KeepRetiredMessagePeriod", account.keep_retired_message_period),
        ("KeepRetiredWebhookPeriod", account.keep_retired_webhook_period),
        ("MaxOutgoingMessagesPerDay", account.max_outgoing_messages_per_day),
        ("MaxFirstTimeRecipientsPerDay", account.max_first_time_recipients_per_day),
    ):
        if limit < 0:
            at.at(name).error("must not be negative")
    if account.subject_pass.period < 0:
        at.at("SubjectPass", "Period").error("must not be negative")
    at.at("LoginDisabled").text(account.login_disabled)
    at.at("FullName").text(account.full_name)
    _check_webhooks(account, at)
    _check_junk(account, at)
    if account.rejects_mailbox:
        at.at("RejectsMailbox").mailbox(account.rejects_mailbox, inbox=False)
    if account.introbox:
        at.at("Introbox").mailbox(account.introbox, inbox=False)
        if account.introbox == account.rejects_mailbox:
            at.at("Introbox").error("must not be the rejects mailbox")
        _check_marks(account, at.at("Introbox"))
    for index, name in enumerate(account.imap_capabilities_disabled):
        if not _CAPABILITY.fullmatch(name):
            at.at("IMAPCapabilitiesDisabled", index).error(f"bad capability {name[:100]!r}")
    for address, destination in account.destinations.items():
        _check_destination(destination, at.at("Destinations", address))
    _check_routes(account.routes, static, at.at("Routes"))
    parsed = [
        at.at("FromIDLoginAddresses", index).address(text)
        for index, text in enumerate(account.from_id_login_addresses)
    ]
    set_resolved(
        account,
        dns_domain=dns_domain,
        parsed_from_id_login_addresses=tuple(a for a in parsed if a is not None),
        effective_max_outgoing=account.max_outgoing_messages_per_day or DEFAULT_MAX_OUTGOING,
        effective_max_first_time=(
            account.max_first_time_recipients_per_day or DEFAULT_MAX_FIRST_TIME
        ),
        disabled_capabilities=frozenset(
            name.upper() for name in account.imap_capabilities_disabled
        ),
    )


def _check_webhooks(account: Account, at: Scope) -> None:
    outgoing = account.outgoing_webhook
    if outgoing is not None:
        scope = at.at("OutgoingWebhook")
        _check_call(outgoing, scope)
        for index, event in enumerate(outgoing.events):
            if event not in WEBHOOK_EVENTS:
                scope.at("Events", index).error(
                    f"unknown event {event[:100]!r}, need one of {', '.join(WEBHOOK_EVENTS)}"
                )
            elif event in outgoing.events[:index]:
                scope.at("Events", index).error(f"duplicate event {event}")
    incoming = account.incoming_webhook
    if incoming is not None:
        _check_call(incoming, at.at("IncomingWebhook"))


def _check_call(hook: OutgoingWebhook | IncomingWebhook, at: Scope) -> None:
    at.at("URL").url(hook.url, "https", "http")
    # Databases bound what they keep in an index.
    if len(hook.url.encode("utf-8", "replace")) > MAX_WEBHOOK_URL:
        at.at("URL").error(f"longer than {MAX_WEBHOOK_URL} bytes")
    at.at("Authorization").text(hook.authorization, 8192)
    at.at("SigningKey").text(hook.signing_key, 1024)


def _check_junk(account: Account, at: Scope) -> None:
    flags = account.automatic_junk_flags
    scope = at.at("AutomaticJunkFlags")
    set_resolved(
        flags,
        junk=scope.at("JunkMailboxRegexp").regexp(flags.junk_mailbox_regexp),
        neutral=scope.at("NeutralMailboxRegexp").regexp(flags.neutral_mailbox_regexp),
        not_junk=scope.at("NotJunkMailboxRegexp").regexp(flags.not_junk_mailbox_regexp),
    )
    if account.junk_filter is not None:
        check_junk_filter(account.junk_filter, at.at("JunkFilter"))


def _check_marks(account: Account, at: Scope) -> None:
    """Warn if messages of strangers get marked by their mere arrival in the introbox."""
    flags = account.automatic_junk_flags
    if not flags.enabled:
        return
    name = account.introbox.lower()
    kinds = (
        ("junk", flags.junk_mailbox_regexp, flags.junk),
        ("neutral", flags.neutral_mailbox_regexp, flags.neutral),
        ("not junk", flags.not_junk_mailbox_regexp, flags.not_junk),
    )
    kind = next((k for k, _, found in kinds if found is not None and found.search(name)), "")
    unset = [k for k, text, _ in kinds if not text]
    if not kind and len(unset) == 1:
        kind = unset[0]
    if kind in ("junk", "not junk"):
        at.warn(
            f"all messages in it are marked as {kind}: NeutralMailboxRegexp should match its name"
        )


def check_junk_filter(junk_filter: JunkFilter, at: Scope) -> None:
    """The parameters of a junk filter."""
    if not 0 <= junk_filter.threshold <= 1:
        at.at("Threshold").error("must be between 0 and 1")
    params = junk_filter.params
    scope = at.at("Params")
    for name, value in (("MaxPower", params.max_power), ("IgnoreWords", params.ignore_words)):
        if not 0 <= value <= 0.5:
            scope.at(name).error("must be between 0 and 0.5")
    for name, number in (("TopWords", params.top_words), ("RareWords", params.rare_words)):
        if not 0 <= number <= 1_000_000:
            scope.at(name).error("must be between 0 and 1000000")
    if not (params.onegrams or params.twograms or params.threegrams):
        scope.warn("looks at no words: none of Onegrams, Twograms, Threegrams is set")


def _check_destination(destination: Destination, at: Scope) -> None:
    if destination.mailbox:
        at.at("Mailbox").mailbox(destination.mailbox)
    at.at("FullName").text(destination.full_name)
    at.at("MessageAuthRequiredSMTPError").text(destination.message_auth_required_smtp_error)
    if destination.smtp_error:
        scope = at.at("SMTPError")
        scope.text(destination.smtp_error)
        match = _SMTP_ERROR.fullmatch(destination.smtp_error)
        if match is None:
            scope.error("need 421 or 550, and optionally a blank and a text")
        else:
            code, secode, text = _SMTP_ERRORS[match[1]]
            set_resolved(
                destination,
                smtp_error_code=code,
                smtp_error_secode=secode,
                smtp_error_text=(match[2] or "").strip() or text,
            )
        if destination.mailbox:
            scope.error("not together with Mailbox")
        if destination.rulesets:
            scope.error("not together with Rulesets")
    if destination.forward_to:
        _check_forward(destination, at.at("ForwardTo"))
    for index, ruleset in enumerate(destination.rulesets):
        _check_ruleset(ruleset, at.at("Rulesets", index))


def _check_forward(destination: Destination, at: Scope) -> None:
    if destination.smtp_error:
        at.error("not together with SMTPError")
    if len(destination.forward_to) > MAX_FORWARD:
        at.error(f"at most {MAX_FORWARD} addresses")
    found = [at.at(n).address(text) for n, text in enumerate(destination.forward_to)]
    set_resolved(destination, forward_addresses=tuple(a for a in found if a is not None))


def _check_ruleset(ruleset: Ruleset, at: Scope) -> None:
    headers = []
    for key, value in ruleset.headers_regexp.items():
        scope = at.at("HeadersRegexp", key)
        if key != key.lower() or value != value.lower():
            scope.error("must be in lower case")
        if not key:
            scope.error("empty expression for the header field name")
        pair = scope.regexp(key), scope.regexp(value or "^")
        if pair[0] is not None and pair[1] is not None:
            headers.append((pair[0], pair[1]))
    set_resolved(
        ruleset,
        smtp_mail_from=at.at("SMTPMailFromRegexp").regexp(ruleset.smtp_mail_from_regexp),
        msg_from=at.at("MsgFromRegexp").regexp(ruleset.msg_from_regexp),
        verified_dns_domain=at.at("VerifiedDomain").optional_domain(ruleset.verified_domain),
        list_allow_dns_domain=at.at("ListAllowDomain").optional_domain(ruleset.list_allow_domain),
        headers=tuple(headers),
    )
    if not (
        ruleset.smtp_mail_from_regexp
        or ruleset.msg_from_regexp
        or ruleset.verified_domain
        or ruleset.headers_regexp
    ):
        at.error(
            "needs a condition: SMTPMailFromRegexp, MsgFromRegexp, VerifiedDomain or HeadersRegexp"
        )
    if ruleset.is_forward and ruleset.list_allow_domain:
        at.at("IsForward").error("not together with ListAllowDomain")
    if ruleset.is_forward and not (ruleset.smtp_mail_from_regexp and ruleset.verified_domain):
        at.at("IsForward").error("needs SMTPMailFromRegexp and VerifiedDomain")
    at.at("Mailbox").mailbox(ruleset.mailbox)
    if ruleset.accept_rejects_to_mailbox:
        at.at("AcceptRejectsToMailbox").mailbox(ruleset.accept_rejects_to_mailbox, inbox=False)


def _check_handler(number: int, handler: WebHandler, static: Static, at: Scope) -> WebHandler:
    path = None
    if handler.path_regexp:
        scope = at.at("PathRegexp")
        if not handler.path_regexp.startswith("^"):
            scope.error("must start with ^")
        path = scope.regexp(handler.path_regexp)
    set_resolved(
        handler,
        dns_domain=at.at("Domain").domain(handler.domain),
        path=path,
    )
    kinds: list[Any] = [
        kind
        for kind in (
            handler.web_static,
            handler.web_redirect,
            handler.web_forward,
            handler.web_internal,
        )
        if kind is not None
    ]
    if len(kinds) != 1:
        at.error("need exactly one of WebStatic, WebRedirect, WebForward, WebInternal")
    if handler.web_static is not None:
        files, scope = handler.web_static, at.at("WebStatic")
        if files.strip_prefix and not files.strip_prefix.startswith("/"):
            scope.at("StripPrefix").error("must start with /")
        if not files.root:
            scope.at("Root").error("must not be empty")
        scope.at("ResponseHeaders").headers(files.response_headers)
        set_resolved(files, root_path=static.resolve_path(files.root))
    if handler.web_redirect is not None:
        _check_redirect(handler.web_redirect, at.at("WebRedirect"))
    if handler.web_forward is not None:
        forward, scope = handler.web_forward, at.at("WebForward")
        scope.at("URL").url(forward.url, "http", "https")
        scope.at("ResponseHeaders").headers(forward.response_headers)
        if forward.strip_path and not handler.path_regexp:
            scope.at("StripPath").error("needs a PathRegexp")
    if handler.web_internal is not None:
        internal, scope = handler.web_internal, at.at("WebInternal")
        base = internal.base_path
        if not (base.startswith("/") and base.endswith("/")) or "//" in base:
            scope.at("BasePath").error(f"bad path {base[:100]!r}, need /, or for example /x/")
        if internal.service not in WEB_SERVICES:
            scope.at("Service").error(
                f"unknown service {internal.service[:100]!r}, need one of {', '.join(WEB_SERVICES)}"
            )
    return with_resolved(handler, name=handler.log_name or str(number))


def _check_redirect(redirect: WebRedirect, at: Scope) -> None:
    if redirect.base_url:
        at.at("BaseURL").url(redirect.base_url, "https", "http")
    elif not redirect.orig_path_regexp:
        at.error("needs BaseURL, or OrigPathRegexp with ReplacePath")
    if redirect.orig_path_regexp and not redirect.replace_path:
        at.at("OrigPathRegexp").error("needs a ReplacePath")
    if redirect.replace_path and not redirect.orig_path_regexp:
        at.at("ReplacePath").error("needs an OrigPathRegexp")
    code = redirect.status_code or 308
    if not 300 <= code <= 399:
        at.at("StatusCode").error(f"bad status code {code}, need 3xx")
    pattern = None
    template = ""
    if redirect.orig_path_regexp:
        pattern = at.at("OrigPathRegexp").regexp(redirect.orig_path_regexp)
        if pattern is not None:
            template = replacement_template(redirect.replace_path, pattern)
    set_resolved(redirect, orig_path=pattern, replacement=template, effective_status_code=code)
