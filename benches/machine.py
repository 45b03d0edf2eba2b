"""What was measured on: hardware, system, versions, and what else the machine was doing."""

from __future__ import annotations

import os
import platform
import resource
import signal
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benches.contenders import distribution
from benches.measure import ENDING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Machine:
    """A description that stands beside every result."""

    date: str
    commit: str
    cpu: str
    cpus: int
    memory_bytes: int
    system: str
    kernel: str
    python: str
    versions: dict[str, str]
    load_before: float


def described(names: Iterable[str]) -> Machine:
    """Describe this machine and the installed versions of the named contenders."""
    distributions = {distribution(name) for name in names} - {None}
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        cpu=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=_field("/etc/os-release", "PRETTY_NAME", "=").strip('"') or platform.system(),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: _version(name) for name in sorted(filter(None, distributions))},
        load_before=round(os.getloadavg()[0], 2),
    )


def _commit() -> str:
    """Return the commit measured, with a + if files differ from it; "-" outside a repository."""
    ask = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
    here = Path(__file__).parent
    # What ends a run would come between the start of the child and the handle to end it by.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        done = subprocess.run(ask, cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "-"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return done.stdout.strip() or "-"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        # Importable from a source tree without having been installed.
        return "source tree"


def _field(path: str, key: str, separator: str = ":") -> str:
    """Return the value of the first `key` in a file of key-value lines, or an empty string."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip()
    return ""


class Disturbance:
    """How much of the machine's CPU time went to others while something was measured."""

    def __init__(self) -> None:
        self._start = self._now()

    def share(self) -> float:
        """Return others' part of all CPU time since construction (0.0: the machine was ours).

        Others are processes that are not this one's children, and what the hypervisor took away.
        """
        total, busy, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(0.0, round((busy - own) / total, 4)) if total > 0 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return (all, busy, our own) CPU seconds since boot, over all CPUs."""
        ticks = os.sysconf("SC_CLK_TCK")
        # user nice system idle iowait irq softirq steal; guest time is already within user.
        fields = [
            int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
        ]
        busy = sum(fields) - fields[3] - fields[4]
        own = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            own += usage.ru_utime + usage.ru_stime
        return sum(fields) / ticks, busy / ticks, own
