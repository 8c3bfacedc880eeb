"""Commands on how safe the way to other servers is."""

from __future__ import annotations

from moxtw.cli.command import BOOL, RESOLVER, TEXT, Command, Flag

SAFETY_COMMANDS = (
    Command(
        "mtasts lookup",
        "domain",
        "safety:mtasts_lookup",
        """Look up the MTA-STS record of a domain, fetch its policy, and print both.

Fails if there is no valid record, or no policy can be had with a certificate that is trusted.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "tlsrpt lookup",
        "domain",
        "safety:tlsrpt_lookup",
        """Look up the TLSRPT record of a domain, and print it with the addresses for reports.

Fails if there is none, or one that is not valid.""",
        (1, 1),
        (RESOLVER,),
    ),
    Command(
        "dane makerecord",
        "usage selector matchtype [certificate.pem | publickey.pem | privatekey.pem]",
        "safety:dane_make_record",
        """Print the TLSA record for a certificate or a key, read from a file or standard input.

usage: pkix-ta (0), pkix-ee (1), dane-ta (2), dane-ee (3); for SMTP one of the last two.
selector: cert (0) for the certificate, spki (1) for its key.
matchtype: full (0), sha2-256 (1), sha2-512 (2).

For the certificate of a mail server: dane-ee spki sha2-256. The record goes to
_25._tcp.<hostname>, and has to be signed with DNSSEC.""",
        (3, 4),
    ),
    Command(
        "dane dial",
        "host:port",
        "dial:dane_dial",
        """Connect to a server with TLS, verify its certificate with DANE, and talk to it.

The TLSA records of the host must be signed with DNSSEC, and one must fit. What is typed then
goes to the server, and what it says is printed, until one of both ends.""",
        (1, 1),
        (
            RESOLVER,
            Flag("usages", TEXT, "Usages of records that count, with commas: pkix-ta, pkix-ee, "
                 "dane-ta, dane-ee. Default: all."),
        ),
    ),
    Command(
        "dane dialmx",
        "domain [destination-host]",
        "dial:dane_dialmx",
        """Connect to a mail server of a domain, with STARTTLS verified with DANE, and talk to it.

The hosts are found as for a delivery, along CNAME and MX records, unless one is named. They
are tried in turn, until there is an SMTP session with STARTTLS that fits the host's TLSA
records. What is typed then goes to the server, and what it says is printed, until one of both
ends.""",
        (1, 2),
        (RESOLVER, Flag("ehlohostname", TEXT, "Our name in EHLO, by default that of the machine.")),
    ),
    Command(
        "smtp dial",
        "host[:port]",
        "dial:smtp_dial",
        """Connect to an SMTP server, begin a session, and talk to it.

EHLO is said, and STARTTLS if the server has it. What was agreed on is printed to standard
error. What is typed then goes to the server, and what it says is printed, until one of both
ends. The port is 25 by default.""",
        (1, 1),
        (
            RESOLVER,
            Flag("ehlohostname", TEXT, "Our name in EHLO, by default that of the machine."),
            Flag("forcetls", BOOL, "Use STARTTLS even if the server does not offer it."),
            Flag("notls", BOOL, "Do not use STARTTLS."),
            Flag("remotehostname", TEXT, "Name for TLS, by default the host."),
            Flag("tlsverify", BOOL, "Fail if the certificate is not good."),
            Flag("tlscerts", TEXT, "Files with certificates to trust in place of the system's, "
                 "in PEM, with commas."),
            Flag("tlsversionmin", TEXT, "Oldest version: tls10, tls11, tls12, tls13."),
            Flag("tlsversionmax", TEXT, "Newest version."),
            Flag("tlsciphersuites", TEXT, "Cipher suites, as OpenSSL names them, with commas."),
            Flag("tlscurves", TEXT, "Curves for the key exchange, as OpenSSL names them, with "
                 "commas."),
            Flag("tlsnosessiontickets", BOOL, "Ask for no session tickets."),
            Flag("tlsrenegotiation", "never|once|freely", "For scripts that have it: OpenSSL "
                 "is always told to refuse renegotiation."),
            Flag("tlsnodynamicrecordsizing", BOOL, "For scripts that have it: records are always "
                 "as large as what is written."),
        ),
    ),
    Command(
        "dmarc parsereportmsg",
        "message-file ...",
        "reports:dmarc_parse",
        """Print the DMARC reports in messages, as JSON.

Fails if a message has none that can be read.""",
        (1, None),
    ),
    Command(
        "tlsrpt parsereportmsg",
        "message-file ...",
        "reports:tls_parse",
        """Print the TLS reports in messages, as JSON.

Fails if a message has none that can be read.""",
        (1, None),
    ),
)
