"""Debian's packages, where this machine has them and this user may install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

__all__ = ["install_package", "may_install"]


def may_install() -> bool:
    """Tells whether packages can be installed here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_package(name: str, why: str) -> None:
    """Installs a package, and says so; raises CalledProcessError if that fails."""
    print(f"installing {name} with apt-get, because {why}", file=sys.stderr)
    for command in (["update"], ["install", "-y", "--no-install-recommends", name]):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        full = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", *command]
        subprocess.run(full, check=True, env=environment, stdout=subprocess.DEVNULL)
