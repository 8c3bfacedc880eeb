"""SASL servers (RFC 4422 3): one state machine for each mechanism, over decoded responses.

A protocol starts a machine by `start`, feeds it the client's responses by `step` (None when
the client sent no initial response), and does what comes back:

- `Challenge`: send it, feed the response.
- `NeedPassword`, `NeedScram`, `NeedCram`, `NeedExternal`: look it up, hand it in by the
  `supply_…` method of that name, and do what comes back from that.
- `Success`: the client is who it says. If it has data, SMTP and IMAP send that as one more
  challenge and wait for an empty response (RFC 4422 3.6, RFC 4954 4).

Failure is an exception out of `moxtw.sasl.errors`, and ends the machine. A machine that is
called out of turn raises RuntimeError: that is the caller's bug, never the client's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar, Final

from moxtw.sasl import cram, scram
from moxtw.sasl.cram import CramSecret
from moxtw.sasl.errors import (
    Aborted,
    AuthorizationDenied,
    BadBase64,
    BadFirstMessage,
    BadMessage,
    ChannelBindingMismatch,
    MissingSecret,
    NoSuchMechanism,
    TLSNeeded,
    UnknownUser,
    WrongCredentials,
)
from moxtw.sasl.precis import MAX_TEXT
from moxtw.sasl.precis import username as prepare_username
from moxtw.sasl.scram import ScramSecret

MECHANISMS: Final = (
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
"""All mechanisms, strongest first."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this to the client, in base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NeedPassword:
    """Check the password of a user; `supply_password`. The two identities are equal here."""

    authzid: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NeedScram:
    """Look up the SCRAM verifier of a user for `sha1` or `sha256`; `supply_scram`."""

    username: str
    hash_name: str


@dataclass(frozen=True, slots=True)
class NeedCram:
    """Look up the CRAM-MD5 verifier of a user; `supply_cram`."""

    username: str


@dataclass(frozen=True, slots=True)
class NeedExternal:
    """Find who the client's certificate belongs to; `supply_external`.

    external: what was given to `start`. authzid: the identity that the client asks for, or
    empty: then whoever the certificate stands for.
    """

    authzid: str
    external: str


@dataclass(frozen=True, slots=True)
class Success:
    """Authenticated as `username`. `data`: the mechanism's last message, if it has one."""

    username: str
    data: bytes | None = None


Step = Challenge | NeedPassword | NeedScram | NeedCram | NeedExternal | Success


class State(Enum):
    """Where a machine is."""

    START = auto()  # Nothing received yet.
    FIRST = auto()  # The client's first message is awaited.
    SECOND = auto()  # The client's second message is awaited.
    LOOKUP = auto()  # What was asked of the protocol is awaited.
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Context:
    """What a machine knows about the connection; see `start`."""

    tls: bool
    channel_binding: tuple[str, bytes] | None
    external: str | None
    plus_offered: bool
    hostname: str
    fake_key: bytes | None


class ServerMechanism:
    """A machine, before its first step."""

    initial_allowed: ClassVar[bool] = True

    def __init__(self, mechanism: str, context: Context) -> None:
        self.mechanism = mechanism
        self.username = ""
        """Who the client claims to be; empty as long as that is not known."""
        self._context = context
        self._state = State.START

    def step(self, response: bytes | None) -> Step:
        """Take a response of the client (None: no initial response) and say what is next."""
        state, self._state = self._state, State.DONE
        if state is State.START:
            if response is None:
                self._state = State.FIRST
                return Challenge(self._first_challenge())
            if not self.initial_allowed:
                raise BadMessage(f"{self.mechanism} has no initial response")
            state = State.FIRST
        elif response is None:
            raise RuntimeError("a response is needed")
        if state is State.FIRST:
            return self._first(response)
        if state is State.SECOND:
            return self._second(response)
        raise RuntimeError(f"step in state {state.name}")

    def supply_password(self, ok: bool) -> Step:
        """Answer to NeedPassword: whether user and password are right."""
        raise RuntimeError("no password was asked for")

    def supply_scram(self, secret: ScramSecret | None, *, missing: bool = False) -> Step:
        """Answer to NeedScram. None: no such user; or, with `missing`, a user without verifier.

        Either way the exchange goes on as if there were one, and fails at its end.
        """
        raise RuntimeError("no SCRAM verifier was asked for")

    def supply_cram(self, secret: CramSecret | None, *, missing: bool = False) -> Step:
        """Answer to NeedCram; None and `missing` as for supply_scram."""
        raise RuntimeError("no CRAM-MD5 verifier was asked for")

    def supply_external(self, username: str | None) -> Step:
        """Answer to NeedExternal: who the client may be, None for nobody."""
        raise RuntimeError("no external identity was asked for")

    def _first_challenge(self) -> bytes:
        """What invites the client's first message."""
        return b""

    def _first(self, response: bytes) -> Step:
        raise NotImplementedError

    def _second(self, response: bytes) -> Step:
        raise NotImplementedError

    def _need(self, need: Step) -> Step:
        self._state = State.LOOKUP
        return need

    def _supplied(self) -> None:
        if self._state is not State.LOOKUP:
            raise RuntimeError("nothing was asked for")
        self._state = State.DONE


def _text(data: bytes, what: str) -> str:
    if len(data) > 4 * MAX_TEXT:
        raise BadMessage(f"{what} too long")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise BadMessage(f"{what} is not UTF-8") from exc


class _PasswordMechanism(ServerMechanism):
    """What mechanisms that send the password have in common."""

    def _check(self, authzid: str, password: bytes) -> Step:
        text = _text(password, "password")
        return self._need(NeedPassword(authzid or self.username, self.username, text))

    def supply_password(self, ok: bool) -> Step:
        """See ServerMechanism."""
        self._supplied()
        if not ok:
            raise WrongCredentials("wrong user or password", username=self.username)
        return Success(self.username)


class Plain(_PasswordMechanism):
    """PLAIN, RFC 4616."""

    def _first(self, response: bytes) -> Step:
        fields = response.split(b"\0")
        if len(fields) != 3:
            raise BadMessage("PLAIN needs three fields")
        authzid = prepare_username(_text(fields[0], "authorization identity"))
        self.username = prepare_username(_text(fields[1], "user name"))
        if authzid and authzid != self.username:
            raise AuthorizationDenied("cannot act as another user", username=self.username)
        return self._check(authzid, fields[2])


class Login(_PasswordMechanism):
    """LOGIN, never standardised: user name and password one after the other."""

    def _first_challenge(self) -> bytes:
        return b"Username:"

    def _first(self, response: bytes) -> Step:
        self.username = prepare_username(_text(response, "user name"))
        self._state = State.SECOND
        return Challenge(b"Password:")

    def _second(self, response: bytes) -> Step:
        return self._check("", response)


class CramMD5(ServerMechanism):
    """CRAM-MD5, RFC 2195."""

    initial_allowed = False

    def _first_challenge(self) -> bytes:
        self._challenge = cram.new_challenge(self._context.hostname)
        return self._challenge

    def _first(self, response: bytes) -> Step:
        if len(response) > 4 * MAX_TEXT:
            raise BadMessage("response too long")
        self.username, self._digest = cram.parse_response(response)
        return self._need(NeedCram(self.username))

    def supply_cram(self, secret: CramSecret | None, *, missing: bool = False) -> Step:
        """See ServerMechanism."""
        self._supplied()
        right = (secret or cram.FAKE).verify(self._challenge, self._digest)
        if secret is None:
            raise _no_verifier(missing, self.username, None)
        if not right:
            raise WrongCredentials("wrong user or password", username=self.username)
        return Success(self.username)


def _no_verifier(missing: bool, username: str, data: bytes | None) -> MissingSecret | UnknownUser:
    if missing:
        return MissingSecret("no verifier for this mechanism", username=username, data=data)
    return UnknownUser("wrong user or password", username=username, data=data)


class Scram(ServerMechanism):
    """SCRAM, RFC 5802 and RFC 7677, with and without channel binding."""

    hash_name: ClassVar[str]

    def __init__(self, mechanism: str, context: Context) -> None:
        super().__init__(mechanism, context)
        self._plus = mechanism.endswith("-PLUS")
        self._absent: bool | None = None  # Whether a user without verifier, or none at all.

    def _first(self, response: bytes) -> Step:
        try:
            first = scram.parse_client_first(response)
        except scram.SyntaxProblem as exc:
            raise BadFirstMessage(str(exc), data=_server_error(exc.error)) from exc
        self._client_first = first
        self.username = prepare_username(first.username)
        self._expected_binding = first.gs2_header.encode() + self._channel_data(first)
        if first.authzid and prepare_username(first.authzid) != self.username:
            raise AuthorizationDenied("cannot act as another user", username=self.username)
        return self._need(NeedScram(self.username, self.hash_name))

    def _channel_data(self, first: scram.ClientFirst) -> bytes:
        """What the client's binding must hold after its gs2 header, RFC 5802 6."""
        if first.flag == "y" and self._context.plus_offered:
            # The list of mechanisms that the client saw is not the one that we sent.
            raise self._mismatch("-PLUS is offered", "server-does-support-channel-binding")
        if not self._plus:
            if first.flag == "p":
                raise self._mismatch("binding without -PLUS", "channel-binding-not-supported")
            return b""
        if first.flag != "p":
            raise self._mismatch("channel binding needed", "server-does-support-channel-binding")
        if self._context.channel_binding is None:
            raise self._mismatch("no channel binding here", "channel-binding-not-supported")
        name, data = self._context.channel_binding
        if first.binding != name:
            raise self._mismatch(f"channel binding must be {name}",
                                 "unsupported-channel-binding-type")  # fmt: skip
        return data

    def _mismatch(self, text: str, error: str) -> ChannelBindingMismatch:
        return ChannelBindingMismatch(text, username=self.username, data=_server_error(error))

    def supply_scram(self, secret: ScramSecret | None, *, missing: bool = False) -> Step:
        """See ServerMechanism."""
        self._supplied()
        if secret is None:
            self._absent = missing
            secret = scram.fake_secret(self.hash_name, self.username, self._context.fake_key)
        self._secret = secret
        self._nonce = self._client_first.nonce + scram.new_nonce()
        self._server_first = scram.server_first(self._nonce, secret)
        self._state = State.SECOND
        return Challenge(self._server_first.encode())

    def _second(self, response: bytes) -> Step:
        try:
            final = scram.parse_client_final(response)
        except scram.SyntaxProblem as exc:
            raise BadMessage(
                str(exc), username=self.username, data=_server_error(exc.error)
            ) from exc
        if final.binding != self._expected_binding:
            raise self._mismatch("channel bindings differ", "channel-bindings-dont-match")
        if final.nonce != self._nonce:
            raise BadMessage(
                "wrong nonce", username=self.username, data=_server_error("other-error")
            )
        parts = (self._client_first.bare, self._server_first, final.without_proof)
        auth_message = ",".join(parts).encode()
        right = scram.check_proof(self.hash_name, self._secret, auth_message, final.proof)
        if not right or self._absent is not None:
            data = _server_error("invalid-proof")
            if self._absent is not None:
                raise _no_verifier(self._absent, self.username, data)
            raise WrongCredentials("wrong user or password", username=self.username, data=data)
        signature = scram.server_signature(self.hash_name, self._secret.server_key, auth_message)
        return Success(self.username, b"v=" + base64.b64encode(signature))


def _server_error(error: str) -> bytes:
    """A server's final message that tells of failure, RFC 5802 7."""
    return b"e=" + error.encode("ascii")


class ScramSHA1(Scram):
    """SCRAM-SHA-1 and SCRAM-SHA-1-PLUS, RFC 5802."""

    hash_name = "sha1"


class ScramSHA256(Scram):
    """SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, RFC 7677."""

    hash_name = "sha256"


class External(ServerMechanism):
    """EXTERNAL, RFC 4422 appendix A: the TLS client certificate says who it is."""

    def _first(self, response: bytes) -> Step:
        if b"\0" in response:
            raise BadMessage("NUL in authorization identity")
        authzid = prepare_username(_text(response, "authorization identity"))
        self.username = authzid
        external = self._context.external
        if external is None:
            raise WrongCredentials("no client certificate", username=authzid)
        return self._need(NeedExternal(authzid, external))

    def supply_external(self, username: str | None) -> Step:
        """See ServerMechanism."""
        self._supplied()
        if username is None:
            raise WrongCredentials("client certificate not usable", username=self.username)
        self.username = username
        return Success(username)


_MACHINES: Final[dict[str, Callable[[str, Context], ServerMechanism]]] = {
    "EXTERNAL": External,
    "SCRAM-SHA-256-PLUS": ScramSHA256,
    "SCRAM-SHA-256": ScramSHA256,
    "SCRAM-SHA-1-PLUS": ScramSHA1,
    "SCRAM-SHA-1": ScramSHA1,
    "CRAM-MD5": CramMD5,
    "PLAIN": Plain,
    "LOGIN": Login,
}


def start(
    mechanism: str,
    *,
    tls: bool,
    channel_binding: tuple[str, bytes] | None = None,
    external: str | None = None,
    plus_offered: bool = True,
    hostname: str = "localhost",
    fake_key: bytes | None = None,
) -> ServerMechanism:
    """Begin an exchange.

    mechanism: as the client named it, in any case.
    tls: whether the connection has TLS. Whether passwords may be sent without is up to the
        protocol.
    channel_binding: name and data of the TLS channel (`tls-exporter`, RFC 9266, or
        `tls-unique`, RFC 5929), None if there is none.
    external: what stands for the client's certificate, None without one.
    plus_offered: whether -PLUS mechanisms were announced to the client.
    hostname: our name, in CRAM-MD5's challenge.
    fake_key: secret out of which the salts of unknown users are made, so that they stay the same
        like those of real users; by default they change with each start of the program.

    Raises NoSuchMechanism; TLSNeeded for EXTERNAL and -PLUS without TLS.
    """
    name = mechanism.upper()
    machine = _MACHINES.get(name)
    if machine is None:
        raise NoSuchMechanism("no such mechanism")
    if not tls and (name == "EXTERNAL" or name.endswith("-PLUS")):
        raise TLSNeeded(f"{name} needs TLS")
    return machine(name, Context(tls, channel_binding, external, plus_offered, hostname, fake_key))


def decode(line: bytes) -> bytes:
    """Decode a response as SMTP and IMAP carry it: base64, or "*" to give up (RFC 4954 4).

    Raises Aborted, BadBase64.
    """
    if line == b"*":
        raise Aborted("given up by client")
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadBase64("response is not base64") from exc


def decode_initial(line: bytes) -> bytes:
    """Decode an initial response: like `decode`, but "=" is the empty one (RFC 4954 4).

    Raises Aborted, BadBase64.
    """
    if not line:
        raise BadBase64("empty initial response")
    return b"" if line == b"=" else decode(line)
