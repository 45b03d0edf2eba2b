"""Programs that fork, end, or have no greenlets around tasks that are some."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest

needs_greenlet = pytest.mark.skipif(
    importlib.util.find_spec("greenlet") is None, reason="greenlet is not installed"
)

HEAD = """
import asyncio, os, sys, threading
import manyhands as mh

def double(number):
    mh.sleep(0.01)
    return 2 * number
"""


def run(script: str) -> str:
    """Run a program to its end; return what it has printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HEAD + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_without_greenlets_it_is_said_what_to_do() -> None:
    printed = run("""
        sys.modules["greenlet"] = None  # as if it were not installed
        for attempt in (
            lambda: mh.GreenletPoolExecutor(),
            lambda: mh.map(double, [1], workers="greenlet"),
            lambda: mh.shared_pool(workers="greenlet"),
            lambda: mh.await_(asyncio.sleep(0)),
        ):
            try:
                attempt()
            except (ImportError, RuntimeError) as error:
                print(type(error).__name__, "pip install 'manyhands[greenlet]'" in str(error))
        print(mh.map(double, [2], workers="thread"))
    """)
    assert printed.splitlines() == [*["ImportError True"] * 3, "RuntimeError False", "[4]"]


def test_the_package_is_imported_only_where_it_is_used() -> None:
    assert run("""
        async def add(x):
            return x + 1

        print(mh.map(add, [1]), "greenlet" in sys.modules)
    """).split() == ["[2]", "False"]


@needs_greenlet
def test_the_end_of_a_program_waits_for_what_is_queued() -> None:
    printed = run("""
        pool = mh.GreenletPoolExecutor(max_tasks=1)
        for number in range(3):
            pool.submit(lambda number: print(double(number)), number)
    """)
    assert printed.split() == ["0", "2", "4"]


@needs_greenlet
def test_a_program_may_end_while_greenlets_wait() -> None:
    # In a loop of its own, which nobody ends.
    printed = run("""
        from manyhands._coroutine.greenlets import run

        def stand():
            print("stands")
            mh.await_(asyncio.get_running_loop().create_future())

        async def main():
            loop.task = asyncio.create_task(run(stand))
            await asyncio.sleep(0.01)

        loop = asyncio.SelectorEventLoop()
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(main())
        print("ends")
    """)
    assert printed.split() == ["stands", "ends"]


@needs_greenlet
def test_a_daemon_thread_with_greenlets_does_not_hold_up_the_end() -> None:
    printed = run("""
        from manyhands._coroutine.greenlets import run

        def stand():
            begun.set()
            mh.Event().wait()

        begun = threading.Event()
        threading.Thread(target=lambda: asyncio.run(run(stand)), daemon=True).start()
        assert begun.wait(30)
        print("ends")
    """)
    assert printed.split() == ["ends"]


@needs_greenlet
@pytest.mark.parametrize("where", ["thread", "greenlet"])
def test_a_fork_keeps_the_executor_on_both_sides(where: str) -> None:
    printed = run(
        f"""
        import warnings
        warnings.simplefilter("ignore")
        gate = mh.Event()
        pool = mh.GreenletPoolExecutor(stall_after=None)

        def fork():
            child = os.fork()
            if child:
                return os.waitpid(child, 0)[1]
            status = 1
            try:
                try:
                    waiting.result(30)
                except mh.ManyhandsError as error:
                    assert "forked" in str(error), error
                # A thread of its own: that of the parent's loop, where this may be, waits here.
                with mh.GreenletPoolExecutor() as own:
                    assert list(own.map(double, range(3))) == [0, 2, 4]
                status = 0
            finally:
                os._exit(status)

        begun = mh.Event()
        waiting = pool.submit(lambda: (begun.set(), gate.wait())[1])
        assert begun.wait(30)
        forked = pool.submit(fork).result(30) if {where == "greenlet"} else fork()
        gate.set()
        print(forked, waiting.result(30), pool.submit(double, 1).result(30))
        pool.shutdown()
    """
    )
    assert printed.split() == ["0", "True", "2"]


@needs_greenlet
def test_ctrl_c_ends_a_program_whose_greenlets_wait() -> None:
    printed = run("""
        import signal

        try:
            with mh.GreenletPoolExecutor() as pool:
                future = pool.submit(mh.sleep, 3600)
                threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
                future.result()
        except KeyboardInterrupt:
            print("ended", future.cancelled())
    """)
    assert printed.split() == ["ended", "True"]
