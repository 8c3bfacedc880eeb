"""Commands to set a server up."""

from __future__ import annotations

from moxtw.cli.command import BOOL, TEXT, Command, Flag

SETUP_COMMANDS = (
    Command(
        "quickstart",
        "user@domain [user | uid]",
        "quickstart:quickstart",
        """Set up a mail server: configuration, keys, passwords, DNS records, what to do next.

Run it as root on the machine that will be the mail server, in a folder for it such as
/home/mox. The first address is that of the first account, which is also postmaster and gets
reports. The user or uid is who the server runs as once its ports are open, by default mox.

First it looks around, and warns of what is not as it should be: the DNS resolver, the name and
the addresses of the machine, DNSSEC and records of the domain, reverse names, whether port 25
of others can be reached, the age of the domain, block lists, programs on ports that are needed.
Then it writes config/mox.conf (or what -config names), domains.conf, keys for DKIM and TLS and
the admin password beside it, and moxtw.service, a unit file for systemd; and it makes the first
account in data. What it prints, passwords too, is also kept in quickstart.log. Files that exist
are never overwritten, and after an error nothing is left.

The hostname is the system's name if that is a full one, else a reverse name of its public
addresses, else a guess. Others find and judge a mail server by that name. The server listens on
the addresses that DNS has for it, or else on public ones; if the machine has private addresses
only, those of DNS are taken for the outside of NAT.""",
        (1, 2),
        (
            Flag(
                "existing-webserver",
                BOOL,
                "Another program has ports 80 and 443, passes requests on, and gets certificates.",
            ),
            Flag("hostname", TEXT, "The full name of this machine, instead of finding it out."),
            Flag("skipdial", BOOL, "Do not connect to others, for port 25 and the domain's age."),
            Flag(
                "ips",
                TEXT,
                "Addresses to listen on, with commas, instead of those that are found.",
            ),
            Flag(
                "resolver",
                TEXT,
                "Ask this DNS resolver (ip, ip:port or [ip6]:port) instead of those of the system, "
                "now and in mox.conf.",
            ),
        ),
    ),
)
