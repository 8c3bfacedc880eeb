"""What the server announces (RFC 9051 6.1.1), and when.

A capability is announced only when all of it works. Families of commands need not register
anything here beyond one line in `STATIC`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

# In order of announcement. SASL mechanisms stand among them, as RFC 9051 shows it.
STATIC: Final[tuple[str, ...]] = (
    "IMAP4rev2",  # RFC 9051
    "IMAP4rev1",  # RFC 3501
    "ENABLE",  # RFC 5161
    "LITERAL+",  # RFC 7888
    "IDLE",  # RFC 2177
    "SASL-IR",  # RFC 4959
    "BINARY",  # RFC 3516
    "UNSELECT",  # RFC 3691
    "UIDPLUS",  # RFC 4315
    "ESEARCH",  # RFC 4731
    "SEARCHRES",  # RFC 5182
    "MOVE",  # RFC 6851
    "UTF8=ACCEPT",  # RFC 6855
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "LIST-METADATA",  # RFC 9590
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",  # RFC 6154
    "AUTH=SCRAM-SHA-256-PLUS",  # RFC 7677
    "AUTH=SCRAM-SHA-256",
    "AUTH=SCRAM-SHA-1-PLUS",  # RFC 5802
    "AUTH=SCRAM-SHA-1",
    "AUTH=CRAM-MD5",  # RFC 2195
    "ID",  # RFC 2971
    "APPENDLIMIT=9223372036854775807",  # RFC 7889: no limit beside the quota
    "CONDSTORE",  # RFC 7162
    "QRESYNC",  # RFC 7162
    "STATUS=SIZE",  # RFC 8438
    "QUOTA",  # RFC 9208
    "QUOTA=RES-STORAGE",
    "METADATA",  # RFC 5464
    "SAVEDATE",  # RFC 8514
    "WITHIN",  # RFC 5032
    "NAMESPACE",  # RFC 2342
    "MULTIAPPEND",  # RFC 3502
    "PREVIEW",  # RFC 8970
    "UIDONLY",  # RFC 9586
    "COMPRESS=DEFLATE",  # RFC 4978
    "REPLACE",  # RFC 8508
    "CATENATE",  # RFC 4469
    "SEARCH=FUZZY",  # RFC 6203
    "MULTISEARCH",  # RFC 7377
    "INPROGRESS",  # RFC 9585
    "NOTIFY",  # RFC 5465
    "CHILDREN",  # RFC 3348
    "OBJECTID",  # RFC 8474
    "SORT",  # RFC 5256
    "SORT=DISPLAY",  # RFC 5957
    "THREAD=ORDEREDSUBJECT",  # RFC 5256
    "THREAD=REFERENCES",
    "THREAD=REFS",  # draft-ietf-morg-inthread
    "ESORT",  # RFC 5267
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "PARTIAL",  # RFC 9394
    "I18NLEVEL=1",  # RFC 5255
)

# What ENABLE knows (RFC 5161 3.1), with what each brings with it.
ENABLEABLE: Final[dict[str, tuple[str, ...]]] = {
    "IMAP4REV2": (),
    "UTF8=ACCEPT": (),
    "CONDSTORE": (),
    "QRESYNC": ("CONDSTORE",),
    "METADATA": (),
    "METADATA-SERVER": (),
    "UIDONLY": (),
}
# How names are written in the ENABLED response.
ENABLE_SPELLING: Final[dict[str, str]] = {"IMAP4REV2": "IMAP4rev2"}


def announced(
    *,
    disabled: Collection[str] = (),
    starttls: bool,
    plain: bool,
    external: bool,
    compressed: bool = False,
) -> list[bytes]:
    """The capabilities for a connection.

    `disabled` are upper-case names to leave out of the static ones (an account's setting).
    `starttls`: STARTTLS can be used now; `plain`: passwords may be sent as they are;
    `external`: the client showed a TLS certificate; `compressed`: the connection is
    compressed already.
    """
    names = [name for name in STATIC if name.upper() not in disabled]
    if compressed and "COMPRESS=DEFLATE" in names:
        names.remove("COMPRESS=DEFLATE")
    if starttls:
        names.append("STARTTLS")
    names.append("AUTH=PLAIN" if plain else "LOGINDISABLED")
    if external:
        names.append("AUTH=EXTERNAL")
    return [name.encode("ascii") for name in names]
