"""Functions and classes of ``__main__`` that decorators and metaclasses have changed.

Reports: cloudpickle#178, #225, #311, #527 and #528, loky#268, ray#31099,
dask#5477, python/cpython#86572, #120170.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

DECORATED = """
import functools
import manyhands as mh

@functools.lru_cache(maxsize=None)
def square(n):
    return n * n

@functools.cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

@functools.singledispatch
def kind(thing):
    return "thing"

@kind.register
def _(thing: int):
    return "int"

class Shape:
    @functools.cached_property
    def area(self):
        return 12

    @functools.lru_cache
    def row(self, n):
        return n + 1

    @functools.singledispatchmethod
    def show(self, thing):
        return "thing"

    @show.register
    def _(self, thing: int):
        return "int"

def uses_them(n):
    shape = Shape()
    return square(n), kind(n), shape.area, shape.area, shape.row(n), shape.show(n), shape.show("")

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(square, 3).result() == 9
    assert pool.submit(fibonacci, 30).result() == 832040
    assert [pool.submit(kind, each).result() for each in (3, "")] == ["int", "thing"]
    assert pool.submit(uses_them, 3).result() == (9, "int", 12, 12, 4, "int", "thing")
    assert pool.submit(Shape().show, 3).result() == "int"
    assert pool.submit(lambda shape: shape.area, Shape()).result() == 12
"""

CTYPES = """
import ctypes
import manyhands as mh

class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_double), ("y", ctypes.c_double))

    def norm(self):
        return abs(self.x) + abs(self.y)

class Word(ctypes.Union):
    _fields_ = (("i", ctypes.c_int), ("f", ctypes.c_float))

class Line(ctypes.Structure):
    _layout_ = "ms"  # what packing means; from 3.14 on, it wants to be said
    _pack_ = 4
    _fields_ = (("ends", Point * 2), ("word", Word))

def move(points):
    for point in points:
        point.x += 1
    return isinstance(points[0], Point), points[0].norm()

with mh.ProcessPoolExecutor(1) as pool:
    points = mh.Array(Point, [(1, 2), (3, 4)])
    assert pool.submit(move, points).result() == (True, 4)
    assert points[0].x == 2
    back = pool.submit(lambda: Point(1, 2)).result()
    assert type(back) is Point and back.norm() == 3
    assert pool.submit(lambda value: value.i, mh.Value(Word, 5)).result() == 5
    line = Line((Point(1, 2), Point(3, 4)), Word(i=7))
    assert pool.submit(lambda line: (line.ends[1].y, line.word.i), line).result() == (4, 7)
    queue = mh.Queue()
    queue.put(Point(5, 6))
    assert type(queue.get()) is Point
"""

NAMED = """
import functools
import sys
import typing
import manyhands as mh

Number = typing.NewType("Number", int)
P = typing.ParamSpec("P")
Ts = typing.TypeVarTuple("Ts")
T = typing.TypeVar("T")
Nested = typing.NewType("Nested.Number", int)
if sys.version_info >= (3, 12):
    exec("type Alias[X] = list[X]")
    exec("class Home:\\n    type Inner = int")

def texts():
    inner = getattr(Home.Inner, "__qualname__", "")
    return str(Alias[int]), Alias.__module__, str(Home.Inner), inner, str(Nested)

class Adder:
    def add(self, one, other):
        return one + other
    add_ten = functools.partialmethod(add, 10)
    add_all = functools.partialmethod(add, other=20)

class Box(typing.Generic[T]):
    def __init__(self, value: T):
        self.value = value

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(lambda: (Number(3), Number.__name__)).result() == (3, "Number")
    assert pool.submit(lambda: (P.__name__, Ts.__name__)).result() == ("P", "Ts")
    assert pool.submit(lambda kind: kind.__supertype__, Number).result() is int
    assert pool.submit(lambda: Nested.__qualname__).result() == "Nested.Number"
    assert pool.submit(lambda: (Adder().add_ten(1), Adder().add_all(1))).result() == (11, 21)
    assert pool.submit(lambda: Box[Number](5).value).result() == 5
    if sys.version_info >= (3, 12):
        assert texts()[0].endswith("Alias[int]")
        assert texts()[1] == "__main__"
        assert pool.submit(texts).result() == texts()
"""

NAMELESS = """
import multiprocessing
import types
import manyhands as mh

space = {}
exec("def formula(n):\\n    return 2 * n + 1", space)

def plain(n):
    return 2 * n + 1

plain.__module__ = None
copied = types.FunctionType(plain.__code__, {"__builtins__": __builtins__}, "copied")
with mh.ProcessPoolExecutor(1) as pool:
    for function in (space["formula"], plain, copied):
        assert pool.submit(function, 3).result() == 7
"""

# What cloudpickle makes of these has a `__dict__`, which does not fit into the program's own.
SLOTS = """
import dataclasses
import typing
import manyhands as mh

@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int = 2

class Private:
    __slots__ = ("__hidden", "seen", "__dict__", "__weakref__")
    def __init__(self):
        self.__hidden, self.seen, self.extra = 1, 2, 3
    def all(self):
        return self.__hidden, self.seen, self.extra

class More(Private):
    __slots__ = "more"
    def __init__(self):
        super().__init__()
        self.more = 4

class Box(typing.Generic[typing.TypeVar("T")]):
    __slots__ = ("value",)

class Pair(typing.NamedTuple):
    first: int = 1

def refuses(thing):
    try:
        thing.unknown = 1
    except AttributeError:
        return thing
    return "took an unknown attribute"

def box():
    made = Box()
    made.value = 5
    return made

with mh.ProcessPoolExecutor(1) as pool:
    back = pool.submit(refuses, Point(1)).result()
    assert type(back) is Point and back == Point(1, 2) and not hasattr(back, "__dict__")
    for kind in (Private, More):
        for back in (pool.submit(kind).result(), pool.submit(lambda it: it, kind()).result()):
            assert type(back) is kind and back.all() == (1, 2, 3)
    assert pool.submit(lambda: More().more).result() == 4
    assert pool.submit(lambda: refuses(box())).result().value == 5
    assert type(pool.submit(refuses, Pair()).result()) is Pair
"""

SUBCLASSES = """
import manyhands as mh

registry = {}

class Base:
    def __init_subclass__(cls, *, key, **others):
        super().__init_subclass__(**others)
        registry[key] = cls
        cls.key = key

class Circle(Base, key="circle"):
    def known(self):
        return registry["circle"] is Circle, sorted(registry), self.key

class Disc(Circle, key="disc"):
    pass

def another():
    class Local(Base, key="local"):
        pass
    return registry["local"] is Local, Local.key

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(lambda: Circle().known()).result() == (True, ["circle", "disc"], "circle")
    assert pool.submit(lambda: Disc().known()).result() == (True, ["circle", "disc"], "disc")
    assert pool.submit(another).result() == (True, "local")
    back = pool.submit(lambda shape: shape, Disc()).result()
    assert type(back) is Disc
    # To load it has made no class that takes the place of the program's own.
    assert registry == {"circle": Circle, "disc": Disc}
"""

# To make them takes functions of the program's, which look for globals.
MADE_BY_OURS = """
import manyhands as mh

class Meta(type):
    def __new__(meta, name, bases, space):
        names.append(name)
        return super().__new__(meta, name, bases, space)

names = []

class Thing(metaclass=Meta):
    pass

class Holder:
    def __init__(self, number):
        self.number = number
    def __reduce__(self):
        return hold, (self.number,)

def hold(number):
    return Holder(number + OFFSET)

OFFSET = 100
HELD = Holder(1)
# In a circle, whatever comes first.
def even(n):
    return n == 0 or odd(n - 1)
def odd(n):
    return n != 0 and even(n - 1)

with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(lambda: type(Thing).__name__).result() == "Meta"
    assert pool.submit(lambda: HELD.number).result() == 101
    assert pool.submit(lambda: (even(4), odd(4))).result() == (True, False)
    assert names == ["Thing"]
"""


@pytest.mark.parametrize(
    "program",
    [DECORATED, CTYPES, NAMED, NAMELESS, SLOTS, SUBCLASSES, MADE_BY_OURS],
    ids=["decorated", "ctypes", "named", "nameless", "slots", "subclasses", "made-by-ours"],
)
def test_they_run_in_workers(program: str) -> None:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
