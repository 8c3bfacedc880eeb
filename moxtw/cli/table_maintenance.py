"""Commands on what is stored as a whole: backup, verification, repair."""

from __future__ import annotations

from moxtw.cli.command import BOOL, TEXT, Command, Flag

MAINTENANCE_COMMANDS = (
    Command(
        "backup",
        "directory",
        "maintenance:backup",
        """Make a backup of the running server in a directory.

The directory must be new or empty, and the server's user must be able to write to it. It gets
config/ and data/ as the server has them: the database as of one moment, the content of all
messages in it, keys, certificates of ACME. The server goes on working meanwhile.

Content files never change. They are linked, which takes no room and no time, if the directory
is on the same file system. Else those that a backup beside the directory has already are linked
to that one, and only new ones are copied.

The file backup.json in the directory is written last: without it a backup is not complete. Call
the command again with the same directory to finish a backup that was interrupted. The exit code
is 1 if anything could not be copied.

"moxtw restoredrill" tries a backup out, "moxtw verifydata" checks one.""",
        (1, 1),
        (Flag("verbose", BOOL, "Print each step."),),
    ),
    Command(
        "restoredrill",
        "backup-directory",
        "restore:restoredrill",
        """Try a backup out: restore it, check it, and say whether it would serve.

The backup must be complete. Its files are compared with backup.json, then everything is restored
to a scratch directory. There the configuration is loaded with the files that it names, the
database opened by this version, all that "moxtw verifydata" checks is checked, and each
configured account looked for. The scratch directory is removed again; the backup stays as it is,
and no running server is disturbed. The exit code is 0 if it would serve.""",
        (1, 1),
        (Flag("dir", TEXT, "Restore to this new directory, and keep it."),),
    ),
    Command(
        "verifydata",
        "data-directory",
        "datadir:verifydata",
        """Check the content of a data directory, or of a backup.

For a copy, or while the server is stopped. A database of an older version is upgraded first,
which tells whether this version can use it.

Checked are the database as such, the numbers given out next, names, UIDs, change numbers,
counts and keywords of mailboxes, sizes, threads and text of messages, disk usage, annotations,
the junk filter's counts, the queue, and the content of every message against its digest; of a
backup also that it is complete, and its other files. Prints what is wrong, at most 20 of a kind;
the exit code is then 1. Files that belong to no message, and unknown ones, are warned about.

Nothing is changed without -fix. It sets right what can be computed from the rest: counts, disk
usage, sizes, and numbers given out next. Damaged content stays as it is.""",
        (1, 1),
        (
            Flag(
                "fix",
                BOOL,
                "Repair, and move files that belong to no message to moved/; delete nothing.",
            ),
            Flag("skip-size-check", BOOL, "Do not read the content of messages."),
        ),
    ),
    Command(
        "bumpuidvalidity",
        "account [mailbox]",
        "datadir:bumpuidvalidity",
        """Give a mailbox, or all of an account, a new UIDVALIDITY.

IMAP clients then forget what they keep of the mailbox. For use after a backup was restored, if
messages came in after it was made: their UIDs are given again. The server must be stopped.""",
        (1, 2),
    ),
    Command(
        "reassignuids",
        "account [mailbox-id]",
        "datadir:reassignuids",
        """Give the messages of a mailbox, or of all of an account, UIDs from 1 on.

In the order in which they were added, with a new UIDVALIDITY. Other mailboxes stay as they are.
All or nothing is changed. The server must be stopped.""",
        (1, 2),
    ),
    Command(
        "fixuidmeta",
        "account",
        "datadir:fixuidmeta",
        """Raise UIDNEXT of mailboxes and the next UIDVALIDITY above those in use.

Prints what was changed. The server must be stopped.""",
        (1, 1),
    ),
    Command(
        "recalculatemailboxcounts",
        "account",
        "maintenance:recalculatemailboxcounts",
        """Count the messages of all mailboxes of an account anew, and what they use.

By the running server. Prints what was wrong.""",
        (1, 1),
    ),
    Command(
        "fixmsgsize",
        "[account]",
        "maintenance:fixmsgsize",
        """Set the sizes of messages right, of an account or of all accounts.

By the running server, with counts and disk usage. The size is that of what is there: content
that was cut off is told by "moxtw verifydata". Messages without content are printed, and the
exit code is then 1.""",
        (0, 1),
    ),
    Command(
        "reparse",
        "[account]",
        "maintenance:reparse",
        """Parse all messages again, of an account or of all accounts.

By the running server, some at a time: what lists, searches and threads ask for is made anew.
Needed after a damage only. Messages that cannot be read are printed, and the exit code is then
1; what is known of them stays.""",
        (0, 1),
    ),
    Command(
        "reassignthreads",
        "[account]",
        "maintenance:reassignthreads",
        """Assign the threads of messages anew, of an account or of all accounts.

By the running server. A message goes to its thread when it is added, and stays there, also if
what it answers comes later; this brings those together. All changes of an account are made at
once, or none.""",
        (0, 1),
    ),
    Command(
        "ensureparsed",
        "account",
        "datadir:ensureparsed",
        """Parse messages that were not parsed, or by an older version.

The server must be stopped.""",
        (1, 1),
        (Flag("all", BOOL, "Parse all messages."),),
    ),
)
