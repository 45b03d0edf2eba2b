"""Globals of ``__main__`` in workers: one namespace for each, as with multiprocessing.

Reports: loky#206, #215 and #359; the commonest idiom of `multiprocessing.Pool`, an initializer that
sets a global.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

INITIALIZER = """
import manyhands as mh

rate = 0
cache = {}

def configure(value, lock):
    global rate, guard
    rate, guard = value, lock
    cache["rate"] = value

def price(net):
    with guard:
        return net * (100 + rate), cache["rate"]

def count():
    cache["calls"] = cache.get("calls", 0) + 1
    return cache["calls"]

for make in (mh.Pool, mh.ProcessPoolExecutor):
    with make(1, initializer=configure, initargs=(19, mh.Lock())) as pool:
        assert list(pool.map(price, [1, 2])) == [(119, 19), (238, 19)]
        assert list(pool.map(lambda n: rate, [1])) == [19]
    assert rate == 0 and cache == {} and "guard" not in globals()

with mh.ProcessPoolExecutor(1, initializer=configure, initargs=(5, mh.Lock())) as pool:
    assert [pool.submit(count).result() for _ in range(3)] == [1, 2, 3]
    assert pool.submit(price, 1).result() == (105, 5)
"""

REDEFINITION = """
import manyhands as mh

step = 1
table = [1]

def inner(n):
    return n + step

def outer(n):
    return inner(n), sum(table)

def loop(n):
    return n if n <= 0 else loop(n - 1)

class Shape:
    sides = 3
    def double(self):
        return Shape.sides * 2

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(outer, 1).result() == (2, 1)
    step = 10
    assert pool.submit(outer, 1).result() == (11, 1)
    def inner(n):
        return -n
    table.append(5)
    assert pool.submit(outer, 1).result() == (-1, 6)
    assert pool.submit(loop, 5).result() == 0
    assert pool.submit(lambda shape: shape.double(), Shape()).result() == 6
    class Shape:
        sides = 4
        def double(self):
            return Shape.sides * 3
    assert pool.submit(lambda: Shape().double()).result() == 12
    # What a worker has in its globals comes back with its functions, and changes nothing here.
    back = pool.submit(lambda: inner).result()
    assert back(3) == -3 and back.__globals__ is not globals()
    assert mh.map(outer, [1], workers="process") == [(-1, 6)]
"""

LATE = """
import manyhands as mh

mark = 1

def read():
    return mark

def read_too():
    return mark

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(read).result() == 1
    started, go = mh.Event(), mh.Event()
    holds = pool.submit(lambda: (started.set(), go.wait()))
    started.wait()
    older = pool.submit(read_too)
    mark = 2
    newer = pool.submit(read)
    go.set()
    # One namespace: it is never set back to what an older task was sent with.
    assert older.result() in (1, 2) and newer.result() == 2
    assert pool.submit(read_too).result() == 2 and pool.submit(read).result() == 2
"""

CLASSES = """
import enum
import manyhands as mh

count = 0

class Counter:
    kind = "own"
    def bump(self):
        global count
        count += 1
        return count

class Color(enum.Enum):
    RED = 1
    def shown(self):
        return count

def change():
    Counter.kind = "a worker's"
    return Counter()

def make():
    class Local:
        kind = "local"
    return Local

bump, shown = Counter.bump, Color.shown
with mh.ProcessPoolExecutor(1) as pool:
    # What comes back is of the program's class, which is as it was.
    back = pool.submit(change).result()
    assert type(back) is Counter and Counter.bump is bump and Counter.kind == "own"
    assert (back.bump(), count) == (1, 1)
    queue = mh.Queue()
    queue.put(Counter())
    assert (queue.get().bump(), count) == (2, 2)
    assert pool.submit(lambda: Color.RED).result() is Color.RED and Color.shown is shown
    assert Color.RED.shown() == 2
    # A worker's follows the program's; one that a worker has made is its own.
    Counter.kind = "new"
    assert pool.submit(lambda: Counter.kind).result() == "new"
    Local = pool.submit(make).result()
    assert Local.kind == "local"
    assert pool.submit(lambda: (Local.kind, Local().kind)).result() == ("local", "local")
"""


@pytest.mark.parametrize(
    "program",
    [INITIALIZER, REDEFINITION, LATE, CLASSES],
    ids=["initializer", "redefinition", "late", "classes"],
)
def test_workers_have_one_namespace(program: str) -> None:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
