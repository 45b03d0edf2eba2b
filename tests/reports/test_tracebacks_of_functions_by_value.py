"""A function of the main script fails in a worker: its file, its line and its source are told.

Reports: execnet#101, curio#55, pathos#238, monarch#993. cloudpickle 3.1.3 leaves out the file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import inspect, logging, sys, traceback, warnings
import manyhands as mh

def total(order):
    logging.getLogger("shop").warning("adding up")
    warnings.warn("old price list")
    return order["net"] + order["tax"]  # the line that fails

records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append((record.filename, record.lineno))
logging.getLogger("shop").addHandler(Keep())

with warnings.catch_warnings(record=True) as seen, mh.ProcessPoolExecutor(1) as pool:
    warnings.simplefilter("always")
    assert pool.submit(inspect.getsource, total).result().startswith("def total(order)")
    try:
        pool.submit(total, {"net": 1}).result()
    except KeyError as error:
        told = "".join(traceback.format_exception(error))
assert f'File "{__file__}", line 8, in total' in told, told
assert "# the line that fails" in told, told
assert records == [("shop.py", 6)], records
assert [(each.filename, each.lineno) for each in seen] == [(__file__, 7)], seen
"""


def test_they_name_file_line_and_source(tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=55, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
