"""How an authentication can fail, one type for each way that a protocol answers differently."""

from __future__ import annotations

from typing import ClassVar


class SASLError(Exception):
    """An exchange that failed.

    kind: the result by which login attempts are recorded and counted.
    username: who it was about, if the exchange came so far.
    data: a last message of the mechanism that tells the client why (SCRAM's `e=`), or None.
        Protocols may send it as one more challenge before they refuse.
    """

    kind: ClassVar[str] = "error"

    def __init__(self, text: str, *, username: str = "", data: bytes | None = None) -> None:
        super().__init__(text)
        self.username = username
        self.data = data


class NoSuchMechanism(SASLError):
    """The mechanism is not known."""

    kind = "badprotocol"


class TLSNeeded(SASLError):
    """The mechanism works with TLS only: EXTERNAL and those with channel binding."""

    kind = "badprotocol"


class Aborted(SASLError):
    """The client gave up, with "*"."""

    kind = "aborted"


class BadBase64(SASLError):
    """A response that is not base64."""

    kind = "badprotocol"


class BadMessage(SASLError):
    """A response that does not follow the syntax of the mechanism."""

    kind = "badprotocol"


class BadFirstMessage(BadMessage):
    """SCRAM's first message was bad; nothing has been looked up."""


class WrongCredentials(SASLError):
    """User unknown, password or proof wrong, no certificate: which of them, clients aren't told."""

    kind = "badcreds"


class UnknownUser(WrongCredentials):
    """The user does not exist; to the client the same as a wrong password."""

    kind = "baduser"


class AuthorizationDenied(WrongCredentials):
    """The client asked to act as somebody else."""


class MissingSecret(SASLError):
    """The user exists but has no verifier for this mechanism; no failure of the client's."""

    kind = "badcreds"


class ChannelBindingMismatch(SASLError):
    """The two ends see different TLS channels, or cannot agree on how to compare them."""

    kind = "badchanbind"


class ServerRefused(SASLError):
    """To a client: the server's message says that authentication failed."""

    kind = "badcreds"


class ServerNotVerified(SASLError):
    """To a client: the server did not prove that it knows the password."""
