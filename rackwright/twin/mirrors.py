"""Package mirrors for the guests of a twin: those of this computer, if the stack lends them."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from rackwright.errors import Diagnostic, SetupError
from rackwright.toolchain.apt import COMPONENTS, SUITES
from rackwright.toolchain.apt import mirrors as local_mirrors

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class MirrorProxy:
    """An address in a container at which its chassis listens, and relays clients to a mirror outside."""

    address: str
    """Address in the container, on its loopback interface."""
    port: int
    host: str
    """Host name of the mirror, which the container resolves to *address*."""


def source_lines(os_name: str) -> tuple[str, ...]:
    """Return the package sources of a guest with *os_name*, as lines of sources.list(5).

    Raises:
        SetupError: This computer's apt has no mirror of that system.
    """
    sources = tuple(local_mirrors(SUITES[os_name], COMPONENTS))
    if not sources:
        raise SetupError(
            Diagnostic(
                "rackwright:mirrors",
                "this computer's apt has no mirror of Debian",
                help="Remove the setting, or add a mirror to /etc/apt/sources.list.d",
                note="a twin's hosts use the mirrors of this computer",
                id="mirror-missing",
            )
        )
    return sources


def mirror_proxies(sources: tuple[str, ...]) -> tuple[MirrorProxy, ...]:
    """Return a proxy for each mirror in lines of sources.list(5). Mirrors with the same host name share an address."""
    urls = [urlsplit(line.partition("] ")[2].split()[0]) for line in sources]
    mirrors = dict.fromkeys((url.hostname or "", url.port or PORTS.get(url.scheme, 0)) for url in urls)
    names = list(dict.fromkeys(host for host, _ in mirrors))
    return tuple(MirrorProxy(f"127.0.2.{names.index(host) + 1}", port, host) for host, port in mirrors if host and port)
