"""The command `manyhands`, and its demonstration."""

from collections.abc import Sequence
from typing import final

from manyhands.demo import JobReport, Setting

def run_command(argv: Sequence[str]) -> int:
    """Run a command line, program name first, and return its exit status."""

@final
class DemoView:
    """Shows the demonstration's progress and results on the terminal."""

    def begin(self, setting: Setting) -> None: ...
    def progress(self, job: str, kind: str, share: float, run: int, runs: int) -> None: ...
    def finish(self, job: JobReport) -> None: ...
