"""Types of the admin API beside those of the configuration."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Final, NewType

from msgspec import field

from moxtw.web.configtypes import ApiStruct, Domain, WebHandler
from moxtw.web.typewords import Int32, Int64, Time

ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)

CSRFToken = NewType("CSRFToken", str)


class AuthResult(enum.Enum):
    """The result of a login attempt."""

    AuthSuccess = "ok"
    AuthBadUser = "baduser"
    AuthBadPassword = "badpassword"
    AuthBadCredentials = "badcreds"
    AuthBadChannelBinding = "badchanbind"
    AuthBadProtocol = "badprotocol"
    AuthLoginDisabled = "logindisabled"
    AuthError = "error"
    AuthAborted = "aborted"


class ClientConfigsEntry(ApiStruct):
    """A service that mail clients can connect to."""

    protocol: str = ""
    host: Domain = field(default_factory=Domain)
    port: Int32 = 0
    listener: str = ""
    note: str = ""


class ClientConfigs(ApiStruct):
    """What mail clients can be set to."""

    entries: list[ClientConfigsEntry] = []


class WebserverConfig(ApiStruct):
    """Redirects, as pairs, and handlers of the web server."""

    web_dns_domain_redirects: list[list[Domain]] = []
    web_domain_redirects: list[list[str]] = []
    web_handlers: list[WebHandler] = []


class Reverse(ApiStruct):
    """Names of an address."""

    hostnames: list[str] = []


class TLSPublicKey(ApiStruct):
    """The public key of a TLS client certificate."""

    fingerprint: str = ""
    created: Time = ZERO_TIME
    type: str = ""
    name: str = ""
    no_imap_preauth: bool = False
    cert_der: bytes = b""
    account: str = ""
    login_address: str = ""


class AuditFilter(ApiStruct):
    """Which entries of the audit log: of whom, of which operation, of which time.

    Max: 0 for as many as there may be, 1000. Before: an entry's ID, for the ones that came
    before it. Since, Until: "now", a duration from now on such as "-24h", or a date or time as in
    RFC 3339.
    """

    max: Int32 = 0
    before: Int64 = 0
    caller: str = ""
    operation: str = ""
    since: str = ""
    until: str = ""


class AuditEntry(ApiStruct):
    """An operation that changed something, or was refused.

    Via: "webadmin", "webaccount", "ctl" (a command) or "file" (an edit of domains.conf). Caller:
    "(admin)", an account, or the user id of a process. Cid: as in the log. Params: JSON, without
    secrets, shortened. Result: "ok", or a code with a message; empty if the operation has not
    ended, or was cut off.
    """

    id: Int64 = 0
    time: Time = ZERO_TIME
    via: str = ""
    caller: str = ""
    remote_ip: str = ""
    cid: str = ""
    operation: str = ""
    params: str = ""
    result: str = ""
    message: str = ""


class LoginAttempt(ApiStruct):
    """Login attempts of the same kind, counted."""

    key: bytes = b""
    last: Time = ZERO_TIME
    first: Time = ZERO_TIME
    count: Int64 = 0
    account_name: str = ""
    login_address: str = ""
    remote_ip: str = ""
    local_ip: str = ""
    tls: str = ""
    tls_pub_key_fingerprint: str = ""
    protocol: str = ""
    user_agent: str = ""
    auth_mech: str = ""
    result: AuthResult = AuthResult.AuthError
