"""What can go wrong in the store, as types."""

from __future__ import annotations


class StoreError(Exception):
    """Any refusal by the store."""


class NoSuchAccount(StoreError):
    """There is no account of that name or id."""


class NoSuchMailbox(StoreError):
    """There is no mailbox of that name or id, or it has been deleted."""


class MailboxExists(StoreError):
    """A mailbox of that name is there already."""


class MailboxHasChildren(StoreError):
    """The mailbox has mailboxes below it."""


class InvalidMailboxName(StoreError):
    """The name is not allowed; the text says why."""


class TooMany(StoreError):
    """A bound on what may be kept of a kind; the text says which."""


class TooManyAnnotations(TooMany):
    """The account has as many annotations as it may have."""


class AnnotationsTooLarge(TooMany):
    """The account's annotations are as large as they may be."""


class OverQuota(StoreError):
    """The message does not fit into what the account may hold."""


class NoSuchMessage(StoreError):
    """There is no such message, or it has been expunged and erased."""


class NoContent(StoreError):
    """The bytes of a message are missing or damaged on disk."""


class DiskFull(StoreError):
    """The disk has no room left."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of this program."""


class StoreClosed(StoreError):
    """The store is stopping or stopped: no new work is taken."""
