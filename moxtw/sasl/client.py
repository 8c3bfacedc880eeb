"""SASL clients (RFC 4422 3): one state machine for each mechanism, over decoded challenges.

`choose` picks a mechanism, `start` makes its machine. `initial` gives the initial response,
None if the server speaks first; `step` answers a challenge; `finish` must be called when the
server reports success, as only then it is certain whom one talked to.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from moxtw.sasl import cram, scram
from moxtw.sasl.errors import (
    BadMessage,
    ChannelBindingMismatch,
    NoSuchMechanism,
    ServerNotVerified,
    ServerRefused,
)
from moxtw.sasl.precis import PreparationError, opaque_string

DEFAULT_PREFERENCE: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "CRAM-MD5",
)
"""Mechanisms that do not hand the password to the server, strongest first."""

MAX_ITERATIONS: Final = 1_000_000
"""Iterations that a server may make us do: less than a second."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A mechanism to use.

    binding_missed: -PLUS was preferred and could have been used, but the server does not offer
    it. SCRAM tells the server (gs2 flag `y`), which finds out if somebody removed the offer.
    """

    mechanism: str
    binding_missed: bool = False


def choose(preferred: Iterable[str], offered: Iterable[str], tls: bool) -> Choice | None:
    """The first of the preferred mechanisms that is offered, or None.

    tls: whether there is TLS with a channel binding; mechanisms with -PLUS need it, as EXTERNAL
    needs TLS.
    """
    available = {name.upper() for name in offered}
    missed = set()
    for mechanism in preferred:
        name = mechanism.upper()
        if name in available and name in _MACHINES:
            if tls or not (name.endswith("-PLUS") or name == "EXTERNAL"):
                return Choice(name, name in missed)
        elif tls and name.endswith("-PLUS"):
            missed.add(name.removesuffix("-PLUS"))
    return None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who to log in as.

    channel_binding: name and data of the TLS channel, for mechanisms with -PLUS.
    """

    username: str
    password: str = ""
    authzid: str = ""
    channel_binding: tuple[str, bytes] | None = None


class ClientMechanism:
    """A machine. Errors are those of `moxtw.sasl.errors`."""

    def __init__(self, choice: Choice, credentials: Credentials) -> None:
        self.mechanism = choice.mechanism
        self._choice = choice
        self._credentials = credentials
        self._steps = 0

    def initial(self) -> bytes | None:
        """The initial response; None if the server must send a challenge first."""
        return None

    def step(self, challenge: bytes) -> bytes:
        """Answer a challenge. May hash for a while (SCRAM)."""
        self._steps += 1
        return self._answer(challenge)

    def finish(self) -> None:
        """Take note of the server's success. Raises if the server has not proved itself."""

    def _answer(self, challenge: bytes) -> bytes:
        raise self._out_of_turn()

    def _out_of_turn(self) -> BadMessage:
        return BadMessage(f"unexpected challenge for {self.mechanism}")


class Plain(ClientMechanism):
    """PLAIN, RFC 4616."""

    def initial(self) -> bytes:
        """See ClientMechanism."""
        given = self._credentials
        if "\0" in given.authzid + given.username + given.password:
            raise BadMessage("NUL in credentials")
        return f"{given.authzid}\0{given.username}\0{given.password}".encode()

    def _answer(self, challenge: bytes) -> bytes:
        # Comes where the protocol, or the server, has no initial responses.
        if self._steps > 1 or challenge:
            raise self._out_of_turn()
        return self.initial()


class Login(ClientMechanism):
    """LOGIN: user name and password, whatever the challenges say."""

    def _answer(self, challenge: bytes) -> bytes:
        if self._steps > 2:
            raise self._out_of_turn()
        given = self._credentials
        return (given.username if self._steps == 1 else given.password).encode()


class CramMD5(ClientMechanism):
    """CRAM-MD5, RFC 2195."""

    def _answer(self, challenge: bytes) -> bytes:
        if self._steps > 1:
            raise self._out_of_turn()
        return cram.respond(self._credentials.username, self._credentials.password, challenge)


class External(ClientMechanism):
    """EXTERNAL, RFC 4422 appendix A."""

    def initial(self) -> bytes:
        """See ClientMechanism."""
        return self._credentials.authzid.encode()

    def _answer(self, challenge: bytes) -> bytes:
        if self._steps > 1 or challenge:
            raise self._out_of_turn()
        return self.initial()


class Scram(ClientMechanism):
    """SCRAM, RFC 5802 and RFC 7677."""

    hash_name = ""

    def __init__(
        self, choice: Choice, credentials: Credentials, nonce: Callable[[], str] = scram.new_nonce
    ) -> None:
        super().__init__(choice, credentials)
        self._nonce = nonce()
        self._signature: bytes | None = None
        self._verified = False
        self._awaits_first = True
        channel_data = b""
        flag = "y" if choice.binding_missed else "n"
        if choice.mechanism.endswith("-PLUS"):
            if credentials.channel_binding is None:
                raise ChannelBindingMismatch("no channel binding here")
            name, channel_data = credentials.channel_binding
            flag = f"p={name}"
        authzid = scram.encode_name(credentials.authzid)
        header = f"{flag},{'a=' if authzid else ''}{authzid},"
        self._binding = header.encode() + channel_data
        self._bare = f"n={scram.encode_name(credentials.username)},r={self._nonce}"
        self._first = (header + self._bare).encode()

    def initial(self) -> bytes:
        """See ClientMechanism."""
        return self._first

    def _answer(self, challenge: bytes) -> bytes:
        if not challenge and self._steps == 1:  # There was no initial response.
            return self._first
        if challenge.startswith(b"e="):
            reason = challenge[2:100].decode("ascii", "replace")
            raise ServerRefused(f"server refused: {reason}")
        if self._awaits_first:
            self._awaits_first = False
            return self._final(challenge)
        if self._verified or self._signature is None:
            raise self._out_of_turn()
        self._verify(challenge)
        return b""

    def _final(self, challenge: bytes) -> bytes:
        try:
            nonce, salt, iterations = scram.parse_server_first(challenge)
        except scram.SyntaxProblem as exc:
            raise BadMessage(str(exc)) from exc
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise BadMessage("server's nonce does not continue ours")
        if iterations > MAX_ITERATIONS:
            raise BadMessage("too many iterations")
        try:
            password = opaque_string(self._credentials.password)
        except PreparationError as exc:
            raise BadMessage(f"password cannot be used: {exc}") from exc
        salted = scram.salt_password(self.hash_name, password, salt, iterations)
        without_proof = scram.client_final_without_proof(self._binding, nonce)
        auth_message = b",".join((self._bare.encode(), challenge, without_proof.encode()))
        proof = scram.client_proof(self.hash_name, salted, auth_message)
        server_key = hmac.digest(salted, b"Server Key", self.hash_name)
        self._signature = scram.server_signature(self.hash_name, server_key, auth_message)
        return f"{without_proof},p={base64.b64encode(proof).decode('ascii')}".encode()

    def _verify(self, challenge: bytes) -> None:
        value = challenge.split(b",", 1)[0]
        try:
            signature = base64.b64decode(value[2:], validate=True)
        except (binascii.Error, ValueError) as exc:
            raise BadMessage("malformed final message of server") from exc
        if not value.startswith(b"v="):
            raise BadMessage("malformed final message of server")
        if not hmac.compare_digest(signature, self._signature or b""):
            raise ServerNotVerified("server does not know the password")
        self._verified = True

    def finish(self) -> None:
        """See ClientMechanism."""
        if not self._verified:
            raise ServerNotVerified("server did not prove that it knows the password")


class ScramSHA1(Scram):
    """SCRAM-SHA-1 and SCRAM-SHA-1-PLUS."""

    hash_name = "sha1"


class ScramSHA256(Scram):
    """SCRAM-SHA-256 and SCRAM-SHA-256-PLUS."""

    hash_name = "sha256"


_MACHINES: Final[dict[str, Callable[[Choice, Credentials], ClientMechanism]]] = {
    "EXTERNAL": External,
    "SCRAM-SHA-256-PLUS": ScramSHA256,
    "SCRAM-SHA-256": ScramSHA256,
    "SCRAM-SHA-1-PLUS": ScramSHA1,
    "SCRAM-SHA-1": ScramSHA1,
    "CRAM-MD5": CramMD5,
    "PLAIN": Plain,
    "LOGIN": Login,
}


def start(choice: Choice, credentials: Credentials) -> ClientMechanism:
    """The machine for a mechanism. Raises NoSuchMechanism, ChannelBindingMismatch."""
    machine = _MACHINES.get(choice.mechanism)
    if machine is None:
        raise NoSuchMechanism(f"no such mechanism: {choice.mechanism}")
    return machine(choice, credentials)
