"""From configured listeners to sockets: which protocol is served where."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from random import SystemRandom
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from moxtw.admin.blocklists import Monitor
from moxtw.admin.context import AdminContext, Caller, user_error
from moxtw.authn.dnsbl import BlockLists
from moxtw.authn.evaluate import Evaluation
from moxtw.config.accounts import JunkParams
from moxtw.config.live import LiveConfig
from moxtw.config.static import Listener, Static
from moxtw.ctl.server import ControlService
from moxtw.dns.resolver import Resolver, for_pkg
from moxtw.imap.context import IMAPContext, IMAPListener
from moxtw.imap.factory import IMAPServerFactory
from moxtw.inbound.bounce import Bouncer
from moxtw.inbound.decide import Decider
from moxtw.inbound.deliver import Deliverer
from moxtw.inbound.rates import DeliveryRates
from moxtw.inbound.reports import ReportReader
from moxtw.junk.classify import classify, classify_small
from moxtw.junk.trainer import Trainer
from moxtw.log import Logger
from moxtw.net.certs import KeyPair, load_key_pair, self_signed
from moxtw.net.cid import ConnectionIds
from moxtw.net.listen import adopt, bind_socket, wrap_factory
from moxtw.net.tls import ServerTLS
from moxtw.net.tlsclient import Roots
from moxtw.queue.delivery import Target
from moxtw.queue.hookcall import HookCaller, make_client
from moxtw.queue.hookoperations import HookOperations
from moxtw.queue.hooks import HookService
from moxtw.queue.mtasts import PolicyCache, Refresher
from moxtw.queue.operations import QueueOperations
from moxtw.queue.service import QueueService
from moxtw.queue.submit import Submitter
from moxtw.queue.tlsrules import Safety
from moxtw.ratelimit import Limiter
from moxtw.reports.service import ReportService
from moxtw.service.localdns import LocalRecords
from moxtw.smtp.context import Kind, SMTPContext, settings_for
from moxtw.smtp.dial import Dialer
from moxtw.smtp.factory import SMTPServerFactory
from moxtw.smtp.sendercheck import SenderDomains
from moxtw.store import incoming
from moxtw.store.auth import Authenticator
from moxtw.store.db import Store
from moxtw.tlspolicy.mtastsfetch import Fetcher
from moxtw.updates.check import Announcements
from moxtw.updates.service import UpdateService
from moxtw.version import VERSION
from moxtw.web.listener import WebContext, make_ports

logger = Logger("service")


@dataclass
class Parts:
    """What the protocols are made of."""

    server: Any
    static: Static
    config: LiveConfig
    reactor: Any
    store: Store
    resolver: Resolver
    authenticator: Authenticator
    ids: ConnectionIds
    failed_auth: Limiter
    smtp_rate: Limiter
    smtp_open: Limiter
    smtp_refusals: Limiter
    imap_rate: Limiter
    imap_open: Limiter
    exempt: list[str]
    localserve: bool
    stop_process: Callable[[], None]
    stopping: bool = field(default=False)

    def __post_init__(self) -> None:
        self._queue_stopped: Deferred[Any] = succeed(None)
        self._hooks_stopped: Deferred[Any] = succeed(None)
        store, config = self.store, self.config
        ca = self.static.tls.ca
        roots = Roots(
            system=ca.additional_to_system or not ca.cert_pem,
            pems=[ca.cert_pem] if ca.cert_pem else [],
        )
        policies = PolicyCache(
            store,
            Fetcher(
                for_pkg(self.resolver, "mtasts"),
                self.reactor,
                roots,
                user_agent=f"moxtw/{VERSION}",
            ),
            self.reactor.seconds,
        )
        self.refresher = Refresher(store, policies, self.reactor, SystemRandom())
        self.reports = ReportService(
            store, config, self.resolver, self.reactor, SystemRandom()
        )
        self.updates = self._update_service(roots)
        self.blocklists = Monitor(config, self.resolver, self.reactor, store.run)
        self.queue = QueueService(
            store,
            config,
            self.resolver,
            Dialer(self.reactor, roots, self.blocklists.connected),
            self.reactor,
            local=self._local_target() if self.localserve else None,
            policy=Safety(policies, for_pkg(self.resolver, "dane"), self.reactor),
        )
        self.hook_caller = HookCaller(
            make_client(for_pkg(self.resolver, "webhook"), self.reactor, roots), self.reactor
        )
        self.hooks = HookService(store, config, self.hook_caller, self.reactor)
        self.submit = Submitter(store, config)
        self.trainer = Trainer(store, self._junk_params, self.reactor)
        self.admin = AdminContext(
            config=config,
            store=store,
            queue=QueueOperations(store, config),
            hooks=HookOperations(store, config),
            clock=self.reactor,
            ids=self.ids,
            stop=self.stop_process,
            end_sessions=self.server.end_sessions,
            ensure_accounts=self.server.ensure_accounts,
            keys_changed=self.authenticator.reload_keys,
            trainer=self.trainer,
            resolver=for_pkg(self.resolver, "check"),
            roots=roots,
            hook_caller=self.hook_caller,
        )
        config.on_read(self._config_read)
        self.web = WebContext(
            self.admin, self.authenticator, self.submit, self.failed_auth, self.exempt
        )
        self.control = ControlService(
            self.admin, str(self.static.data_path / "ctl"), self.reactor
        )

        def count(
            account: str, classes: tuple[str, str, str], since: list[int]
        ) -> Deferred[list[list[int]]]:
            return store.read(lambda tx: incoming.count_from(tx, account, classes, since))

        self.smtp = SMTPContext(
            reactor=self.reactor,
            config=config,
            contents=store.contents,
            authenticator=self.authenticator,
            senders=SenderDomains(self.resolver, self.reactor, lenient=self.localserve),
            deliverer=Deliverer(
                store,
                config,
                Decider(
                    DeliveryRates(count),
                    store,
                    classify=partial(classify, store),
                    classify_small=classify_small,
                    blocklists=BlockLists(self.resolver, self.reactor),
                    reports=ReportReader(store, config),
                ),
                self._evaluation(),
                bounce=Bouncer(store, config),
            ),
            submit=self.submit,
            cids=self.ids,
            connection_rate=self.smtp_rate,
            open_connections=self.smtp_open,
            failed_auth=self.failed_auth,
            refusals=self.smtp_refusals,
            resolver=self.resolver,
            localserve=self.localserve,
        )
        self.imap = IMAPContext(
            reactor=self.reactor,
            store=store,
            config=config,
            authenticator=self.authenticator,
            cids=self.ids,
            connection_rate=self.imap_rate,
            open_connections=self.imap_open,
            failed_auth=self.failed_auth,
            version=VERSION,
            stopping=lambda: self.stopping,
        )
        self.control_imap = IMAPServerFactory(
            self.imap, IMAPListener("ctl", "imap", self.static.dns_hostname.ascii)
        )
        self.admin.imap = self.control_imap.connection

    def _update_service(self, roots: Roots) -> UpdateService | None:
        """What looks for new versions, if that is wanted."""
        static = self.static
        if not static.check_updates or static.updates is None:
            return None
        source = Announcements(
            static.updates.dns_domain.ascii,
            static.updates.key,
            for_pkg(self.resolver, "updates"),
            self.reactor,
            roots,
        )
        return UpdateService(
            self.store, self.config, source, static.data_path, self.reactor
        )

    def _evaluation(self) -> Evaluation:
        """The checks of incoming mail."""
        resolver = self.resolver
        if self.localserve:
            resolver = LocalRecords(resolver, self.config)
        return Evaluation(
            resolver,
            self.reactor,
            lambda: self.config.static.dns_hostname,
            run=self.store.run,
            localserve=self.localserve,
            tree_walk=self.static.dmarc_tree_walk,
        )

    def _junk_params(self, account: str) -> JunkParams | None:
        """The settings of an account's junk filter."""
        found = self.config.dynamic.accounts.get(account)
        return None if found is None or found.junk_filter is None else found.junk_filter.params

    def _config_read(self, errors: list[str]) -> None:
        """An edit of domains.conf counts as an operation of whoever may write it."""
        error = user_error("; ".join(errors)) if errors else None
        work = self.admin.audit.note(Caller("file", ""), "domains.conf", {}, error)
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: logger.failure("noting an edit of the configuration", failure)
        )

    def _local_target(self) -> Target:
        """Where a local test server sends everything: to itself."""
        listener = self.static.listeners.get("local")
        ip, port = "127.0.0.1", 1025
        if listener is not None and listener.smtp.enabled:
            ip, port = listener.ips[0], listener.smtp.effective_port
        return Target(host="localhost", ips=(ip,), port=port, ehlo="localhost")

    async def start(self) -> None:
        """Start what works in the background, before connections are accepted."""
        await self.web.user_sessions.load()
        self.control.startService()
        self.queue.startService()
        self.hooks.startService()
        if not self.localserve:
            self.refresher.startService()
            self.reports.startService()
            self.blocklists.startService()
            if self.updates is not None:
                self.updates.startService()
        self.trainer.startService()
        # A filter may have come, or other settings.
        self.config.on_change(lambda old, new: self.trainer.look_at_all())

    async def stop_sending(self) -> None:
        """Begin no new deliveries; those under way come to an end, while connections do."""
        self.stopping = True
        self.control_imap.shutdown()
        for service in (self.refresher, self.reports, self.blocklists, self.updates):
            if service is not None and service.running:
                service.stopService()
        self._queue_stopped = maybeDeferred(self.queue.stopService)
        self._hooks_stopped = maybeDeferred(self.hooks.stopService)

    async def stop(self) -> None:
        """Stop what works in the background."""
        await self._queue_stopped
        await self._hooks_stopped
        await self.admin.imports.stop()
        await self.trainer.stopService()
        await self.control.stopService()


class Endpoint(Service):
    """One protocol on one address and port.

    Its service binds the address when it starts privileged, accepts once it is started, and
    accepts no more when it is stopped; connections have their own end (`shutdown`, `abort`).
    """

    def __init__(
        self,
        parts: Parts,
        kind: str,
        ip: str,
        port: int,
        factory: Any,
        *,
        tls: ServerTLS | None = None,
        proxy: bool = False,
        by_alpn: dict[bytes, Any] | None = None,
    ) -> None:
        self._reactor = parts.reactor
        self.name = f"{kind} {ip} {port}"
        self.kind = kind
        self.ip = ip
        self.port = port
        self.factory = factory
        others = by_alpn or {}
        self._factories = [factory, *others.values()]
        self._wrapped = wrap_factory(
            factory, parts.reactor, proxy=proxy, tls=tls, by_alpn=others
        )
        self._socket: socket.socket | None = None
        self._listening: Any = None

    @property
    def address(self) -> str:
        """IP address and port as text."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def privilegedStartService(self) -> None:  # noqa: N802 - Twisted's name
        """Listen; connections wait in the backlog. Raises OSError."""
        try:
            self._socket = bind_socket(self.ip, self.port)
        except OSError as exc:
            hint = ""
            if isinstance(exc, PermissionError) and self.port < 1024:
                hint = ": ports below 1024 need root; start as root, with User set"
            raise OSError(
                exc.errno, f"listening on {self.address}: {exc.strerror}{hint}"
            ) from None

    def startService(self) -> None:  # noqa: N802 - Twisted's name
        """Accept connections."""
        super().startService()  # type: ignore[no-untyped-call]
        assert self._socket is not None
        sock, self._socket = self._socket, None
        self._listening = adopt(self._reactor, sock, self._wrapped)

    def stopService(self) -> Deferred[Any]:  # noqa: N802 - Twisted's name
        """Accept no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        return maybeDeferred(listening.stopListening)

    def shutdown(self) -> None:
        """Tell the connections to end when their running command is done."""
        for factory in self._factories:
            factory.shutdown()

    def _connections(self) -> set[Any]:
        found: set[Any] = set()
        return found.union(*(getattr(each, "connections", ()) for each in self._factories))

    def busy(self) -> bool:
        """Whether connections are left."""
        return bool(self._connections())

    def abort(self) -> int:
        """Cut the connections that are left; says how many."""
        left = list(self._connections())
        for connection in left:
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abortConnection()
        return len(left)

    def end_sessions(self, account: str) -> None:
        """End the sessions of an account."""
        for factory in self._factories:
            end = getattr(factory, "end_sessions", None)
            if end is not None:
                end(account)


def key_pairs(name: str, listener: Listener) -> list[KeyPair]:
    """The certificates of a listener; a self-signed one stands in for those of ACME."""
    assert listener.tls is not None
    pairs = [
        load_key_pair(each.cert_pem, each.key_pem, each.cert_file)
        for each in listener.tls.key_certs
    ]
    if not pairs:
        logger.warn(
            "no certificates from ACME yet: serving a self-signed certificate", listener=name
        )
        cert, key = self_signed([listener.effective_hostname.ascii])
        pairs.append(load_key_pair(cert, key))
    return pairs


def make_endpoints(parts: Parts) -> list[Endpoint]:
    """All endpoints of the configuration."""
    found: list[Endpoint] = []
    for name, listener in parts.static.listeners.items():
        pairs = key_pairs(name, listener) if listener.tls is not None else []
        found.extend(_mail_endpoints(parts, name, listener, pairs))
        found.extend(_web_endpoints(parts, name, listener, pairs))
    return found


def _web_endpoints(
    parts: Parts, name: str, listener: Listener, pairs: list[KeyPair]
) -> Iterator[Endpoint]:
    for port in make_ports(parts.web, name, listener):
        tls = None
        mail: dict[bytes, Any] = {}
        if port.tls and listener.tls is not None:
            if port.port == 443:
                mail = _mail_by_alpn(parts, name, listener)
            tls = ServerTLS(
                pairs,
                clock=parts.reactor,
                min_version=listener.tls.min_version or "TLSv1.2",
                alpn=(b"http/1.1", b"http/1.0", *mail) if mail else (),
            )
        for ip in listener.ips:
            yield Endpoint(
                parts,
                port.kind,
                ip,
                port.port,
                port.site,
                tls=tls,
                proxy=listener.proxy_protocol,
                by_alpn=mail,
            )


def _mail_by_alpn(parts: Parts, name: str, listener: Listener) -> dict[bytes, Any]:
    """Mail protocols on the HTTPS port, by their ALPN names, for networks with web only.

    Clients are not asked for certificates there, as browsers would ask their users.
    """
    found: dict[bytes, Any] = {}
    if listener.submissions.enabled and listener.submissions.enabled_on_https:
        settings = settings_for("submissions", name, listener, parts.static, None)
        settings = replace(settings, requiretls=not listener.smtp.no_require_tls)
        found[b"smtp"] = SMTPServerFactory(parts.smtp, settings)
    if listener.imaps.enabled and listener.imaps.enabled_on_https:
        hostname = listener.effective_hostname.ascii
        found[b"imap"] = IMAPServerFactory(
            parts.imap, IMAPListener(name, "imaps", hostname)
        )
    return found


def _mail_endpoints(
    parts: Parts, name: str, listener: Listener, pairs: list[KeyPair]
) -> Iterator[Endpoint]:
    client_auth = listener.tls is not None and not listener.tls.client_auth_disabled

    def make_tls(*, tickets: bool = True, clients: bool = True) -> ServerTLS | None:
        if listener.tls is None:
            return None
        return ServerTLS(
            pairs,
            clock=parts.reactor,
            unknown_name="fallback",
            min_version=listener.tls.min_version or "TLSv1.2",
            tickets=tickets,
            known_key=parts.authenticator.known_key if clients and client_auth else None,
        )

    def make(kind: str, port: int, factory: Any, tls: ServerTLS | None = None) -> list[Endpoint]:
        return [
            Endpoint(parts, kind, ip, port, factory, tls=tls, proxy=listener.proxy_protocol)
            for ip in listener.ips
        ]

    def make_smtp(kind: Kind, port: int, tls: ServerTLS | None) -> list[Endpoint]:
        settings = settings_for(kind, name, listener, parts.static, tls)
        factory = SMTPServerFactory(parts.smtp, settings)
        return make(kind, port, factory, tls if kind == "submissions" else None)

    if listener.smtp.enabled:
        tls = make_tls(tickets=listener.smtp.effective_session_tickets, clients=False)
        yield from make_smtp("smtp", listener.smtp.effective_port, tls)
    if listener.submission.enabled:
        yield from make_smtp("submission", listener.submission.effective_port, make_tls())
    if listener.submissions.enabled:
        yield from make_smtp("submissions", listener.submissions.effective_port, make_tls())
    hostname = listener.effective_hostname.ascii
    if listener.imap.enabled:
        settings = IMAPListener(
            name,
            "imap",
            hostname,
            make_tls(),
            plain_allowed=listener.imap.no_require_starttls,
            client_auth=client_auth,
        )
        factory = IMAPServerFactory(parts.imap, settings)
        yield from make("imap", listener.imap.effective_port, factory)
    if listener.imaps.enabled:
        tls = make_tls()
        settings = IMAPListener(name, "imaps", hostname, tls, client_auth=client_auth)
        factory = IMAPServerFactory(parts.imap, settings)
        yield from make("imaps", listener.imaps.effective_port, factory, tls)
