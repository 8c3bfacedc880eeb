"""Which command gets which reply in which state (RFC 9051 sections 3 and 6)."""

from __future__ import annotations

import re

from moxtw.imap.commands import COMMANDS
from tests.unit.imap.support import Client, IMAPTestCase

MAIL = "Subject: x\r\n\r\nbody\r\n"

# For each command: arguments, and the replies when nobody has logged in, without a mailbox, with
# one selected, with one examined. OK and NO with a code in brackets have to have that code.
TABLE: dict[str, tuple[str, str, str, str, str]] = {
    "APPEND": (f" Inbox {{{len(MAIL)}+}}\r\n{MAIL}", "NO", "OK [APPENDUID", "OK [APPENDUID",
               "OK [APPENDUID"),
    "AUTHENTICATE": (" PLAIN AG1lQGV4YW1wbGUub3JnAHdyb25n", "NO [AUTHENTICATIONFAILED", "NO", "NO",
                     "NO"),
    "CANCELUPDATE": (' "x"', "NO", "NO", "NO", "NO"),
    "CAPABILITY": ("", "OK", "OK", "OK", "OK"),
    "CHECK": ("", "NO", "NO", "OK", "OK"),
    "CLOSE": ("", "NO", "NO", "OK", "OK"),
    "COMPRESS": (" LZ", "NO", "NO", "NO", "NO"),
    "COPY": (" 1 Sent", "NO", "NO", "OK [COPYUID", "OK [COPYUID"),
    "CREATE": (" new{n}", "NO", "OK [MAILBOXID", "OK [MAILBOXID", "OK [MAILBOXID"),
    "DELETE": (" nope", "NO", "NO [NONEXISTENT", "NO [NONEXISTENT", "NO [NONEXISTENT"),
    "ENABLE": (" CONDSTORE", "NO", "OK", "OK", "OK"),
    "ESEARCH": (" IN (personal) ALL", "NO", "OK", "OK", "OK"),
    "EXAMINE": (" Inbox", "NO", "OK [READ-ONLY", "OK [READ-ONLY", "OK [READ-ONLY"),
    "EXPUNGE": ("", "NO", "NO", "OK", "NO [NOPERM"),
    "FETCH": (" 1 BODY[]", "NO", "NO", "OK", "OK"),
    "GETMETADATA": (" Inbox /private/comment", "NO", "OK", "OK", "OK"),
    "GETQUOTA": (' ""', "NO", "OK", "OK", "OK"),
    "GETQUOTAROOT": (" Inbox", "NO", "OK", "OK", "OK"),
    "ID": (" NIL", "OK", "OK", "OK", "OK"),
    "IDLE": ("\r\nDONE", "NO", "OK", "OK", "OK"),
    "LIST": (' "" *', "NO", "OK", "OK", "OK"),
    "LOGIN": (" me@example.org wrong", "NO [AUTHENTICATIONFAILED", "NO", "NO", "NO"),
    "LOGOUT": ("", "OK", "OK", "OK", "OK"),
    "LSUB": (' "" *', "NO", "OK", "OK", "OK"),
    "MOVE": (" 1 Sent", "NO", "NO", "OK", "NO [NOPERM"),
    "NAMESPACE": ("", "NO", "OK", "OK", "OK"),
    "NOOP": ("", "OK", "OK", "OK", "OK"),
    "NOTIFY": (" NONE", "NO", "OK", "OK", "OK"),
    "RENAME": (" nope other", "NO", "NO [NONEXISTENT", "NO [NONEXISTENT", "NO [NONEXISTENT"),
    "REPLACE": (f" 1 Inbox {{{len(MAIL)}+}}\r\n{MAIL}", "NO", "NO", "OK", "NO [NOPERM"),
    "SEARCH": (" ALL", "NO", "NO", "OK", "OK"),
    "SELECT": (" Inbox", "NO", "OK [READ-WRITE", "OK [READ-WRITE", "OK [READ-WRITE"),
    "SETMETADATA": (' Inbox (/private/comment "x")', "NO", "OK", "OK", "OK"),
    "SORT": (" (ARRIVAL) UTF-8 ALL", "NO", "NO", "OK", "OK"),
    "STARTTLS": ("", "BAD", "NO", "NO", "NO"),
    "STATUS": (" nope (MESSAGES)", "NO", "NO [NONEXISTENT", "NO [NONEXISTENT", "NO [NONEXISTENT"),
    "STORE": (" 1 +FLAGS (\\Seen)", "NO", "NO", "OK", "NO [NOPERM"),
    "SUBSCRIBE": (" Sent", "NO", "OK", "OK", "OK"),
    "THREAD": (" REFERENCES UTF-8 ALL", "NO", "NO", "OK", "OK"),
    "UID COPY": (" 1:* Sent", "NO", "NO", "OK [COPYUID", "OK [COPYUID"),
    "UID EXPUNGE": (" 1:*", "NO", "NO", "OK", "NO [NOPERM"),
    "UID FETCH": (" 1:* FLAGS", "NO", "NO", "OK", "OK"),
    "UID MOVE": (" 1:* Sent", "NO", "NO", "OK", "NO [NOPERM"),
    "UID REPLACE": (f" * Inbox {{{len(MAIL)}+}}\r\n{MAIL}", "NO", "NO", "OK", "NO [NOPERM"),
    "UID SEARCH": (" ALL", "NO", "NO", "OK", "OK"),
    "UID SORT": (" (ARRIVAL) UTF-8 ALL", "NO", "NO", "OK", "OK"),
    "UID STORE": (" 1:* +FLAGS (\\Seen)", "NO", "NO", "OK", "NO [NOPERM"),
    "UID THREAD": (" REFERENCES UTF-8 ALL", "NO", "NO", "OK", "OK"),
    "UNSELECT": ("", "NO", "NO", "OK", "OK"),
    "UNSUBSCRIBE": (" nope", "NO", "NO [NONEXISTENT", "NO [NONEXISTENT", "NO [NONEXISTENT"),
}  # fmt: skip

# Commands that tell what they do without arguments.
ALONE = frozenset(
    "CAPABILITY CHECK CLOSE EXPUNGE IDLE LOGOUT NAMESPACE NOOP STARTTLS UNSELECT".split()  # noqa: SIM905
)


class StateTests(IMAPTestCase):
    count = 0

    def client(self, state: int) -> Client:
        """A connection in the state of a column."""
        self.count += 1
        client = self.connect(f"192.0.2.{self.count % 250 + 1}")
        client.output()
        if state:
            client.login()
        if state > 1:
            self.deliver()
            client.ok(("SELECT" if state == 2 else "EXAMINE") + " Inbox")
        return client

    def reply(self, client: Client, command: str) -> str:
        client.send(f"t {command}\r\n".encode())
        self.clock.pump([0, 0, 0.1])
        replies = [r for r in client.responses() if r.kind == "tagged"]
        # What is refused does not take the DONE for its own.
        self.assertEqual(len(replies), 1 + (command[:4] == "IDLE" and replies[0].name == "NO"))
        return replies[0].raw.decode().removeprefix("t ").strip()

    def test_every_command_is_in_the_table(self) -> None:
        self.assertEqual(sorted(TABLE), sorted(name.decode() for name in COMMANDS))

    def test_replies(self) -> None:
        wrong = []
        for name, (arguments, *columns) in TABLE.items():
            for state, expected in enumerate(columns):
                client = self.client(state)
                text = name + arguments.replace("{n}", str(self.count))
                reply = self.reply(client, text)
                if not reply.startswith(expected) or "SERVERBUG" in reply:
                    wrong.append((name, state, expected, reply))
                elif name != "LOGOUT" and not re.match(r"(OK|BAD) ", self.reply(client, "NOOP")):
                    wrong.append((name, state, "NOOP", "the connection is of no use"))
                client.transport.loseConnection()
        self.assertEqual(wrong, [])

    def test_arguments_are_asked_for(self) -> None:
        """Without arguments, and with too many, all commands are BAD, and nothing happens."""
        client = self.client(2)
        for name in TABLE:
            if name not in ALONE and name not in ("LOGIN", "AUTHENTICATE"):
                self.assertTrue(self.reply(client, name).startswith("BAD "), name)
                self.assertTrue(self.reply(client, name + " ").startswith("BAD "), name)
            elif name not in ("LOGIN", "AUTHENTICATE", "STARTTLS"):
                self.assertTrue(self.reply(client, name + " x").startswith("BAD "), name)
        self.assertEqual(self.reply(client, "FETCH 1 UID"), "OK FETCH done")

    def test_case_does_not_matter(self) -> None:
        client = self.client(2)
        self.assertEqual(self.reply(client, "uid Fetch 1 (uId fLaGs)"), "OK FETCH done")
        self.assertEqual(self.reply(client, "search uNsEeN"), "OK SEARCH done")
        self.assertEqual(self.reply(client, "noop"), "OK NOOP done")

    def test_examined_mailboxes_stay_as_they_are(self) -> None:
        client = self.client(3)
        before = client.ok("FETCH 1:* (FLAGS)")
        for name, (arguments, *_) in TABLE.items():
            if name in ("CLOSE", "UNSELECT", "SELECT", "LOGOUT", "APPEND"):
                continue
            self.reply(client, name + arguments.replace("{n}", "x"))
            client.ok("EXAMINE Inbox")
        self.assertEqual(client.ok("FETCH 1:* (FLAGS)"), before)
        client.ok("CLOSE")
        client.ok("SELECT Inbox")
        self.assertEqual(client.ok("FETCH 1:* (FLAGS)"), before)
