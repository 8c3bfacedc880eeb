"""What a command is: its words, parameters, flags and documentation.

Only data, and quick to import: what commands do stands in modules that are imported when a
command runs.
"""

from __future__ import annotations

TEXT = "string"
INT = "int"
BOOL = "bool"
BOOL_VALUE = "true|false"
"""A flag that needs its value, unlike BOOL."""
IDS = "ids"


class Flag:
    """A flag of a command.

    kind: BOOL (given or not, or ``-flag=false``), TEXT, INT, BOOL_VALUE, IDS (numbers with
    commas between them), or the values to choose from with "|" between them. A flag that is
    not given has the value None, and False for BOOL.
    """

    __slots__ = ("doc", "kind", "name")

    def __init__(self, name: str, kind: str, doc: str) -> None:
        self.name = name
        self.kind = kind
        self.doc = doc

    @property
    def usage(self) -> str:
        """The flag as in help: ``-name kind``."""
        return f"-{self.name}" if self.kind == BOOL else f"-{self.name} {self.kind}"


RESOLVER = Flag(
    "resolver",
    TEXT,
    "Ask this DNS resolver (ip, ip:port or [ip6]:port) instead of those of mox.conf or the system.",
)
"""For commands that ask the DNS; see `moxtw.cli.dns.make_resolver`."""


class Command:
    """A command.

    words: its name ("queue list"); params: the rest of its usage line; run: "module:function"
    below moxtw.cli; doc: what it does, in paragraphs, the first sentence for lists; args: how
    many arguments it takes at least and at most (None: any number); logs: whether it sees to
    its log itself; dashes: whether its arguments may begin with a dash.
    """

    __slots__ = ("dashes", "doc", "flags", "least", "logs", "most", "params", "run", "words")

    def __init__(
        self,
        words: str,
        params: str,
        run: str,
        doc: str,
        args: tuple[int, int | None] = (0, 0),
        flags: tuple[Flag, ...] = (),
        *,
        logs: bool = False,
        dashes: bool = False,
    ) -> None:
        self.words = tuple(words.split())
        self.params = params
        self.run = run
        self.doc = doc
        self.least, self.most = args
        self.flags = flags
        self.logs = logs
        self.dashes = dashes

    @property
    def name(self) -> str:
        """The words as typed."""
        return " ".join(self.words)

    @property
    def usage(self) -> str:
        """The usage line."""
        return f"moxtw {self.name} {self.params}".rstrip()

    @property
    def summary(self) -> str:
        """The first sentence of the documentation, without its stop."""
        first = self.doc.split("\n\n", 1)[0].replace("\n", " ")
        return first.split(". ", 1)[0].rstrip(".")


class CommandError(Exception):
    """A command that failed; the message is for people. Exit code 1."""


class UsageError(Exception):
    """A command that was called in a wrong way. Exit code 2, with the usage line."""
