"""Commands that check who may send."""

from __future__ import annotations

from moxtw.cli.command import BOOL, RESOLVER, TEXT, Command, Flag

_TREE_WALK = Flag(
    "treewalk",
    BOOL,
    "Find organizational domains by records in DNS, as DMARCbis does, not by public suffixes.",
)

SENDER_COMMANDS = (
    Command(
        "dkim verify",
        "message-file",
        "authn:dkim_verify",
        """Verify the DKIM signatures of a message, and print what each is worth.

Line ends of the file are taken as CRLF, as on the wire. Fails if no signature is good.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "dmarc lookup",
        "[-treewalk] domain",
        "authn:dmarc_lookup",
        """Look up the DMARC record of a domain, or of its organizational domain, and print it.

Fails if there is none, or one that is not valid.""",
        (1, 1),
        (RESOLVER, _TREE_WALK),
    ),
    Command(
        "dmarc verify",
        "[-treewalk] remoteip mailfromaddress helodomain <message",
        "authn:dmarc_verify",
        """Check a message as its receiver would: SPF, DKIM and DMARC.

The message is read from standard input. An empty mailfromaddress is that of notifications.""",
        (3, 3),
        (RESOLVER, _TREE_WALK),
    ),
    Command(
        "dmarc checkreportaddrs",
        "domain",
        "authn:dmarc_check_report_addrs",
        """Check whether the addresses in a domain's DMARC record will get reports.

Others than those of the domain itself, or of its organization, must say that they take them.
Fails if one does not.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "spf check",
        "domain ip",
        "senders:spf_check",
        """Check whether an IP address may send mail for a domain, by its SPF record.

The result is as for a message from user@domain, by a client that says EHLO with the domain: none,
neutral, pass, fail, softfail, temperror or permerror, with the mechanism that decided.""",
        (2, 2),
        (RESOLVER,),
    ),
    Command(
        "spf lookup",
        "domain",
        "senders:spf_lookup",
        """Look up the SPF record of a domain, and print it with what it says.

Fails if there is none, or one that is not valid.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "spf parse",
        "txt-record",
        "senders:spf_parse",
        "Check the syntax of an SPF record, and print what it says.",
        (1, 1),
    ),
    Command(
        "iprev",
        "ip",
        "senders:iprev",
        """Check whether a name of an IP address leads back to the address.

Mail servers whose address has no such name are mistrusted by many.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "rdap domainage",
        "domain",
        "dns:domain_age",
        """Print when a domain was registered, as its registry tells.

Others distrust mail of domains that are only some weeks old. For a name below a domain, that
domain is looked up.""",
        (1, 1),
        (
            RESOLVER,
            Flag("list", TEXT, "URL of the list of registries' servers, in place of IANA's."),
        ),
    ),
    Command(
        "dnsbl check",
        "zone ip",
        "senders:dnsbl_check",
        """Check whether an IP address is in a DNS block list.

Prints pass if it is not listed, and fail with what the list tells about it if it is.""",
        (2, 2),
        (RESOLVER,),
    ),
    Command(
        "dnsbl checkhealth",
        "zone",
        "senders:dnsbl_check_health",
        """Check whether a DNS block list works.

A working list has the test address 127.0.0.2, and does not have 127.0.0.1. The same is tried
for IPv6, which a list need not have.""",
        (1, 1),
        (RESOLVER,),
    ),
)
