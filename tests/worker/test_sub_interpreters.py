"""What a program meets that imports manyhands in a sub-interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("_testcapi", reason="runs code in a sub-interpreter")

CODE = """
import sys, _testcapi
{run}
import manyhands as mh
if {first}:
    mh.Lock()
inner = '''
try:
    import manyhands as mh
    mh.Lock()
except ImportError as error:
    print(error)
'''
sys.exit(run(inner))
"""
# As mod_wsgi makes them; and with a GIL of its own, as `concurrent.interpreters` does.
KINDS = {
    "legacy": "run = _testcapi.run_in_subinterp",
    "isolated": """
def run(code):
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    interpreters = __import__(name)
    made = interpreters.create()
    failed = interpreters.run_string(made, code)
    interpreters.destroy(made)
    return failed is not None
""",
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_to_do(kind: str, first: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(run=KINDS[kind], first=first)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "this is a sub-interpreter: import it in the main one" in done.stdout
