"""Who is to be told that something changed.

The modseq in the database is the only truth about what changed; the bus carries just
"account A reached modseq N", and whoever listens asks the store for what came after the
modseq it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from moxtw.log import Logger

_log = Logger("store")


class ChangeBus:
    """Tells listeners on the reactor thread, after each commit, which accounts changed."""

    def __init__(self) -> None:
        self._listeners: dict[int, dict[int, Callable[[int], None]]] = {}
        self._all: dict[int, Callable[[Collection[int]], None]] = {}
        self._queue: dict[int, Callable[[set[str]], None]] = {}
        self._hooks: dict[int, Callable[[set[str]], None]] = {}
        self._number = 0

    def subscribe(self, account_id: int, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback(modseq)` after commits that change the account.

        Returns a function that ends this. Several commits may be told at once.
        """
        self._number += 1
        number = self._number
        self._listeners.setdefault(account_id, {})[number] = callback

        def unsubscribe() -> None:
            listeners = self._listeners.get(account_id)
            if listeners is not None:
                listeners.pop(number, None)
                if not listeners:
                    del self._listeners[account_id]

        return unsubscribe

    def on_accounts(self, callback: Callable[[Collection[int]], None]) -> Callable[[], None]:
        """Call `callback(account ids)` after commits that change any accounts."""
        self._number += 1
        number = self._number
        self._all[number] = callback
        return lambda: self._all.pop(number, None) and None

    def on_queue(self, callback: Callable[[set[str]], None]) -> Callable[[], None]:
        """Call `callback` after commits that make queued messages due earlier.

        It gets their recipient domains; "" among them stands for any domain.
        """
        self._number += 1
        number = self._number
        self._queue[number] = callback
        return lambda: self._queue.pop(number, None) and None

    def on_hooks(self, callback: Callable[[set[str]], None]) -> Callable[[], None]:
        """Call `callback` after commits that make webhooks due earlier.

        It gets their URLs; "" among them stands for any URL.
        """
        self._number += 1
        number = self._number
        self._hooks[number] = callback
        return lambda: self._hooks.pop(number, None) and None

    def publish(
        self, changed: dict[int, int], queue: set[str], hooks: Collection[str] = ()
    ) -> None:
        """Tell all listeners. `changed` maps account ids to the modseq reached."""
        for account_id, modseq in changed.items():
            for callback in list(self._listeners.get(account_id, {}).values()):
                try:
                    callback(modseq)
                except Exception as exc:  # noqa: BLE001 - one listener must not silence others
                    _log.failure("change listener failed", exc)
        if changed:
            for tell in list(self._all.values()):
                try:
                    tell(changed)
                except Exception as exc:  # noqa: BLE001
                    _log.failure("change listener failed", exc)
        if queue:
            for wake in list(self._queue.values()):
                try:
                    wake(queue)
                except Exception as exc:  # noqa: BLE001
                    _log.failure("queue listener failed", exc)
        if hooks:
            for wake in list(self._hooks.values()):
                try:
                    wake(set(hooks))
                except Exception as exc:  # noqa: BLE001
                    _log.failure("webhook listener failed", exc)


class SessionHandle:
    """One connected session's knowledge of an account, for `SessionRegistry`."""

    __slots__ = ("_account_id", "_registry", "modseq")

    def __init__(self, registry: SessionRegistry, account_id: int) -> None:
        self._registry = registry
        self._account_id = account_id
        self.modseq: int | None = None

    def seen(self, modseq: int) -> None:
        """Acknowledge all removals up to `modseq`: their content may go."""
        if self.modseq is None or modseq > self.modseq:
            self.modseq = modseq
            self._registry._advanced(self._account_id)

    def idle(self) -> None:
        """No mailbox is in view: nothing needs to be kept for this session."""
        self.modseq = None
        self._registry._advanced(self._account_id)

    def close(self) -> None:
        """The session has ended."""
        self._registry._close(self._account_id, self)


class SessionRegistry:
    """Keeps the content of expunged messages readable for sessions that still show them."""

    def __init__(self, advanced: Callable[[int], None]) -> None:
        self._sessions: dict[int, set[SessionHandle]] = {}
        self._advanced = advanced

    def register(self, account_id: int) -> SessionHandle:
        """A handle for a new session; it holds nothing back until `seen` is called."""
        handle = SessionHandle(self, account_id)
        self._sessions.setdefault(account_id, set()).add(handle)
        return handle

    def _close(self, account_id: int, handle: SessionHandle) -> None:
        sessions = self._sessions.get(account_id)
        if sessions is not None:
            sessions.discard(handle)
            if not sessions:
                del self._sessions[account_id]
        self._advanced(account_id)

    def horizon(self, account_id: int) -> int | None:
        """The modseq up to which removals may be erased; None: all of them."""
        known = [
            handle.modseq
            for handle in self._sessions.get(account_id, ())
            if handle.modseq is not None
        ]
        return min(known) if known else None
