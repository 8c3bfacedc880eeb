"""All commands."""

from __future__ import annotations

from moxtw.cli.command import BOOL, INT, TEXT, Command, Flag
from moxtw.cli.table_config import CONFIG_COMMANDS
from moxtw.cli.table_junk import JUNK_COMMANDS
from moxtw.cli.table_maintenance import MAINTENANCE_COMMANDS
from moxtw.cli.table_queue import QUEUE_COMMANDS
from moxtw.cli.table_safety import SAFETY_COMMANDS
from moxtw.cli.table_senders import SENDER_COMMANDS
from moxtw.cli.table_setup import SETUP_COMMANDS
from moxtw.cli.table_transfers import TRANSFER_COMMANDS
from moxtw.cli.table_updates import UPDATE_COMMANDS

_ALL = (
    *SETUP_COMMANDS,
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
        logs=True,
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
        logs=True,
    ),
    Command(
        "stop",
        "",
        "server:stop",
        """Stop the running server, as SIGTERM does.

Returns when it has stopped: connections that are open get up to 3 seconds to finish what they
do.""",
    ),
    Command(
        "setaccountpassword",
        "account",
        "server:set_account_password",
        """Set a new password for an account.

At a terminal it is asked for twice, and not shown; otherwise it is the first line of standard
input. It is used for SMTP, IMAP and the web pages, with each address of the account. Sessions
of the account on web pages end. The server must be running.""",
        (1, 1),
    ),
    Command(
        "setadminpassword",
        "",
        "server:set_admin_password",
        """Set a new admin password, for the admin web pages.

At a terminal it is asked for twice, and not shown; otherwise it is the first line of standard
input. A hash of it is written to the AdminPasswordFile of mox.conf. The server need not be
running, and a running one uses the new password from then on.""",
    ),
    Command(
        "admin imapserve",
        "address",
        "server:imapserve",
        """Serve an IMAP session on standard input and output, of the account with an address.

The running server serves it, without login: for IMAP clients that run a command to connect, such
as mbsync with "Tunnel", and to look at an account. It is in the audit log.""",
        (1, 1),
        (Flag("fd0", BOOL, "Use standard input for both directions, as with a socket there."),),
    ),
    Command(
        "auditlog",
        "[filter flags]",
        "server:auditlog",
        """Print what was changed in the running server, by whom, from where, and how it ended.

Operations of both JSON APIs, of commands, and edits of domains.conf, the latest first. An
operation that has not ended, or was cut off by a crash, has no result. Passwords and other
secrets are not in the log. Entries are kept for a year.

Times are dates or times (2026-01-31, 2026-01-31T12:00:00Z), or durations from now on (-24h).""",
        flags=(
            Flag("n", INT, "Not more than so many, by default 1000, which is also the most."),
            Flag("before", INT, "Only those that came before the entry with this id."),
            Flag("caller", TEXT, 'Only of this account, "(admin)", or "uid 0" for commands.'),
            Flag("operation", TEXT, "Only of this function or command."),
            Flag("since", TEXT, "Only from this time on."),
            Flag("until", TEXT, "Only before this time."),
            Flag("json", BOOL, "Print JSON, as the admin API does."),
        ),
    ),
    Command(
        "loglevels",
        "[level [package]]",
        "server:loglevels",
        """Print the log levels of the running server, or set one.

Without arguments, the default level and the packages with a level of their own are printed.
With a level, that of a package is set, or the default. This lasts until the server starts
again; mox.conf has the levels of the start (LogLevel, PackageLogLevels).

Levels: error, warn, info, debug, trace, traceauth, tracedata. trace shows what is sent and
received, without passwords and messages; traceauth shows passwords, tracedata messages too.""",
        (0, 2),
    ),
    *QUEUE_COMMANDS,
    *CONFIG_COMMANDS,
    *JUNK_COMMANDS,
    Command(
        "example",
        "[name]",
        "config:example",
        "Print an example of a part of the configuration, or the list of examples.",
        (0, 1),
    ),
    Command(
        "clientconfig",
        "domain",
        "config:client_config",
        """Print what mail programs are to be set to, for users of a domain.

Protocols, hosts and ports are those of the listeners in mox.conf.""",
        (1, 1),
    ),
    Command(
        "cid",
        "text",
        "tools:cid",
        """Print the connection id of a text that was shown to an outsider.

Received lines of messages, and errors over TLS and HTTP, have an encrypted form of the
connection id. It is decrypted with data/receivedid.key, and printed in hex, as in log lines.""",
        (1, 1),
        dashes=True,
    ),
    Command(
        "dns lookup",
        "[ptr | mx | cname | ips | a | aaaa | ns | txt | srv | tlsa] name",
        "dns:lookup",
        """Look up a name, or for ptr an IP address, and print the records.

Asks the Resolvers of mox.conf if there are any, else those of /etc/resolv.conf, and prints
whether DNSSEC vouches for the answer. Without a type, IP addresses are looked up.""",
        (1, 2),
    ),
    Command(
        "dkim gened25519",
        ">selector._domainkey.domain.ed25519.privatekey.pkcs8.pem",
        "dkim:gen_ed25519",
        """Make an ed25519 key for DKIM, and print it in PKCS#8 PEM.

Many receivers cannot verify ed25519 signatures yet: sign with an RSA key too. "moxtw dkim txt"
prints the DNS record.""",
    ),
    Command(
        "dkim genrsa",
        ">selector._domainkey.domain.rsa2048.privatekey.pkcs8.pem",
        "dkim:gen_rsa",
        """Make an RSA key of 2048 bits for DKIM, and print it in PKCS#8 PEM.

"moxtw dkim txt" prints the DNS record.""",
    ),
    Command(
        "dkim txt",
        "<selector._domainkey.domain.key.pkcs8.pem",
        "dkim:txt",
        """Print the DNS record for a private key, which is read from standard input.""",
    ),
    Command(
        "dkim lookup",
        "selector domain",
        "dns:dkim_lookup",
        """Look up the DNS record of a selector, and print it.""",
        (2, 2),
    ),
    Command(
        "dkim sign",
        "message-file",
        "dkim:sign",
        """Print a message with DKIM signatures in front.

The domain of the From address must be configured with selectors to sign with. Line ends
become CRLF, as on the wire. A signature that is there already stays.""",
        (1, 1),
    ),
    *SENDER_COMMANDS,
    *SAFETY_COMMANDS,
    Command(
        "message parse",
        "message-file",
        "tools:message_parse",
        """Print what is found in a message, as JSON.

That is its addresses, ids, dates, and the tree of its parts with their places in the file.
"-" reads standard input.""",
        (1, 1),
        (Flag("smtputf8", BOOL, "UTF-8 in headers and addresses is expected, not warned about."),),
    ),
    Command(
        "sendmail",
        "[-Fname] [-t] [-i] [other flags] [recipient ...] <message-file",
        "sendmail:sendmail",
        """Submit a message, for programs that call sendmail.

The message is read from standard input, up to its end or, without -i, to a line with only a
dot. Its recipients are the arguments, or with -t those of To, Cc and Bcc. A name without @
stands for the DefaultDestination. From is replaced by the configured address, with the name of
-F; Date and Message-Id are added if they are missing; Bcc is taken out. Other flags that
sendmail had are ignored.

/etc/moxsubmit.conf (or the file named by MOXSUBMITCONF) says where to and how; "moxtw config
describe-sendmail" prints an example. It holds a password: let only a group read it to which
the users belong that may send, such as moxsubmit.

A link with the name sendmail to the program acts as this command. If submission fails, the
message is kept in ~/moxsubmit.failures, and the exit code is 1.""",
        (0, None),
        dashes=True,
    ),
    Command(
        "webapi",
        "[method [base-url-with-credentials]]",
        "webapi:webapi",
        """Call a method of the HTTP API for programs, or tell about methods.

Without arguments the methods are listed, with a method its request and answer are shown. With
a base URL, such as http://mox%40localhost:moxmoxmox@localhost:1080/webapi/, the method is
called: its request is read as JSON from standard input, and the answer is printed.""",
        (0, 2),
    ),
    *MAINTENANCE_COMMANDS,
    *TRANSFER_COMMANDS,
    *UPDATE_COMMANDS,
    Command(
        "help",
        "[command …]",
        "main:help_command",
        "Print help about a command, about a group of commands, or the list of all.",
        (0, None),
    ),
    Command("helpall", "", "main:helpall_command", "Print help about all commands."),
    Command(
        "completion",
        "shell",
        "completion:completion",
        """Print a script that lets a shell complete commands, flags and their values.

The shell is bash or zsh. This loads it, and in ~/.bashrc or ~/.zshrc it does at each start:

    source <(moxtw completion bash)

Files are completed where a command takes other things.""",
        (1, 1),
    ),
    Command(
        "licenses",
        "",
        "tools:licenses",
        "Print the licenses of this program and of the packages that it is made of.",
    ),
    Command("version", "", "tools:version", "Print the version of this program."),
)

COMMANDS = {command.words: command for command in _ALL}
"""Commands by their words, in the order of lists."""
