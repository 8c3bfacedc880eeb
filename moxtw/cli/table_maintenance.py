"""Commands on what is stored as a whole: backup and verification."""

from __future__ import annotations

from moxtw.cli.command import BOOL, Command, Flag

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
)
