"""Types of the admin API beside those of the configuration."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any, Final, NewType

from msgspec import field

from moxtw.web.configtypes import ApiStruct, Domain, Localpart, WebHandler
from moxtw.web.typewords import Int32, Int64

ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)

CSRFToken = NewType("CSRFToken", str)
IP = NewType("IP", str)


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


class HoldRule(ApiStruct):
    """Messages that match all fields given are put on hold."""

    id: Int64 = 0
    account: str = ""
    sender_domain: Domain = field(default_factory=Domain)
    recipient_domain: Domain = field(default_factory=Domain)
    sender_domain_str: str = ""
    recipient_domain_str: str = ""


class Filter(ApiStruct):
    """Which queued messages. Times: `<` or `>`, then `now` or a duration from now."""

    max: Int32 = 0
    ids: list[Int64] = []
    account: str = ""
    from_: str = ""
    to: str = ""
    hold: bool | None = None
    submitted: str = ""
    next_attempt: str = ""
    transport: str | None = None


class Sort(ApiStruct):
    """Order of a list, and after which row it goes on."""

    field: str = ""
    last_id: Int64 = 0
    last: Any = None
    asc: bool = False


class IPDomain(ApiStruct):
    """An IP address or a domain."""

    ip: IP = IP("")
    domain: Domain = field(default_factory=Domain)


class MsgResult(ApiStruct):
    """The result of an attempt; Duration in nanoseconds."""

    start: datetime = ZERO_TIME
    duration: Int64 = 0
    success: bool = False
    code: Int32 = 0
    secode: str = ""
    error: str = ""


class Msg(ApiStruct):
    """A queued message for one recipient."""

    id: Int64 = 0
    base_id: Int64 = 0
    queued: datetime = ZERO_TIME
    hold: bool = False
    sender_account: str = ""
    sender_localpart: Localpart = Localpart("")
    sender_domain: IPDomain = field(default_factory=IPDomain)
    sender_domain_str: str = ""
    from_id: str = ""
    recipient_localpart: Localpart = Localpart("")
    recipient_domain: IPDomain = field(default_factory=IPDomain)
    recipient_domain_str: str = ""
    attempts: Int32 = 0
    max_attempts: Int32 = 0
    dialed_ips: dict[str, list[IP]] = {}
    next_attempt: datetime = ZERO_TIME
    last_attempt: datetime | None = None
    results: list[MsgResult] = []
    has8bit: bool = False
    smtputf8: bool = False
    is_dmarc_report: bool = False
    is_tls_report: bool = False
    size: Int64 = 0
    message_id: str = ""
    msg_prefix: bytes = b""
    subject: str = ""
    dsnutf8: bytes = b""
    transport: str = ""
    require_tls: bool | None = None
    future_release_request: str = ""
    extra: dict[str, str] = {}


class RetiredFilter(ApiStruct):
    """Which retired messages."""

    max: Int32 = 0
    ids: list[Int64] = []
    account: str = ""
    from_: str = ""
    to: str = ""
    submitted: str = ""
    last_activity: str = ""
    transport: str | None = None
    success: bool | None = None


class RetiredSort(ApiStruct):
    """Order of a list of retired messages."""

    field: str = ""
    last_id: Int64 = 0
    last: Any = None
    asc: bool = False


class MsgRetired(ApiStruct):
    """A message that is queued no more."""

    id: Int64 = 0
    base_id: Int64 = 0
    queued: datetime = ZERO_TIME
    sender_account: str = ""
    sender_localpart: Localpart = Localpart("")
    sender_domain_str: str = ""
    from_id: str = ""
    recipient_localpart: Localpart = Localpart("")
    recipient_domain: IPDomain = field(default_factory=IPDomain)
    recipient_domain_str: str = ""
    attempts: Int32 = 0
    max_attempts: Int32 = 0
    dialed_ips: dict[str, list[IP]] = {}
    last_attempt: datetime | None = None
    results: list[MsgResult] = []
    has8bit: bool = False
    smtputf8: bool = False
    is_dmarc_report: bool = False
    is_tls_report: bool = False
    size: Int64 = 0
    message_id: str = ""
    subject: str = ""
    transport: str = ""
    require_tls: bool | None = None
    future_release_request: str = ""
    extra: dict[str, str] = {}
    last_activity: datetime = ZERO_TIME
    recipient_address: str = ""
    success: bool = False
    keep_until: datetime = ZERO_TIME


class WebserverConfig(ApiStruct):
    """Redirects, as pairs, and handlers of the web server."""

    web_dns_domain_redirects: list[list[Domain]] = []
    web_domain_redirects: list[list[str]] = []
    web_handlers: list[WebHandler] = []


class TLSPublicKey(ApiStruct):
    """The public key of a TLS client certificate."""

    fingerprint: str = ""
    created: datetime = ZERO_TIME
    type: str = ""
    name: str = ""
    no_imap_preauth: bool = False
    cert_der: bytes = b""
    account: str = ""
    login_address: str = ""


class LoginAttempt(ApiStruct):
    """Login attempts of the same kind, counted."""

    key: bytes = b""
    last: datetime = ZERO_TIME
    first: datetime = ZERO_TIME
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
