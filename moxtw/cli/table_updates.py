"""Commands on new versions of the program."""

from __future__ import annotations

from moxtw.cli.command import RESOLVER, TEXT, Command, Flag

UPDATE_COMMANDS = (
    Command(
        "checkupdate",
        "",
        "updates:checkupdate",
        """Look whether there is a new version of this program, and print what is new in it.

The configuration says who announces versions (Updates). The latest one is looked up in DNS, and
only if it is later than this one and than the last one that the postmaster was told of,
descriptions are requested over HTTPS. They have to be signed with the configured key. With
CheckUpdates, the server does this once a day.""",
        flags=(RESOLVER,),
    ),
    Command(
        "updates addsigned",
        "privkey-file changelog-file <text",
        "updates:addsigned",
        """Sign the description of a version, and add it to a changelog.

The text begins with lines "version: v1.2.3" and "date: 2026-01-02" and an empty line. Its
version must be later than those in the file, which is made if it does not exist.""",
        (2, 2),
    ),
    Command(
        "updates genkey",
        ">privkey-file",
        "updates:genkey",
        "Print a new private key to sign a changelog with.",
    ),
    Command(
        "updates pubkey",
        "<privkey-file",
        "updates:pubkey",
        "Print the public key of a private one, for Updates in mox.conf.",
    ),
    Command(
        "updates serve",
        "",
        "updates:serve",
        """Serve a changelog over HTTP, for a web server in front that adds TLS.

Servers request https://updates.<domain>/ and get JSON; browsers get a page. The file is read
with each request. The versions themselves are announced by a DNS TXT record at
_updates.<domain>: "v=UPDATES0; l=v1.2.3".""",
        flags=(
            Flag("address", TEXT, "Address and port, by default 127.0.0.1:8596."),
            Flag("changelog", TEXT, "The file, by default changelog.json."),
        ),
    ),
    Command(
        "updates verify",
        "pubkey <changelog-file",
        "updates:verify",
        "Check that all of a changelog is signed with a key.",
        (1, 1),
    ),
)
