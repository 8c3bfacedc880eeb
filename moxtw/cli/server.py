"""Commands that run the server, and those that speak with it about itself."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError, UsageError
from moxtw.cli.invocation import Invocation

if TYPE_CHECKING:
    from moxtw.config.static import Static


def serve(invocation: Invocation) -> int:
    """``moxtw serve``."""
    return _serve(invocation, Path(invocation.config_path), localserve=False)


def _serve(invocation: Invocation, path: Path, *, localserve: bool) -> int:
    from moxtw.config.load import ConfigError
    from moxtw.service.privileges import PrivilegeError
    from moxtw.service.run import make_server, run
    from moxtw.store.errors import StoreError

    try:
        try:
            server = make_server(
                path,
                localserve=localserve,
                log_level=invocation.loglevel,
                pedantic=invocation.pedantic,
            )
        except ValueError as exc:
            raise UsageError(f"flag -loglevel: {exc}") from exc
        return run(server)
    except ConfigError as exc:
        raise CommandError(invocation.with_hint(str(exc))) from exc
    except (PrivilegeError, StoreError) as exc:
        raise CommandError(str(exc)) from exc


def localserve(invocation: Invocation) -> int:
    """``moxtw localserve``."""
    import ipaddress

    from moxtw.admin import localserve as files

    ip = invocation.text("ip")
    if ip:
        try:
            ip = str(ipaddress.ip_address(ip))
        except ValueError as exc:
            raise UsageError(f"flag -ip: {exc}") from exc
    given = invocation.text("dir")
    directory = Path(given).absolute() if given else files.default_directory()
    made = files.prepare(directory, ip)
    invocation.config_path = str(directory / "mox.conf")
    static = invocation.static()
    listening = {str(each) for listener in static.listeners.values() for each in listener.ips}
    if ip and not made and listening != {ip}:
        raise CommandError(
            f"{directory} was made for {', '.join(sorted(listening))}: use another -dir, or "
            f"change IPs in {invocation.config_path}"
        )
    fresh = set_first_password(static, files.ACCOUNT, files.PASSWORD)
    _describe(invocation, directory, static, made=made, fresh=fresh)
    if invocation.switch("initonly"):
        return 0
    invocation.stdout.flush()
    return _serve(invocation, directory / "mox.conf", localserve=True)


def set_first_password(static: Static, account: str, password: str) -> bool:
    """Give an account its first password, in the database itself; says whether it had none."""
    from moxtw.sasl.password import derive
    from moxtw.service.policy import first_mailboxes
    from moxtw.store import accounts, credentials
    from moxtw.store.db import Store
    from moxtw.store.errors import StoreError
    from moxtw.store.tx import Tx

    store = Store(str(static.data_path), None, url=static.database_url or None, inline=True)

    def missing(tx: Tx) -> bool:
        found = accounts.find(tx, account)
        return found is None or credentials.verifiers(tx, found.id) is None

    def job(tx: Tx) -> None:
        found = accounts.ensure(tx, account, *first_mailboxes(static))
        credentials.set_password(tx, found.id, verifiers)

    try:
        store.open()
        try:
            if not now(store.read(missing)):
                return False
            verifiers = derive(password)
            now(store.write(job))
        finally:
            store.stopService()
    except StoreError as exc:
        raise CommandError(f"{static.data_path}: {exc}") from exc
    return True


def now(deferred: Any) -> Any:
    """The result of a Deferred of a store that works at once."""
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    return results[0]


def _describe(
    invocation: Invocation, directory: Path, static: Static, *, made: bool, fresh: bool
) -> None:
    """Say in plain words what a local server offers."""
    from moxtw.admin import localserve as files

    if made:
        invocation.print(f"Made {directory} with configuration, certificate, keys and an account.")
    else:
        invocation.print(f"Using {directory}.")
    password = f"password {files.PASSWORD}"
    if not fresh and not made:
        password += " (unless it was changed)"
    invocation.print(f"\nAccount  {files.ADDRESS}, {password}")
    invocation.print(f"Admin    password {files.ADMIN_PASSWORD}, unless it was changed\n")
    rows = _services(static)
    for name, where, note in rows:
        invocation.print(f"{name:<12} {where:<36} {note}".rstrip())
    option = f"-config {shlex.quote(invocation.config_path)}"
    invocation.print(f"\nOther commands find this server with {option}")
    invocation.print(f"  moxtw {option} stop\n")


def _services(static: Static) -> list[tuple[str, str, str]]:
    """Name, address and note of all that is served."""
    rows: list[tuple[str, str, str]] = []
    for listener in static.listeners.values():
        host = listener.ips[0] if listener.ips else ""
        if ":" in host:
            host = f"[{host}]"
        if host in ("127.0.0.1", "[::1]"):
            host = "localhost"
        mail = (
            ("SMTP", listener.smtp, "mail from elsewhere"),
            ("submission", listener.submission, "plain text or STARTTLS, with login"),
            ("submissions", listener.submissions, "TLS, with login"),
            ("IMAP", listener.imap, "plain text or STARTTLS"),
            ("IMAPS", listener.imaps, "TLS"),
        )
        rows += [
            (name, f"{host}:{section.effective_port}", note)
            for name, section, note in mail
            if section.enabled
        ]
        web = (
            ("account", listener.account_http, listener.account_https, "/"),
            ("admin", listener.admin_http, listener.admin_https, "/admin/"),
            ("webapi", listener.webapi_http, listener.webapi_https, "/webapi/"),
        )
        for name, plain, tls, default in web:
            path = plain.path or tls.path or default
            urls = [
                f"{scheme}://{host}:{section.effective_port}{path}"
                for scheme, section in (("http", plain), ("https", tls))
                if section.enabled
            ]
            if urls:
                rows.append((name, urls[0], urls[1] if len(urls) > 1 else ""))
        if listener.metrics_http.enabled:
            port = listener.metrics_http.effective_port
            rows.append(("metrics", f"http://{host}:{port}/metrics", ""))
    return rows


# -- Passwords --------------------------------------------------------------------------------


def read_password(invocation: Invocation, what: str) -> str:
    """A new password: typed twice at a terminal, else the first line of standard input."""
    if not invocation.stdin.isatty():
        password = invocation.stdin.readline().rstrip("\r\n")
        if not password:
            raise CommandError("no password on standard input")
        return password
    import getpass

    password = getpass.getpass(f"{what}: ")
    if not password:
        raise CommandError("no password given")
    if getpass.getpass(f"{what} again: ") != password:
        raise CommandError("the passwords differ, nothing was changed")
    return password


def set_admin_password(invocation: Invocation) -> None:
    """``moxtw setadminpassword``."""
    from moxtw.admin import adminpassword

    static = invocation.static()
    path = static.admin_password_path
    if path is None:
        raise CommandError(f"no AdminPasswordFile is configured in {static.path}")
    password = read_password(invocation, "Admin password")
    new = not path.exists()
    adminpassword.set_admin_password(path, password)
    if new and os.geteuid() == 0:
        # Its reader is the service user, who has the folder.
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid)
    invocation.print(f"Admin password set, in {path}.")


def set_account_password(invocation: Invocation) -> None:
    """``moxtw setaccountpassword``."""
    account = invocation.args[0]
    with invocation.control() as control:
        password = read_password(invocation, f"Password for account {account}")
        control.command("setaccountpassword", account, password)
    invocation.print(f"Password of account {account} set.")


# -- The running server -----------------------------------------------------------------------


STOP_SECONDS = 20
"""How long a server may take to stop before we say that it still does."""


def stop(invocation: Invocation) -> None:
    """``moxtw stop``."""
    with invocation.control() as control, ended(control.peer_pid) as wait:
        control.command("stop")
        control.read_eof()
        if not wait(STOP_SECONDS):
            raise CommandError("the server was told to stop, and has not ended yet")
    invocation.print("Server stopped.")


@contextlib.contextmanager
def ended(pid: int) -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits some seconds for a process to end, and says whether it did.

    A process that cannot be watched (0, ourselves) counts as ended.
    """
    fd = -1
    if pid > 0 and pid != os.getpid():
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)

    def wait(seconds: float) -> bool:
        return fd < 0 or bool(select.select([fd], [], [], seconds)[0])

    try:
        yield wait
    finally:
        if fd >= 0:
            os.close(fd)


def loglevels(invocation: Invocation) -> None:
    """``moxtw loglevels``."""
    with invocation.control() as control:
        if not invocation.args:
            control.command("loglevels")
            invocation.write_lines(control.read_text())
            return
        level = invocation.args[0]
        package = invocation.args[1] if len(invocation.args) > 1 else ""
        control.command("setloglevels", package, level)
    if not level:
        invocation.print(f"Package {package} has the default log level now.")
        return
    which = f"package {package}" if package else "packages without a level of their own"
    invocation.print(f"Log level of {which} is {level} now, until the server starts again.")


def auditlog(invocation: Invocation) -> None:
    """``moxtw auditlog``."""
    import json

    names = {
        "n": "Max",
        "before": "Before",
        "caller": "Caller",
        "operation": "Operation",
        "since": "Since",
        "until": "Until",
    }
    wanted = {
        field: invocation.flags[name]
        for name, field in names.items()
        if invocation.flags.get(name) is not None
    }
    invocation.listing("auditlog", json.dumps(wanted))


def imapserve(invocation: Invocation) -> None:
    """``moxtw admin imapserve``."""
    out = 0 if invocation.switch("fd0") else 1

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(out, data) :]

    with invocation.control() as control:
        control.command("imapserve", invocation.args[0])
        control.converse(0, write)
