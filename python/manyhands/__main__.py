"""The command ``manyhands``, also as ``python -m manyhands``."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line in `sys.argv` and return its exit status.

    0: done; 1: something failed, or results differ; 2: wrong arguments; 130: interrupted.
    """
    try:
        from manyhands import _native

        return _native.run_command(sys.argv)
    except KeyboardInterrupt:
        # Whoever presses Ctrl-C once more wants to be out at once, and without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("manyhands: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
