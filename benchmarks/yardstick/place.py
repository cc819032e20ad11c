"""Where a run happens: a folder, a loopback address, the backends on it, and the files that they serve."""

from dataclasses import dataclass
from pathlib import Path

from yardstick.machine import LOAD_CORE, PATIENCE_S, Process, output, own_address
from yardstick.scenarios import KIB, MIB, Scenario
from yardstick.talk import listening, until

CONF = Path(__file__).parent / "conf"
FIRST_BACKEND_PORT = 20000
# Where the same listen for HTTP/2 alone.
FIRST_HTTP2_PORT = 24000
HTTP2_BACKENDS = 8


@dataclass(frozen=True)
class Place:
    """What a contender is told to work with."""

    folder: Path
    address: str
    port: int
    backends: tuple[str, ...]
    """As ADDRESS:PORT."""
    tls: bool = False
    """Its clients speak TLS."""
    tcp: bool = False
    """It carries TCP, whatever that is."""
    http2: bool = False
    """Its clients speak HTTP/2."""
    to_http2: bool = False
    """So do its backends."""

    def conf(self, template: str, backends: str = "", log: str = "", tls: str = "") -> Path:
        """A file of conf/ with its places filled in; `log` and `tls` may have some too."""
        text = (CONF / template).read_text()
        for name, value in (
            ("LOG", log),
            ("TLS", tls),
            ("FOLDER", self.folder),
            ("ADDRESS", self.address),
            ("PORT", self.port),
            ("BACKENDS", backends),
        ):
            text = text.replace(f"@{name}@", str(value))
        file = self.folder / f"{self.port}-{template}"
        file.write_text(text)
        return file


class Backends:
    """The backends of a run: one nginx that listens on many ports."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.address = own_address()
        self.names = tuple(f"{self.address}:{FIRST_BACKEND_PORT + number}" for number in range(count))
        files = folder / "files" / "files"
        files.mkdir(parents=True)
        for size in (64 * KIB, MIB, 64 * MIB):
            (files / str(size)).write_bytes(b"0123456789abcdef" * (size // 16))
        self.http2_names = tuple(f"{self.address}:{FIRST_HTTP2_PORT + number}" for number in range(HTTP2_BACKENDS))
        lines = [f"        listen {name} backlog=4096;" for name in self.names]
        lines += [f"        listen {name} backlog=4096 http2;" for name in self.http2_names]
        listens = "\n".join(lines)
        text = (CONF / "backend.conf").read_text().replace("@FOLDER@", str(folder)).replace("@LISTEN@", listens)
        (folder / "backend.conf").write_text(text)
        self._process = Process(["nginx", "-c", folder / "backend.conf"], LOAD_CORE, folder)
        until(
            lambda: listening(self.address, FIRST_BACKEND_PORT),
            PATIENCE_S,
            lambda: f"the backends do not listen: {self._process.said()}",
        )

    def place(self, port: int, scenario: Scenario) -> Place:
        """For a contender on that port, in front of as many as the scenario has."""
        if scenario.tls:
            self._make_certificate()
        names = (self.http2_names if scenario.to_http2 else self.names)[: scenario.backends]
        http2 = scenario.streams > 0
        return Place(self.folder, self.address, port, names, scenario.tls, scenario.tcp, http2, scenario.to_http2)

    def _make_certificate(self) -> None:
        """A certificate and its key in one file, as all contenders take them."""
        file, key = self.folder / "tls.pem", self.folder / "tls.key"
        if not file.exists():
            kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
            made = output(
                "openssl",
                "req",
                "-x509",
                *kind,
                "-addext",
                "subjectAltName=DNS:localhost",
                "-days",
                "30",
                "-keyout",
                key,
            )
            file.write_text(made[made.index("-----BEGIN CERTIFICATE") :] + key.read_text())
            file.chmod(0o600)

    def stop(self) -> None:
        """End them."""
        self._process.stop()
