"""The files of a new installation: keys, passwords, configuration, unit file."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from moxtw.admin import hostkeys, keys
from moxtw.admin.survey import Survey
from moxtw.config import document
from moxtw.config.sconf import Node, format_tree, split_key
from moxtw.config.setups import (
    MONITOR_DNSBLS,
    Quickstart,
    quickstart_dynamic,
    quickstart_static,
)
from moxtw.mail.address import Address, format_localpart
from moxtw.sasl import password as passwords

PASSWORD_LENGTH: Final = 12
UNIT: Final = "moxtw.service"
LOG: Final = "quickstart.log"
DATABASE: Final = "moxtw.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made.

    config: mox.conf, with its folder absolute. user: name or number to run as. resolvers: for
    mox.conf, none for those of the system.
    """

    address: Address
    config: Path
    user: str
    existing_webserver: bool = False
    resolvers: Sequence[str] = ()

    @property
    def account(self) -> str:
        """The name of the first account."""
        return format_localpart(self.address.localpart)

    @property
    def folder(self) -> Path:
        """The folder of the configuration."""
        return self.config.parent

    @property
    def base(self) -> Path:
        """The folder of all."""
        return self.folder.parent if self.folder.name == "config" else self.folder

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.base / "data"

    @property
    def unit(self) -> Path:
        """The unit file for systemd."""
        return self.base / UNIT

    @property
    def log(self) -> Path:
        """What is kept of the output."""
        return self.base / LOG


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What is random: passwords, and private keys in PEM by selector and by kind."""

    account_password: str
    admin_password: str
    admin_hash: str
    dkim: Mapping[str, bytes]
    host: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write."""

    path: Path
    data: bytes
    mode: int = 0o640


def selectors(now: float) -> tuple[str, str]:
    """The DKIM selectors of a new domain: one that signs, and one to take over."""
    year = time.gmtime(now).tm_year
    return f"{year}a", f"{year}b"


def make_secrets(now: float, *, existing_webserver: bool) -> Secrets:
    """Make passwords and keys. Takes seconds: not for the reactor thread."""
    admin = passwords.generate(PASSWORD_LENGTH)
    kinds = () if existing_webserver else hostkeys.KINDS
    return Secrets(
        account_password=passwords.generate(PASSWORD_LENGTH),
        admin_password=admin,
        admin_hash=passwords.hash_password(passwords.prepare_new(admin)),
        dkim={name: keys.key_pem(keys.make_key("rsa")) for name in selectors(now)},
        host={kind: hostkeys.host_key_pem(hostkeys.make_host_key(kind)) for kind in kinds},
    )


def in_the_way(order: Order) -> list[Path]:
    """What is there already of the files that would be made."""
    wanted = (
        order.config,
        order.folder / "domains.conf",
        order.folder / "adminpasswd",
        order.unit,
        order.data / DATABASE,
    )
    return [path for path in wanted if os.path.lexists(path)]


def new_files(
    order: Order, found: Survey, secrets: Secrets, now: float, unit: str
) -> list[NewFile]:
    """The files of an installation, mox.conf last. unit: the text of the unit file."""
    domain = order.address.domain
    stamp = keys.timestamp(now)
    dkim = {name: keys.dkim_file(name, domain.ascii, "rsa", now) for name in secrets.dkim}
    host = {
        kind: hostkeys.host_key_file(found.hostname, kind, now) for kind in secrets.host
    }
    placement = found.placement
    setup = Quickstart(
        address=order.address,
        account=order.account,
        hostname=found.hostname,
        user=order.user,
        public_ips=placement.listen,
        private_ips=placement.internal,
        nat_ips=placement.outside if placement.nat else (),
        ips_nated=placement.unknown_nat,
        host_private_key_files=list(host.values()),
        selectors=list(dkim.items()),
        sign=list(dkim)[:1],
        policy_id=stamp,
        existing_webserver=order.existing_webserver,
        data_dir="../data" if order.base != order.folder else "data",
        resolvers=order.resolvers,
    )
    folder = order.folder
    return [
        *(NewFile(folder / file, secrets.dkim[name]) for name, file in dkim.items()),
        *(NewFile(folder / file, secrets.host[kind]) for kind, file in host.items()),
        NewFile(folder / "adminpasswd", secrets.admin_hash.encode() + b"\n"),
        NewFile(order.unit, unit.encode(), 0o644),
        NewFile(folder / "domains.conf", domains_conf(setup).encode()),
        # Last, since its presence says that all the rest is there.
        NewFile(order.config, mox_conf(setup).encode()),
    ]


# -- Texts of configuration files --------------------------------------------------------------

_Path = tuple[str, ...]


def mox_conf(setup: Quickstart) -> str:
    """mox.conf, with remarks."""
    lists = "".join(f"\n\t- {zone}" for zone in MONITOR_DNSBLS)
    lead: dict[_Path, str] = {
        ("DataDir",): "Made by quickstart. All fields: moxtw config describe-static.\n"
        "Changes of this file take effect when the server starts again.",
        ("LogLevel",): 'Change to "info" when all works.',
        ("Hostname",): "To be told of new versions, by whoever announces them to you:\n"
        "CheckUpdates: true\nUpdates:\n\tDomain: their domain\n\tPublicKey: their key",
        ("Listeners", "internal"): "For this machine only, and for tunnels to it: ssh -L.",
        ("Listeners", "public"): "For everybody.",
    }
    if setup.existing_webserver:
        lead["Listeners", "public", "TLS"] = (
            "Certificates with their keys: replace the paths, they may be relative to this folder."
        )
    if setup.nat_ips:
        lead["Listeners", "public", "NATIPs"] = "IPs are behind NAT: others connect to these."
    tail: dict[_Path, str] = {
        ("Listeners", "public", "SMTP"): "Refuse mail of strangers whose address is on a list:\n"
        f"DNSBLs:{lists}",
    }
    return _text(quickstart_static(setup), lead, tail)


def domains_conf(setup: Quickstart) -> str:
    """domains.conf, with remarks."""
    lead: dict[_Path, str] = {
        ("Domains",): "Made by quickstart. All fields: moxtw config describe-domains.\n"
        "Changes of this file take effect within seconds.",
        ("Accounts", setup.account, "Destinations", setup.address.pack()): (
            'Mail of a mailing list can go to a mailbox of its own. In place of "nil":\n'
            "\tRulesets:\n\t\t-\n\t\t\tVerifiedDomain: lists.example.net\n"
            "\t\t\tListAllowDomain: lists.example.net\n\t\t\tMailbox: Lists/Example"
        ),
        ("MonitorDNSBLs",): "Lists in which this server's own addresses are looked up.",
    }
    return _text(quickstart_dynamic(setup), lead, {})


def _text(value: Any, lead: Mapping[_Path, str], tail: Mapping[_Path, str]) -> str:
    return format_tree(_remarked(document.new(value).root, (), lead, tail))


def _remarked(
    node: Node, path: _Path, lead: Mapping[_Path, str], tail: Mapping[_Path, str]
) -> Node:
    """A tree with remarks before lines, and behind the last of a section."""
    children = []
    for child in node.children:
        pair = split_key(child.text)
        below = (*path, child.text if pair is None else pair[0])
        children.append(_remarked(child, below, lead, tail))
    return Node(
        node.text,
        children,
        lead=_comment(lead.get(path), len(path) - 1),
        tail=_comment(tail.get(path), len(path)),
    )


def _comment(text: str | None, depth: int) -> list[str]:
    return [] if text is None else ["\t" * depth + "# " + line for line in text.split("\n")]


# -- Writing ----------------------------------------------------------------------------------


class Installation:
    """Files as they are written; `undo` takes them away again. Blocks."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._data_is_new = not order.data.exists()
        self._made: list[Path] = []
        self._folders: list[Path] = []

    def write(self, files: Sequence[NewFile]) -> None:
        """Write files, none of which may exist. Raises FileExistsError, OSError."""
        for file in files:
            self._folder(file.path.parent)
            keys.write_private(file.path, file.data)
            self._made.append(file.path)
            if file.mode != 0o640:
                file.path.chmod(file.mode)

    def _folder(self, path: Path) -> None:
        missing = []
        while not path.exists():
            missing.append(path)
            path = path.parent
        for each in reversed(missing):
            each.mkdir(mode=0o750)
            self._folders.append(each)

    def undo(self) -> list[str]:
        """Remove what was made; returns what could not be, as text."""
        problems: list[str] = []

        def attempt(work: Callable[[Path], object], path: Path) -> None:
            try:
                work(path)
            except FileNotFoundError:
                return
            except OSError as exc:
                problems.append(f"{path}: {exc.strerror or exc}")

        for path in reversed(self._made):
            attempt(os.unlink, path)
        data = self._order.data
        if self._data_is_new:
            attempt(shutil.rmtree, data)
        else:
            # There was no database, so this one is ours.
            for path in sorted(data.glob(DATABASE + "*")):
                attempt(os.unlink, path)
        for path in reversed(self._folders):
            attempt(os.rmdir, path)
        return problems


def append_log(path: Path, text: str) -> None:
    """Keep output that holds passwords: only for its owner, behind what is there. OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
