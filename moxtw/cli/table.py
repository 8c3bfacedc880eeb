"""All commands."""

from __future__ import annotations

from moxtw.cli.command import BOOL, TEXT, Command, Flag

_ALL = (
    Command(
        "serve",
        "",
        "server:serve",
        """Run the server in the foreground.

Log lines are written to standard error. It is the same as "twistd -n moxtw -c mox.conf".

Started as root, it binds its addresses, then becomes the user of the configuration (User,
by default mox). Started as another user it runs as that user, and all ports must be free for
it to use.

SIGINT and SIGTERM, and "moxtw stop", stop it: no connections are accepted any more, those that
are open may finish what they do within 3 seconds. The exit code is the number of the signal,
0 after "moxtw stop", 1 if the server could not start.""",
    ),
    Command(
        "localserve",
        "",
        "server:localserve",
        """Run a mail server for trying and testing, on loopback only.

The first use makes a folder with configuration, certificate, keys and an account, and later
ones serve what is in it. Everything that is sent to it, to any address, is delivered to
account mox; nothing leaves the machine, and no network is needed. Addresses, ports and
passwords are printed at the start.

Local parts of recipients that end in temperror, permerror, three digits from 400 to 600 or
timeout make a delivery fail in that way after DATA. With prefix mailfrom or rcptto it fails at
that command, and with prefix queue it is accepted and fails from the queue.""",
        flags=(
            Flag("dir", TEXT, "Folder, by default moxtw-localserve in the user's configuration."),
            Flag("ip", TEXT, "Serve on this address instead of 127.0.0.1 and ::1."),
            Flag("initonly", BOOL, "Make the folder, and do not serve."),
        ),
    ),
    Command(
        "help",
        "[command …]",
        "main:help_command",
        "Print help about a command, about a group of commands, or the list of all.",
        (0, None),
    ),
    Command("helpall", "", "main:helpall_command", "Print help about all commands."),
    Command("version", "", "tools:version", "Print the version of this program."),
)

COMMANDS = {command.words: command for command in _ALL}
"""Commands by their words, in the order of lists."""
