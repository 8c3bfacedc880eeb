"""Commands on how safe the way to other servers is."""

from __future__ import annotations

from moxtw.cli.command import Command
from moxtw.cli.table_senders import RESOLVER

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
)
