"""What new domains and accounts are configured as."""

from __future__ import annotations

from typing import Final

from moxtw.config.duration import Duration
from moxtw.config.dynamic import (
    DKIM,
    DMARC,
    MTASTS,
    TLSRPT,
    Account,
    AutomaticJunkFlags,
    ConfigDomain,
    Destination,
    JunkFilter,
    JunkParams,
    SubjectPass,
)
from moxtw.mail.address import Address
from moxtw.mail.domain import Domain

JUNK_REGEXP: Final = "^(junk|spam)"
NEUTRAL_REGEXP: Final = "^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)"
DKIM_EXPIRATION: Final = "72h"
DMARC_LOCALPART: Final = "dmarcreports"
TLSRPT_LOCALPART: Final = "tlsreports"


def default_junk_filter() -> JunkFilter:
    """The junk filter of a new account."""
    return JunkFilter(
        threshold=0.95,
        params=JunkParams(
            onegrams=True, max_power=0.01, top_words=10, ignore_words=0.1, rare_words=2
        ),
    )


def default_junk_flags() -> AutomaticJunkFlags:
    """The rules by which mailboxes train the junk filter of a new account."""
    return AutomaticJunkFlags(
        enabled=True, junk_mailbox_regexp=JUNK_REGEXP, neutral_mailbox_regexp=NEUTRAL_REGEXP
    )


def default_account(address: Address) -> Account:
    """A new account with one address."""
    return Account(
        domain=address.domain.name,
        destinations={address.pack(): Destination()},
        subject_pass=SubjectPass(period=Duration.of(hours=12)),
        rejects_mailbox="Rejects",
        automatic_junk_flags=default_junk_flags(),
        junk_filter=default_junk_filter(),
        no_custom_password=True,
    )


def default_domain(
    domain: Domain,
    hostname: Domain,
    *,
    account: str,
    dkim: DKIM,
    policy_id: str,
    disabled: bool = False,
) -> ConfigDomain:
    """A new domain whose reports go to `account`.

    policy_id: identifies the MTA-STS policy, for example by the time; empty for no policy, as
        where no listener can serve it.
    """
    mtasts = None
    if policy_id:
        mtasts = MTASTS(
            policy_id=policy_id, mode="enforce", max_age=Duration.of(hours=24), mx=(hostname.name,)
        )
    return ConfigDomain(
        disabled=disabled,
        client_settings_domain=f"mail.{domain.name}",
        localpart_catchall_separator="+",
        dkim=dkim,
        dmarc=DMARC(localpart=DMARC_LOCALPART, account=account, mailbox="DMARC"),
        mtasts=mtasts,
        tlsrpt=TLSRPT(localpart=TLSRPT_LOCALPART, account=account, mailbox="TLSRPT"),
    )
