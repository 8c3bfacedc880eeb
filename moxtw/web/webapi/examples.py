"""The methods in words, with examples: for pages and for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from moxtw.mail.readable import NameAddress, Structure
from moxtw.web.webapi.types import (
    Empty,
    Message,
    MessageFlagsRequest,
    MessageGetResult,
    MessageMeta,
    MessageMoveRequest,
    MessagePartRequest,
    MessageRequest,
    SendRequest,
    SendResult,
    Submission,
    Suppression,
    SuppressionAddRequest,
    SuppressionListRequest,
    SuppressionListResult,
    SuppressionPresentResult,
    SuppressionRequest,
)


@dataclass(frozen=True, slots=True)
class Example:
    """A method, and what a call of it looks like.

    more: paragraphs of further explanation. result: text for an answer that is no JSON.
    codes: codes of errors that the method has beside those that all have.
    """

    name: str
    doc: str
    request: Any
    result: Any
    more: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    files: bool = False


CODES: Final = {
    "user": "A parameter is bad; the message says which.",
    "server": "A failure of the server, which its log tells more about.",
    "protocol": "The HTTP request, the form or the JSON is not as it must be.",
    "error": "Another failure; the message says which.",
    "badAddress": "An e-mail address is malformed.",
    "missingBody": "There is neither Text nor HTML.",
    "multipleFrom": "There is more than one From address.",
    "badFrom": "The account may not send as the From address.",
    "domainDisabled": "The domain of the From address is disabled.",
    "noRecipients": "To, CC and BCC are all empty.",
    "messageLimitReached": "The account has sent as many messages as it may within a day.",
    "recipientLimitReached": "The account has written to as many new recipients as it may "
    "within a day.",
    "messageTooLarge": "The message is larger than the server takes.",
    "malformedMessageID": "A message id is not of the form <id@host>.",
    "sentOverQuota": "The message was queued, but the quota had no room for the copy that "
    "SaveSent asks for. Do not send it again.",
    "idempotencyKeyReused": "Another message was sent with the same Idempotency-Key.",
    "messageNotFound": "The account has no such message, or has none any more.",
    "partNotFound": "The message has no such part.",
}
"""The codes of errors, with their meanings."""

_TIME: Final = datetime(2025, 6, 15, 12, 30, tzinfo=UTC)
_ME: Final = NameAddress("Me", "me@example.org")
_YOU: Final = NameAddress("You", "you@example.net")
_SUPPRESSION: Final = Suppression(
    ID=1,
    Created=_TIME,
    Account="me",
    BaseAddress="user@example.net",
    OriginalAddress="User+lists@example.net",
    Manual=True,
    Reason="asked not to be written to",
)
_MESSAGE: Final = MessageGetResult(
    Message(
        From=[_YOU],
        To=[_ME],
        CC=[],
        BCC=[],
        ReplyTo=[],
        MessageID="<kVTha0Q-a5Zh1MuTh5rUjg@example.net>",
        References=[],
        Date=_TIME,
        Subject="hello",
        Text="text \u263a\n",
        HTML="",
    ),
    Structure(
        ContentType="text/plain",
        ContentTypeParams={"charset": "utf-8"},
        ContentID="",
        ContentDisposition="",
        Filename="",
        DecodedSize=10,
        Parts=[],
    ),
    MessageMeta(
        Size=1024,
        DSN=False,
        Flags=["\\seen", "$notjunk", "customlabel"],
        MailFrom="you@example.net",
        MailFromValidated=True,
        RcptTo="me@example.org",
        MsgFrom="you@example.net",
        MsgFromValidated=True,
        DKIMVerifiedDomains=["example.net"],
        RemoteIP="192.0.2.1",
        MailboxName="Inbox",
    ),
)
_FLAGS: Final = MessageFlagsRequest(MsgID=1, Flags=["\\answered", "$forwarded", "customlabel"])
_FLAGS_MORE: Final = (
    "Flags are those of IMAP: \\seen, \\answered, \\flagged, \\deleted, \\draft, $forwarded, "
    "$junk, $notjunk, $phishing, $mdnsent, and keywords; upper and lower case are the same.",
    "$junk and $notjunk train the junk filter.",
)

_ALL: Final = (
    Example(
        "Send",
        "Compose a message, and queue it for its recipients.",
        SendRequest(
            From=[_ME],
            To=[_YOU],
            Subject="hello",
            Text="text \u263a\n",
            Extra={"orderid": "1"},
            SaveSent=True,
        ),
        SendResult(
            "<kVTha0Q-a5Zh1MuTh5rUjg@example.org>",
            [Submission("you@example.net", 10, "ZfV16EATHwKEufrSMo055Q")],
        ),
        (
            "All fields may be left out, but there must be a recipient in To, CC or BCC, and "
            "Text or HTML. Without From the message is from the address that logs in, with the "
            "full name of its account. Without MessageID and Date they are made. References are "
            "message ids, the last one becomes In-Reply-To, too. Headers are pairs of name and "
            "value.",
            "Files may be in the JSON: AlternativeFiles (further forms of the text, such as a "
            "calendar invitation), InlineFiles (that HTML refers to by ContentID, like "
            "cid:image1@example) and AttachedFiles, with Data in base64. Or they are uploads in "
            "form fields alternativefile, inlinefile and attachedfile. A missing ContentType is "
            "found out from the data.",
            "Extra comes back in webhooks about the message. RequireTLS true: deliver only over "
            "verified TLS; false: deliver even where TLS cannot be verified. FutureRelease: "
            "begin to deliver at that time, at most 60 days ahead. SaveSent: keep a copy in the "
            "mailbox for sent messages.",
            "To be able to repeat a call safely when no answer came, add a header "
            "Idempotency-Key with text of your choice, unique for the message, of at most 255 "
            "characters. Within 24 hours the message is sent only once for a key of the account, "
            "and a repeated call gets the same answer. Calls that failed do not count.",
            "The answer has one submission for each recipient, in the order To, CC, BCC: the id "
            "in the queue, and the unique id in MAIL FROM, empty if the login address has none.",
        ),
        (
            "badAddress",
            "missingBody",
            "multipleFrom",
            "badFrom",
            "domainDisabled",
            "noRecipients",
            "messageLimitReached",
            "recipientLimitReached",
            "messageTooLarge",
            "malformedMessageID",
            "sentOverQuota",
            "idempotencyKeyReused",
        ),
        files=True,
    ),
    Example(
        "SuppressionList",
        "List the addresses that the account sends nothing to.",
        SuppressionListRequest(),
        SuppressionListResult([_SUPPRESSION]),
        (
            "Deliveries to such an address are not tried, whatever way the message was sent; a "
            "webhook tells of each. Addresses come on the list when deliveries have failed for "
            "good, or by SuppressionAdd.",
        ),
    ),
    Example(
        "SuppressionAdd",
        "Add an address to those that the account sends nothing to.",
        SuppressionAddRequest(
            EmailAddress="User+lists@example.net",
            Manual=True,
            Reason="asked not to be written to",
        ),
        Empty(),
        (
            "There is one entry for all variants of an address: they differ in upper and lower "
            "case, in dots, and in what follows a + or - in the part before the @.",
            "Manual tells entries made by people from those made by programs.",
        ),
        ("badAddress", "error"),
    ),
    Example(
        "SuppressionRemove",
        "Remove an address from those that the account sends nothing to.",
        SuppressionRequest(EmailAddress="user@example.net"),
        Empty(),
        (),
        ("badAddress", "error"),
    ),
    Example(
        "SuppressionPresent",
        "Say whether an address is among those that the account sends nothing to.",
        SuppressionRequest(EmailAddress="user@example.net"),
        SuppressionPresentResult(True),
        (),
        ("badAddress",),
    ),
    Example(
        "MessageGet",
        "Get text, structure and facts of a message.",
        MessageRequest(MsgID=1),
        _MESSAGE,
        (
            "Text and HTML are the first of their kind, with LF line ends, at most 1 MiB each. "
            "Other parts are in Structure, their content comes from MessagePartGet. References "
            "begin with In-Reply-To, if that is not among them.",
            "MailFromValidated and MsgFromValidated: the domains of MAIL FROM and of the From "
            "address are proven. Without them, addresses can be forged.",
        ),
        ("messageNotFound",),
    ),
    Example(
        "MessageRawGet",
        "Get the bytes of a message, as text/plain.",
        MessageRequest(MsgID=1),
        "Delivered-To: me@example.org\r\nFrom: <you@example.net>\r\nSubject: hello\r\n\r\ntext\r\n",
        (),
        ("messageNotFound",),
    ),
    Example(
        "MessagePartGet",
        "Get the content of a part of a message, without its transfer encoding.",
        MessagePartRequest(MsgID=1, PartPath=[1, 0]),
        "the bytes of the part",
        (
            "PartPath has indices, from 0, into Parts of the structure that MessageGet gives: "
            "[1, 0] is the first part within the second. An empty path is the body as a whole.",
        ),
        ("messageNotFound", "partNotFound"),
    ),
    Example(
        "MessageDelete",
        "Remove a message for good; it does not go to the trash.",
        MessageRequest(MsgID=1),
        Empty(),
        ("To move it to the trash instead, use MessageMove.",),
        ("messageNotFound",),
    ),
    Example(
        "MessageFlagsAdd",
        "Add flags to a message.",
        _FLAGS,
        Empty(),
        _FLAGS_MORE,
        ("messageNotFound",),
    ),
    Example(
        "MessageFlagsRemove",
        "Remove flags from a message.",
        _FLAGS,
        Empty(),
        _FLAGS_MORE,
        ("messageNotFound",),
    ),
    Example(
        "MessageMove",
        "Move a message to another mailbox, which must be there.",
        MessageMoveRequest(MsgID=1, DestMailboxName="Archive"),
        Empty(),
        ("The message keeps its id.",),
        ("messageNotFound",),
    ),
)

EXAMPLES: Final = {example.name: example for example in _ALL}


def indented(value: Any) -> str:
    """A value as JSON over several lines; text, which is no JSON, as it is."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
