"""Levels with names, loggers with methods: workers have what the program has made of logging.

Reports: disruption-py#546, multiprocessing-logging#16: a task calls ``logger.verbose(…)``, which
there is not, or the record says "Level 15".
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging
import manyhands as mh
import sys

VERBOSE = 15

class Logger(logging.Logger):
    def verbose(self, message, *args):
        self.log(VERBOSE, message, *args)

class NoSecrets(logging.Filter):
    def filter(self, record):
        return "secret" not in record.getMessage()

logging.addLevelName(VERBOSE, "VERBOSE")
logging.addLevelName(logging.INFO, "info")
logging.setLoggerClass(Logger)
logging.basicConfig(level=VERBOSE, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
log = logging.getLogger("app")
log.addFilter(NoSecrets())

def work():
    log.verbose("as %s", "made")
    logging.getLogger("app.part").verbose("new")
    log.info("a secret")
    log.info("told")
    log.log(logging.getLevelName("VERBOSE"), "by name")
    other = logging.getLogger("other")
    other.setLevel("VERBOSE")
    return other.level

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(work).result() == VERBOSE
"""


@pytest.mark.parametrize("preloaded", [False, True])
def test_level_names_and_the_class_of_loggers(preloaded: bool) -> None:
    """Also where the zygote has imported logging before its workers are set up."""
    program = PROGRAM
    if preloaded:
        program = program.replace("Executor(1)", "Executor(1, preload=['logging.handlers'])")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "VERBOSE app as made",
        "VERBOSE app.part new",
        "info app told",
        "VERBOSE app by name",
    ]
