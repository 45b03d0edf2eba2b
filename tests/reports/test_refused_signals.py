"""Signals that the system refuses: `cancel` says so, time-outs come about, nothing hangs.

Found by use in a sandbox whose seccomp filter forbids signals: `cancel()` said True, and the task
went on.
"""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

if platform.machine() not in ("x86_64", "aarch64"):
    pytest.skip("the filter below is written for two machines", allow_module_level=True)

# Forbids kill, tgkill, pidfd_send_signal and the like in all threads, and in what they start.
FILTER = """
import ctypes, os, platform, struct, sys, threading, time
import manyhands as mh

def forbid_signals():
    numbers = {"x86_64": (62, 200, 234, 129, 297, 424), "aarch64": (129, 130, 131, 138, 240, 424)}
    arch = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}
    machine = platform.machine()
    calls = numbers[machine]
    code = [(0x20, 0, 0, 0)]  # load the number of the call
    for at, call in enumerate(calls):
        code.append((0x15, len(calls) - at, 0, call))  # to the refusal if it is this one
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | 1)]  # allow; EPERM
    text = b"".join(struct.pack("<HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(text, len(text))
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    program = Program(len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):
        sys.exit(77)
    if libc.syscall(arch[machine][1], 1, 1, ctypes.byref(program)):
        sys.exit(77)
    try:
        os.kill(os.getpid(), 0)
    except PermissionError:
        return
    sys.exit(77)

def stubborn(path, seconds=600):
    end = time.monotonic() + seconds
    open(path, "w").close()
    while time.monotonic() < end:
        time.sleep(0.01)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.002)

begun = sys.argv[1] + "/begun"
"""

CANCEL = """
pool = mh.ProcessPoolExecutor(1)
assert pool.submit(abs, -1).result() == 1
forbid_signals()
future = pool.submit(stubborn, begun, 1.0)
wait_for(begun)
waiting = pool.submit(abs, -2)
assert waiting.cancel()
assert not future.cancel(), "it cannot be stopped"
assert future.running()
assert future.result(30) is None
pool.shutdown()
print("ended")
"""

TIMEOUT = """
pool = mh.ProcessPoolExecutor(1, grace=0.1)
assert pool.submit(abs, -1).result() == 1
forbid_signals()
future = pool.options(timeout=0.3).submit(stubborn, begun)
assert isinstance(future.exception(30), mh.TaskTimeout)
assert pool.submit(abs, -2).result(30) == 2
pool.shutdown()
print("ended")
"""

EVERYWHERE = """
forbid_signals()
pool = mh.ProcessPoolExecutor(1, grace=0.1)
future = pool.options(timeout=0.3).submit(stubborn, begun)
assert isinstance(future.exception(30), mh.TaskTimeout)
assert pool.submit(abs, -2).result(30) == 2
workers = pool._processes.values()
pool.shutdown()
assert not any(worker.is_alive() for worker in workers)
print("ended")
"""

TERMINATED = """
forbid_signals()
pool = mh.ProcessPoolExecutor(2)
future = pool.submit(stubborn, begun)
wait_for(begun)
pool.terminate()
assert future.cancelled()
print("ended")
"""


@pytest.mark.parametrize("program", [CANCEL, TIMEOUT, EVERYWHERE, TERMINATED])
def test_refused_signals(program: str, tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILTER + program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("this system allows no filters")
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
