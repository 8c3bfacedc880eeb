"""Collecting what is wrong with a configuration, and checks of single values."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from moxtw.config.document import Step
from moxtw.config.regexp import Regexp, RegexpError, compile_regexp
from moxtw.config.static import IPAddress
from moxtw.mail.address import Address, AddressError, parse_address, parse_localpart
from moxtw.mail.domain import Domain, DomainError, parse_domain

T = TypeVar("T")

MAX_FILE: Final = 1 << 20
"""Bytes of a key, certificate or password file."""

MAX_LINE: Final = 256
"""Characters of texts that end up in protocol replies."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ACCOUNT: Final = re.compile(r"[^\s/\\\x00-\x1f\x7f-\x9f]{1,100}")


class Report:
    """Errors and warnings found in one configuration, each with the path of its value."""

    def __init__(self) -> None:
        self.errors: list[tuple[tuple[Step, ...], str]] = []
        self.warnings: list[tuple[tuple[Step, ...], str]] = []


class Scope:
    """A place in the configuration, to report about."""

    __slots__ = ("path", "report")

    def __init__(self, report: Report, path: tuple[Step, ...] = ()) -> None:
        self.report = report
        self.path = path

    def at(self, *steps: Step) -> Scope:
        """A place below this one."""
        return Scope(self.report, (*self.path, *steps))

    def error(self, text: str) -> None:
        """Report what must not be."""
        self.report.errors.append((self.path, text))

    def warn(self, text: str) -> None:
        """Report what is odd, but possible."""
        self.report.warnings.append((self.path, text))

    # Each check below returns the parsed value, or a zero value after reporting an error.

    def domain(self, text: str) -> Domain:
        """A host or domain name."""
        try:
            return parse_domain(text)
        except DomainError as exc:
            self.error(f"bad domain {text[:100]!r}: {exc}")
            return Domain()

    def optional_domain(self, text: str) -> Domain:
        """A host or domain name, or nothing."""
        return self.domain(text) if text else Domain()

    def address(self, text: str) -> Address | None:
        """A mail address."""
        try:
            return parse_address(text)
        except AddressError as exc:
            self.error(f"bad address {text[:100]!r}: {exc}")
            return None

    def localpart(self, text: str) -> str:
        """A localpart, quoted if it needs to be; decoded in the result."""
        try:
            return parse_localpart(text)
        except AddressError as exc:
            self.error(f"bad localpart {text[:100]!r}: {exc}")
            return ""

    def report_localpart(self, text: str) -> str:
        """The localpart of an address in DNS records for reports."""
        localpart = self.localpart(text)
        if not localpart.isascii():
            self.error("the localpart of an address for reports must be ASCII")
        return localpart

    def ip(self, text: str) -> IPAddress | None:
        """An IP address."""
        try:
            return ipaddress.ip_address(text)
        except ValueError:
            self.error(f"bad IP address {text[:100]!r}")
            return None

    def port(self, value: int, default: int) -> int:
        """A port; 0 stands for the default."""
        if not 0 <= value <= 65535:
            self.error(f"bad port {value}, need 1 to 65535")
            return default
        return value or default

    def regexp(self, text: str) -> Regexp | None:
        """A regular expression for text from messages, or nothing."""
        if not text:
            return None
        try:
            return compile_regexp(text)
        except RegexpError as exc:
            self.error(str(exc))
            return None

    def mailbox(self, name: str, *, inbox: bool = True) -> None:
        """The name of a mailbox; `inbox` False: not that of Inbox."""
        problem = mailbox_problem(name)
        if problem:
            self.error(f"bad mailbox name {name[:100]!r}: {problem}")
        elif not inbox and name.lower() == "inbox":
            self.error("must not be Inbox")

    def text(self, value: str, limit: int = MAX_LINE) -> None:
        """Text for one line of a protocol reply."""
        if len(value) > limit:
            self.error(f"longer than {limit} characters")
        elif _CONTROL.search(value):
            self.error("must not hold control characters or line ends")

    def url(self, text: str, *schemes: str) -> SplitResult | None:
        """An absolute URL with a host."""
        try:
            url = urlsplit(text)
            # The port is parsed only when asked for.
            usable = bool(url.hostname) and url.scheme in schemes and url.port != 0
        except ValueError as exc:
            self.error(f"bad URL {text[:200]!r}: {exc}")
            return None
        if not usable or _CONTROL.search(text) or " " in text:
            self.error(f"bad URL {text[:200]!r}, need {' or '.join(schemes)}, ://, a host")
            return None
        return url

    def headers(self, fields: Any) -> None:
        """HTTP header fields."""
        for name, value in fields.items():
            if not _HEADER_NAME.fullmatch(name):
                self.at(name).error(f"bad header name {name[:100]!r}")
            if _CONTROL.search(value.replace("\t", " ")):
                self.at(name).error("bad header value: control characters")

    def file(self, path: Path) -> bytes:
        """The content of a small file."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except OSError as exc:
            self.error(f"cannot read {path}: {exc.strerror or exc}")
            return b""
        if len(data) > MAX_FILE:
            self.error(f"{path} holds more than {MAX_FILE} bytes")
            return b""
        if not data.strip():
            self.error(f"{path} is empty")
            return b""
        return data

    def private_key(self, data: bytes, path: Path) -> Any:
        """An unencrypted private key, PEM. None after an error, or for no data."""
        if not data:
            return None
        try:
            return load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            reason = str(exc).split("(", 1)[0].strip()
            self.error(f"no usable private key in {path}: {reason}")
            return None


def mailbox_problem(name: str) -> str:
    """Why a text is no mailbox name, or empty."""
    if not name:
        return "empty"
    if len(name) > 1000:
        return "too long"
    if not name.isascii() and unicodedata.normalize("NFC", name) != name:
        return "not in Unicode normalisation form C"
    if _CONTROL.search(name):
        return "control characters"
    if name.startswith("#"):
        return "starts with #"
    for element in name.split("/"):
        if not element:
            return "slash at an end, or two of them together"
        if element in (".", ".."):
            return f"{element} as an element"
    return ""


def account_name_problem(name: str) -> str:
    """Why a text is no account name, or empty. Accounts name files in backups and exports."""
    if name in ("", ".", "..", "-", "(admin)"):
        return "reserved" if name else "empty"
    if not _ACCOUNT.fullmatch(name):
        return "blanks, slashes, control characters, or more than 100 characters"
    if unicodedata.normalize("NFC", name) != name:
        return "not in Unicode normalisation form C"
    return ""
