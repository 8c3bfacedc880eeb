"""Commands on the configuration."""

from __future__ import annotations

from moxtw.cli.command import BOOL, BOOL_VALUE, RESOLVER, Command, Flag

CONFIG_COMMANDS = (
    Command(
        "config test",
        "",
        "config:test",
        """Check mox.conf and domains.conf.

Both files are read, with the keys and certificates that they name. Prints "config OK", or all
errors with the lines that they are in.""",
    ),
    Command(
        "config dnscheck",
        "[-json] domain",
        "domaincheck:dnscheck",
        """Check a domain: whether DNS, TLS and policies fit the configuration.

Looks up all records that a domain and its mail host should have, connects to the mail hosts and
to the hosts for mail programs, and fetches the MTA-STS policy. Prints errors and warnings by
section, nothing for what is well. Takes up to 30 seconds. The exit code is 1 if there are
errors.""",
        (1, 1),
        (
            Flag("json", BOOL, "Print all that was found, as JSON."),
            Flag("instructions", BOOL, "Print also what to do, with records for DNS."),
            RESOLVER,
        ),
    ),
    Command(
        "config dnsrecords",
        "[-json] domain",
        "domaincheck:dnsrecords",
        """Print the DNS records that a domain should have, as lines of a zone file.

The records follow from the configuration. Whether the zone is signed with DNSSEC is looked up,
as records for DANE have no effect without it. The server need not be running.""",
        (1, 1),
        (Flag("json", BOOL, "Print the records as a list in JSON."), RESOLVER),
    ),
    Command(
        "config account list",
        "",
        "admin:account_list",
        "List all accounts. The server must be running.",
    ),
    Command(
        "config account addresses",
        "account",
        "admin:account_addresses",
        "List the addresses of an account. @domain stands for all of a domain.",
        (1, 1),
    ),
    Command(
        "config account add",
        "account address",
        "admin:account_add",
        """Add an account with an address.

The domain of the address must be configured. Set a password with "moxtw setaccountpassword",
to be able to log in.""",
        (2, 2),
    ),
    Command(
        "config account rm",
        "account",
        "admin:account_remove",
        """Remove an account, with all its mail.

Its messages in the queue fail, its addresses leave aliases, and its sessions end.""",
        (1, 1),
    ),
    Command(
        "config account disable",
        "account message",
        "admin:account_disable",
        """Refuse logins to an account.

The message is shown to who tries to log in. Sessions of the account end; mail for it still
arrives.""",
        (2, 2),
    ),
    Command(
        "config account enable",
        "account",
        "admin:account_enable",
        "Allow logins to an account again.",
        (1, 1),
    ),
    Command(
        "config address add",
        "address account",
        "admin:address_add",
        """Add an address to an account.

"@domain" adds all addresses of a domain that no account has.""",
        (2, 2),
    ),
    Command(
        "config address rm",
        "address",
        "admin:address_remove",
        """Remove an address from its account.

It leaves aliases too. The last address of an account can be removed: it gets no mail then.""",
        (1, 1),
    ),
    Command(
        "config address account",
        "address",
        "admin:address_account",
        "Print the account that an address belongs to.",
        (1, 1),
    ),
    Command(
        "config domain add",
        "[-disabled] domain account [localpart]",
        "admin:domain_add",
        """Add a domain.

The account gets the reports of others about the domain. With a localpart the account is a new
one, and has that address. Keys for DKIM are made.""",
        (2, 3),
        (
            Flag(
                "disabled",
                BOOL,
                "Take no mail for the domain and send none from it, and get no certificates for "
                "it yet.",
            ),
        ),
    ),
    Command(
        "config domain rm",
        "domain",
        "admin:domain_remove",
        """Remove a domain, and its aliases.

It must have no addresses any more. Its DKIM keys are moved to dkim/old.""",
        (1, 1),
    ),
    Command(
        "config domain disable",
        "domain",
        "admin:domain_disable",
        "Disable a domain: no mail is taken for it or sent from it, certificates are not renewed.",
        (1, 1),
    ),
    Command(
        "config domain enable",
        "domain",
        "admin:domain_enable",
        "Enable a domain that was disabled.",
        (1, 1),
    ),
    Command(
        "config tlspubkey list",
        "[account]",
        "tlspubkey:list_",
        "List the TLS public keys of an account, or of all accounts.",
        (0, 1),
    ),
    Command(
        "config tlspubkey get",
        "fingerprint",
        "tlspubkey:get",
        "Print a TLS public key, with its certificate.",
        (1, 1),
        dashes=True,
    ),
    Command(
        "config tlspubkey add",
        "address [name] <certificate.pem",
        "tlspubkey:add",
        """Let a TLS client certificate log in to an account.

The certificate is read from standard input. Only its key counts: dates, names and signature
are not looked at. IMAP connections with it are logged in from their start, with the address;
otherwise clients log in with mechanism EXTERNAL.""",
        (1, 2),
        (
            Flag(
                "no-imap-preauth",
                BOOL,
                "Do not log IMAP connections in from their start: some programs do not expect it.",
            ),
        ),
    ),
    Command(
        "config tlspubkey rm",
        "fingerprint",
        "tlspubkey:remove",
        "Remove a TLS public key: its certificate logs in no more.",
        (1, 1),
        dashes=True,
    ),
    Command(
        "config tlspubkey gen",
        "stem",
        "tlspubkey:gen",
        """Make an ed25519 key and a certificate for a mail program.

Files are written whose names begin with stem: the private key, the certificate, and both
together, as programs want them. The seed of the key is printed too. The server is not asked:
"moxtw config tlspubkey add" makes the key known.""",
        (1, 1),
    ),
    Command(
        "config alias list",
        "domain",
        "admin:alias_list",
        "List the aliases of a domain.",
        (1, 1),
    ),
    Command(
        "config alias print",
        "alias",
        "admin:alias_print",
        "Print the settings and members of an alias.",
        (1, 1),
    ),
    Command(
        "config alias add",
        "alias@domain member@domain …",
        "admin:alias_add",
        "Add an alias, with members. Mail to it goes to all of them.",
        (2, None),
    ),
    Command(
        "config alias update",
        "alias@domain [-postpublic=bool] [-listmembers=bool] [-allowmsgfrom=bool]",
        "admin:alias_update",
        "Change the settings of an alias. What is not given stays as it is.",
        (1, 1),
        (
            Flag("postpublic", BOOL_VALUE, "Anybody may send to the alias, not only members."),
            Flag("listmembers", BOOL_VALUE, "Members can see who the members are."),
            Flag("allowmsgfrom", BOOL_VALUE, "Members may send with the alias in From."),
        ),
    ),
    Command(
        "config alias rm",
        "alias@domain",
        "admin:alias_remove",
        "Remove an alias.",
        (1, 1),
    ),
    Command(
        "config alias addaddr",
        "alias@domain member@domain …",
        "admin:alias_add_members",
        "Add members to an alias.",
        (2, None),
    ),
    Command(
        "config alias rmaddr",
        "alias@domain member@domain …",
        "admin:alias_remove_members",
        "Remove members from an alias.",
        (2, None),
    ),
    Command(
        "config ensureacmehostprivatekeys",
        "",
        "config:ensure_host_keys",
        """Make the private keys that listeners with certificates by ACME lack.

With keys of its own (HostPrivateKeyFiles) a listener gets certificates for the same keys again
and again, so that TLSA records for DANE stay true. Each listener has one ECDSA P-256 and one RSA
key of 2048 bits. Keys that are missing are written to hostkeys beside mox.conf, and what to add
to mox.conf is printed. Nothing that exists is changed.""",
    ),
    Command(
        "config describe-static",
        ">mox.conf",
        "config:describe_static",
        "Print an annotated mox.conf, with every field.",
    ),
    Command(
        "config describe-domains",
        ">domains.conf",
        "config:describe_domains",
        "Print an annotated domains.conf, with every field.",
    ),
    Command(
        "config describe-sendmail",
        ">/etc/moxsubmit.conf",
        "config:describe_sendmail",
        """Print an annotated moxsubmit.conf, the configuration of "moxtw sendmail".""",
    ),
    Command(
        "config example",
        "[name]",
        "config:example",
        "Print an example of a part of the configuration, or the list of examples.",
        (0, 1),
    ),
    Command(
        "config printservice",
        ">moxtw.service",
        "config:printservice",
        """Print a unit file for systemd.

The unit starts this program with the configuration file that is in use (-config, MOXCONF). It
starts as root, to open its ports, and becomes the User of mox.conf; it can write to the folder
of the configuration and to the data directory only.""",
    ),
)
