"""Zones signed with DNSSEC, served by BIND's named on loopback, behind a validating unbound.

::

    names = SignedZones([Zone("safe.example", "www A 127.0.0.2"), ...])
    names.start()                # returns when unbound answers for all zones
    names.resolver               # ip:port of unbound, to be asked by servers and commands
    names.stop()

Neither program asks anybody but the other: unbound knows no root, and names outside the zones do
not exist for it. All calls block, with deadlines.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.support.peers import need, run
from tests.support.server import ServerError, free_port, poll

IP = "127.0.0.1"
START_SECONDS = 20

_APEX = """\
$ORIGIN {name}.
$TTL 300
@ SOA ns.{name}. hostmaster.{name}. 1 7200 3600 1209600 300
@ NS ns.{name}.
ns A {ip}
"""


@dataclass(frozen=True)
class Zone:
    """A zone: its name without final dot, and its records, relative to the name.

    A zone below another one of the list is delegated to; signed zones without such a parent are
    trust anchors.

    secure: the parent has its key; without, the zone is signed or not and nobody can tell.
    forged: names whose records are not what was signed, as from one who forges answers; ``A``
    records get another address, all others another TTL-like change of their data.
    expired: the signatures are those of last year.
    """

    name: str
    records: str
    signed: bool = True
    secure: bool = True
    forged: tuple[str, ...] = ()
    expired: bool = False

    def parent(self, others: Sequence[Zone]) -> Zone | None:
        above = [each for each in others if self.name.endswith(f".{each.name}")]
        return max(above, key=lambda each: len(each.name), default=None)


class SignedZones:
    """The two servers, and the files of the zones."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        # Those below first: what is above vouches for their keys.
        self._zones = sorted(zones, key=lambda zone: -zone.name.count("."))
        # Both may drop root's rights and must be able to walk here.
        self.directory = Path(tempfile.mkdtemp(prefix="moxtw-zones."))
        self.directory.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.name_server = (IP, free_port(IP))
        self._unbound = (IP, free_port(IP))

    @property
    def resolver(self) -> str:
        """Where unbound answers, as ``ip:port``."""
        return f"{self._unbound[0]}:{self._unbound[1]}"

    @staticmethod
    def need() -> None:
        """Skip the test if a program is missing."""
        need("named", "dnssec-keygen", "dnssec-signzone", "unbound")

    def start(self) -> SignedZones:
        """Sign the zones and serve them. Raises ServerError."""
        try:
            for zone in self._zones:
                self._sign(zone)
            self._start_named()
            self._start_unbound()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End both, and remove the files."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- Zones -------------------------------------------------------------------------

    def _file(self, zone: Zone) -> Path:
        return self.directory / f"{zone.name}.zone"

    def _sign(self, zone: Zone) -> None:
        """Write the file of a zone, signed if it is to be."""
        text = _APEX.format(name=zone.name, ip=IP) + zone.records + "\n"
        for child in self._zones:
            if child.parent(self._zones) is not zone:
                continue
            text += f"{child.name}. NS ns.{child.name}.\nns.{child.name}. A {IP}\n"
            if child.signed and child.secure:
                text += (self.directory / f"dsset-{child.name}.").read_text()
        plain = self.directory / f"{zone.name}.plain"
        plain.write_text(text)
        if not zone.signed:
            plain.rename(self._file(zone))
            return
        keygen = ["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K"]
        key = run([*keygen, self.directory, zone.name]).stdout.decode().split()[-1]
        with open(plain, "a") as file:
            file.write((self.directory / f"{key}.key").read_text())
        times = ["-s", "20240101000000", "-e", "20240201000000"] if zone.expired else []
        run(
            [
                *("dnssec-signzone", "-q", "-x", "-z", "-P", "-O", "full", "-o", zone.name, *times),
                *("-d", self.directory, "-f", self._file(zone), plain, self.directory / key),
            ]
        )
        if zone.parent(self._zones) is None:
            anchor = (self.directory / f"{key}.key").read_text()
            (self.directory / f"{zone.name}.anchor").write_text(anchor)
        if zone.forged:
            self._forge(zone)

    def _forge(self, zone: Zone) -> None:
        """Change records behind their signatures."""
        lines = []
        names = {f"{name}.{zone.name}." if name != "@" else f"{zone.name}." for name in zone.forged}
        for line in self._file(zone).read_text().splitlines():
            fields = line.split(None, 4)
            if len(fields) == 5 and fields[0] in names and fields[3] in ("A", "MX", "TLSA", "TXT"):
                fields[4] = {
                    "A": "127.0.0.99",
                    "MX": "1 mx.forged.example.",
                    "TLSA": f"3 1 1 {'00' * 32}",
                    "TXT": '"forged"',
                }[fields[3]]
                line = " ".join(fields)
            lines.append(line)
        self._file(zone).write_text("\n".join(lines) + "\n")

    # -- Programs ----------------------------------------------------------------------

    def _spawn(self, name: str, *argv: str | Path) -> None:
        with open(self.directory / f"{name}.log", "wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [name, *map(str, argv)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                )
            )

    def _log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]

    def _start_named(self) -> None:
        zones = "".join(
            f'zone "{zone.name}" {{ type primary; file "{self._file(zone)}"; }};\n'
            for zone in self._zones
        )
        ip, port = self.name_server
        config = self.directory / "named.conf"
        config.write_text(
            f"""
options {{
    directory "{self.directory}";
    listen-on port {port} {{ {ip}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify no;
    pid-file none;
    session-keyfile none;
    empty-zones-enable no;
}};
controls {{ }};
{zones}"""
        )
        self._spawn("named", "-g", "-n", "1", "-c", config)
        for zone in self._zones:
            self._wait("named", self.name_server, zone.name)

    def _start_unbound(self) -> None:
        server, port = self.name_server
        stubs = "".join(
            f"stub-zone:\n  name: {zone.name}.\n  stub-addr: {server}@{port}\n"
            for zone in self._zones
        )
        tops = [zone for zone in self._zones if zone.parent(self._zones) is None]
        known = "".join(f"  local-zone: {zone.name}. transparent\n" for zone in tops)
        anchors = "".join(
            f'  trust-anchor-file: "{self.directory}/{zone.name}.anchor"\n'
            for zone in tops
            if zone.signed
        )
        ip, port = self._unbound
        config = self.directory / "unbound.conf"
        config.write_text(
            f"""
server:
  interface: {ip}
  port: {port}
  directory: "{self.directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  do-ip6: no
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  module-config: "validator iterator"
  ede: yes
  val-log-level: 2
  local-zone: . static
{known}{anchors}
{stubs}
remote-control:
  control-enable: no
"""
        )
        self._spawn("unbound", "-d", "-c", config)
        for zone in tops:
            self._wait("unbound", self._unbound, zone.name)

    def _wait(self, name: str, address: tuple[str, int], zone: str) -> None:
        def answers() -> bool:
            if self._processes[-1].poll() is not None:
                raise ServerError(f"{name} ended\n{self._log(name)}")
            query = dns.message.make_query(f"{zone}.", "SOA")
            try:
                answer = dns.query.udp(query, address[0], port=address[1], timeout=1)
            except (OSError, dns.exception.DNSException):
                return False
            return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)

        try:
            poll(answers, START_SECONDS, f"{name}, zone {zone}")
        except TimeoutError as exc:
            raise ServerError(f"{exc}\n{self._log(name)}") from None
