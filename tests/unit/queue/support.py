"""A configuration and a store for tests of the queue."""

from __future__ import annotations

from typing import Any

from moxtw.config.testing import STATIC, FixedConfig
from moxtw.mail.address import Path, parse_address, parse_path
from tests.support.store import make_account, make_store, now

DYNAMIC = """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
		Aliases:
			team:
				Addresses:
					- me@example.org
				AllowMsgFrom: true
			closed:
				Addresses:
					- me@example.org
	off.example:
		Disabled: true
Accounts:
	me:
		Domain: example.org
		FromIDLoginAddresses:
			- unique@example.org
		KeepRetiredMessagePeriod: 72h
		MaxOutgoingMessagesPerDay: 10
		MaxFirstTimeRecipientsPerDay: 5
		Destinations:
			me@example.org: nil
			unique@example.org: nil
			me@off.example: nil
	other:
		Domain: example.org
		Destinations:
			other@example.org: nil
"""

__all__ = ["DYNAMIC", "STATIC", "FixedConfig", "make_account", "make_store", "now"]


def address(text: str) -> Any:
    return parse_address(text)


def path(text: str) -> Path:
    return parse_path(text)
