"""Commands on configuration files, without a server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moxtw.cli.command import CommandError
from moxtw.cli.invocation import Invocation
from moxtw.cli.output import table

if TYPE_CHECKING:
    from moxtw.config.dynamic import Dynamic
    from moxtw.config.static import Static
    from moxtw.mail.domain import Domain


def test(invocation: Invocation) -> None:
    """``moxtw config test``."""
    from moxtw.config.load import load_dynamic

    static = invocation.static(check_files=True)
    dynamic = load_dynamic(static.dynamic_path, static)
    for warning in (*static.warnings, *dynamic.warnings):
        invocation.warn(f"warning: {warning}")
    invocation.print("config OK")


def describe_static(invocation: Invocation) -> None:
    """``moxtw config describe-static``."""
    from moxtw.config.describe import describe_static as text

    invocation.write(text())


def describe_domains(invocation: Invocation) -> None:
    """``moxtw config describe-domains``."""
    from moxtw.config.describe import describe_dynamic

    invocation.write(describe_dynamic())


def describe_sendmail(invocation: Invocation) -> None:
    """``moxtw config describe-sendmail``."""
    from moxtw.config.describe import describe_sendmail as text

    invocation.write(text())


def example(invocation: Invocation) -> None:
    """``moxtw config example`` and ``moxtw example``."""
    from moxtw.config.examples import EXAMPLES

    if not invocation.args:
        rows = [
            (name, found.file, found.title.split("\n", 1)[0].split(". ")[0].rstrip(":."))
            for name, found in sorted(EXAMPLES.items())
        ]
        invocation.write(table(("NAME", "FILE", "WHAT IT DOES"), rows))
        return
    found = EXAMPLES.get(invocation.args[0])
    if found is None:
        raise CommandError(
            f"no example {invocation.args[0]!r}: there are {', '.join(sorted(EXAMPLES))}"
        )
    text = found.printed()
    invocation.write(text if text.endswith("\n") else text + "\n")


def client_config(invocation: Invocation) -> None:
    """``moxtw clientconfig``."""
    from moxtw.mail.domain import DomainError, parse_domain

    static = invocation.static()
    dynamic = invocation.dynamic(static)
    try:
        domain = parse_domain(invocation.args[0])
        invocation.write(client_settings(static, dynamic, domain))
    except DomainError as exc:
        raise CommandError(f"domain {invocation.args[0]!r}: {exc}") from exc
    except KeyError:
        raise CommandError(f"domain {domain.name} is not configured") from None


def client_settings(static: Static, dynamic: Dynamic, domain: Domain) -> str:
    """A table of what mail programs are set to, and advice. Raises KeyError for no domain."""
    from types import SimpleNamespace

    from moxtw.config.clientconfig import ADVICE, client_config_entries

    view: Any = SimpleNamespace(static=static, dynamic=dynamic)
    rows = [
        (entry.protocol, entry.host.name, str(entry.port), entry.listener, entry.note)
        for entry in client_config_entries(view, domain)
    ]
    return table(("PROTOCOL", "HOST", "PORT", "LISTENER", "NOTE"), rows) + "\n" + ADVICE


def printservice(invocation: Invocation) -> None:
    """``moxtw config printservice``."""
    path = Path(invocation.config_path).absolute()
    folder = path.parent
    data = folder.parent / "data" if folder.name == "config" else folder / "data"
    if path.exists():
        data = Path(os.path.normpath(invocation.static().data_path))
    else:
        invocation.warn(f"{path} does not exist yet: taking {data} for the data directory")
    invocation.write(service_unit(program(), path, data))


def program() -> list[str]:
    """How to start this program: the words of a command line."""
    script = os.path.abspath(sys.argv[0])
    if os.path.basename(script) == "moxtw" and os.access(script, os.X_OK):
        return [script]
    return [sys.executable, "-m", "moxtw.cli.main"]


def _quoted(text: str) -> str:
    """A word of a unit file."""
    text = text.replace("%", "%%").replace("$", "$$")
    if text and not set(text) & set(" \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_HOMES = ("/home", "/root", "/run/user")

_UNIT = """\
# Unit file for systemd. To use it:
#   moxtw {option}config printservice >/etc/systemd/system/moxtw.service
#   systemctl daemon-reload
#   systemctl enable --now moxtw.service
[Unit]
Description=moxtw mail server
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
# Starts as root, to open its ports, and becomes the User of mox.conf then.
ExecStartPre=+/bin/mkdir -p {data}
ExecStart={program}
# Reads domains.conf, which otherwise is noticed within a second or two.
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={folder}
UMask=0007
Restart=always
RestartSec=5s
# After a signal the exit code is its number.
SuccessExitStatus=2 15
TimeoutStopSec=15s
KillMode=mixed
LimitNOFILE=65535

# Writes to its configuration and its data only.
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_FSETID \
CAP_DAC_OVERRIDE
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=no
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def service_unit(program: list[str], config: Path, data: Path) -> str:
    """The unit file for a program and its files."""
    places = [*program[:1], sys.prefix, str(config), str(data)]
    at_home = any(
        place == home or place.startswith(home + "/") for place in places for home in _HOMES
    )
    command = " ".join(_quoted(word) for word in (*program, "-config", str(config), "serve"))
    return _UNIT.format(
        option=f"-config {_quoted(str(config))} ",
        program=command,
        data=_quoted(str(data)),
        folder=str(config.parent).replace("%", "%%"),
        writable=" ".join(_quoted(str(path)) for path in (config.parent, data)),
        home="read-only" if at_home else "yes",
    )


def ensure_host_keys(invocation: Invocation) -> None:
    """``moxtw config ensureacmehostprivatekeys``."""
    import time

    from moxtw.admin import hostkeys

    static = invocation.static()
    try:
        missing = hostkeys.ensure_host_keys(
            static, time.time(), lambda file: invocation.print(f"Made {static.directory / file}")
        )
    except ValueError as exc:
        raise CommandError(str(exc)) from exc
    if not missing:
        invocation.print("No listener lacks a host key for certificates by ACME.")
        return
    invocation.print("\nAdd to mox.conf, in the section TLS of these listeners:")
    for name, files in missing.items():
        invocation.print(f"\nListener {name}:\n\n\tHostPrivateKeyFiles:")
        for file in files:
            invocation.print(f"\t\t- {file}")
    invocation.print(
        "\nThen give the files to the user of the server, restart it, and publish the TLSA records"
        '\nthat "moxtw config dnsrecords" prints.'
    )
