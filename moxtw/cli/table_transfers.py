"""Commands that import and export mail."""

from __future__ import annotations

from moxtw.cli.command import BOOL, Command, Flag

_IMPORT = """

The running server reads it, so its user must be able to. Missing mailboxes are made. Progress is
printed each 1000 messages. Messages train the junk filter by their flags, as others do. There is
no search for duplicates: what is imported twice is there twice. But an import that was
interrupted, by a crash or a stop of the server, goes on where it was when the command is called
again. If an import fails, because the quota is reached for example, what it has added is removed
again.

It may also be a zip or (gzipped) tar file with several mbox files and maildirs. Their mailboxes
are then made below the given mailbox."""

_EXPORT = """

The account is given by its name, or by a path that ends in it, as data/accounts/name or data/name,
whose first part is the data directory: this is how to export from a backup. If a server is
running on the data directory, it is asked; else the database is opened directly.

Without mailbox all mailboxes are exported; with one, those below it too, and the name of its
parent is left away. Files that are there already are not replaced."""

TRANSFER_COMMANDS = (
    Command(
        "import maildir",
        "account mailbox maildir",
        "transfers:import_maildir",
        f"""Import a maildir into a mailbox.

A maildir is a folder with new and cur. Flags are taken from names of files, keywords from letters
there and the file dovecot-keywords, times from the names or else from the files.{_IMPORT}""",
        (3, 3),
    ),
    Command(
        "import mbox",
        "account mailbox mbox",
        "transfers:import_mbox",
        f"""Import an mbox file into a mailbox.

Flags are taken from the header fields Status, X-Status and X-Keywords, times from the lines
between messages.{_IMPORT}""",
        (3, 3),
    ),
    Command(
        "export maildir",
        "directory account [mailbox]",
        "transfers:export_maildir",
        f"""Export mailboxes as maildirs to a directory.

Each gets a file dovecot-keywords that says what letters in names of files mean.{_EXPORT}""",
        (2, 3),
        (Flag("single", BOOL, "Only the mailbox, without those below it."),),
    ),
    Command(
        "export mbox",
        "directory account [mailbox]",
        "transfers:export_mbox",
        f"""Export mailboxes as mbox files to a directory.

Flags and keywords are in header fields Status, X-Status and X-Keywords.{_EXPORT}""",
        (2, 3),
        (Flag("single", BOOL, "Only the mailbox, without those below it."),),
    ),
)
