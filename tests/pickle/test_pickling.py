"""Objects to bytes and back: by reference, by value, with errors that name the offender."""

from __future__ import annotations

import contextvars
import datetime
import decimal
import functools
import gc
import json
import math
import multiprocessing
import pickle
import subprocess
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands as mh
from manyhands import _native
from manyhands._errors.base import ManyhandsError, RemoteTraceback, TaskTimeout
from manyhands._interpreter import import_watch
from manyhands._pickle import context as _context
from manyhands._pickle import function_key, pickling, remote_error
from manyhands._pickle.constants import is_constant, is_importable

PACKAGE_DIR = Path(pickling.__file__).parent.parent.parent

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


def run_script(source: str, *arguments: str) -> str:
    """Run a program whose ``__main__`` can define things; return its output."""
    program = f"import sys; sys.path[:0] = [{str(PACKAGE_DIR)!r}]\n" + textwrap.dedent(source)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# What `dumps` makes of things


@given(plain)
def test_plain_values_round_trip(value: object) -> None:
    data, buffers = pickling.dumps(value)
    assert pickling.loads(data, buffers) == value
    assert buffers == []
    assert pickling.loads(pickling.dumps_in_band(value)) == value


def test_array_memory_is_kept_out_of_the_pickle() -> None:
    array = np.arange(100_000)
    data, buffers = pickling.dumps([array, "x"])
    assert len(data) < 1000
    assert [buffer.raw().nbytes for buffer in buffers] == [array.nbytes]
    loaded = pickling.loads(data, buffers)
    assert np.shares_memory(loaded[0], array)
    assert np.array_equal(pickling.loads(pickling.dumps_in_band(array)), array)


def test_loads_takes_any_bytes_like() -> None:
    data, _ = pickling.dumps(["here"])
    assert pickling.loads(memoryview(data)) == ["here"]
    assert pickling.loads(bytearray(data)) == ["here"]


def test_lambda_and_closure_travel_by_value() -> None:
    base = 40

    def add(number: int) -> int:
        return base + number

    assert pickling.loads(*pickling.dumps(add))(2) == 42
    assert pickling.loads(*pickling.dumps(lambda: base))() == 40


def test_array_in_a_closure_stays_out_of_band() -> None:
    array = np.ones(50_000)
    data, buffers = pickling.dumps(lambda: array)
    assert len(data) < 5000
    assert np.shares_memory(pickling.loads(data, buffers)(), array)


def test_definitions_of_main_are_pickled_by_value() -> None:
    # The pickle is loaded by a process whose __main__ defines nothing of all that.
    sender = """
        from manyhands._pickle import pickling as _pickling
        import enum, dataclasses

        LIMIT = 7
        class Base:
            def size(self): return LIMIT
        @dataclasses.dataclass
        class Point(Base):
            x: int
        class Colour(enum.Enum):
            RED = 1
        def area(p): return p.x * p.size()

        sys.stdout.write(_pickling.dumps_in_band((area, Point(6), Colour.RED)).hex())
    """
    receiver = """
        from manyhands._pickle import pickling as _pickling
        area, point, colour = _pickling.loads(bytes.fromhex(sys.argv[1]))
        print(area(point), point.x, colour.name)
    """
    assert run_script(receiver, run_script(sender)) == "42 6 RED\n"


def test_instances_of_main_classes_come_back_as_themselves() -> None:
    output = run_script(
        """
        import subprocess, textwrap
        from manyhands._pickle import pickling as _pickling
        class Point:
            def __init__(self, x): self.x = x
        child = "import sys; sys.path[:0] = %r; " % sys.path[:1]
        child += "from manyhands._pickle import pickling as _pickling; "
        child += "p = _pickling.loads(bytes.fromhex(sys.argv[1])); p.x += 1; "
        child += "print(_pickling.dumps_in_band(p).hex())"
        sent = _pickling.dumps_in_band(Point(1)).hex()
        back = subprocess.run([sys.executable, "-c", child, sent], capture_output=True, check=True)
        point = _pickling.loads(bytes.fromhex(back.stdout.decode()))
        print(type(point) is Point, point.x)
        """
    )
    assert output == "True 2\n"


def test_text_that_mentions_main_is_pickled_plainly() -> None:
    text = 'if __name__ == "__main__":\n    main()\n' * 3
    assert pickling.dumps([text])[0] == pickle.dumps([text], 5)


def test_plain_pickling_imports_neither_cloudpickle_nor_typing() -> None:
    output = run_script(
        """
        from manyhands._pickle import pickling as _pickling
        _pickling.dumps([1, len, {}])
        print([name for name in ("cloudpickle", "typing", "logging") if name in sys.modules])
        """
    )
    assert output == "[]\n"


# Errors


class Holder:
    def __init__(self, content: object) -> None:
        self.content = content


class Refuses:
    """Cannot be pickled, with an exception type of its own choice."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (threading.Lock(), "args: "),
        ([1, threading.Lock()], "args[1]: "),
        (({"a": [0, Holder(threading.Lock())]},), "args[0]['a'][1].content: "),
        (({threading.Lock(): 1},), "args[0] key <unlocked"),
        (functools.partial(print, threading.Lock()), "args.args[0]: "),
        (Holder(threading.Lock()).__init__, "args.__self__.content: "),  # type: ignore[misc]
    ],
)
def test_error_names_the_object_and_its_place(obj: object, path: str) -> None:
    with pytest.raises(TypeError) as caught:
        pickling.dumps(obj, "args")
    message = str(caught.value)
    assert message.startswith("cannot pickle '_thread.lock' object; the object is " + path)
    assert "<unlocked _thread.lock object" in message


def test_error_names_an_argument_of_a_call() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"the object is args\[1\]: <unlocked"):
        pickling.dumps(((1, lock), {}, b""), "the call")
    with pytest.raises(TypeError, match=r"the object is kwargs\['guard'\]: <unlocked"):
        pickling.dumps(((1,), {"guard": lock}, b""), "the call")


def test_error_names_a_closures_variable() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="fn, its variable 'lock': <unlocked"):
        pickling.dumps(lambda: lock, "fn")


def test_error_of_a_self_containing_object_is_found() -> None:
    loop: list[object] = []
    loop += [loop, threading.Lock()]
    with pytest.raises(TypeError, match=r"args\[1\]: <unlocked"):
        pickling.dumps(loop, "args")


def test_error_search_ends_in_a_huge_object() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickling.dumps([[number] for number in range(5000)] + [threading.Lock()], "args")


def test_errors_keep_their_type() -> None:
    with pytest.raises(pickle.PicklingError, match=r"no; the object is args\[0\]: .*Refuses"):
        pickling.dumps([Refuses(pickle.PicklingError("no"))], "args")
    with pytest.raises(ZeroDivisionError, match="no") as caught:
        pickling.dumps([Refuses(ZeroDivisionError("no"))], "args")
    # From CPython 3.14 on, pickle adds notes of its own.
    assert any("the object is args[0]: " in note for note in caught.value.__notes__)


class Own(Exception):
    pass


class RefusesAnew:
    def __reduce__(self) -> Any:
        raise Own("no")


def test_errors_are_in_no_circle() -> None:
    gc.collect()
    gc.disable()
    try:
        with mh.ProcessPoolExecutor(1) as pool, mh.Pool(1) as others:
            item = RefusesAnew()
            calls: list[Callable[[], object]] = [
                lambda: pickling.dumps(item, "it"),
                lambda: pickling.dumps_in_band(item, "it"),
                lambda: pool.submit(id, item),
                lambda: list(pool.map(id, [item])),
                lambda: list(pool.imap(id, [item])),
                lambda: mh.map(id, [item], workers=pool),
                lambda: others.map(id, [item]),
                lambda: list(others.imap(id, [item])),
            ]
            assert [ended_by(call)() for call in calls] == [None] * len(calls)
            with pytest.raises(Own) as caught:
                pool.submit(id, item)
            assert caught.value.__cause__ is None
            del caught
    finally:
        gc.enable()


def ended_by(call: Callable[[], object]) -> Callable[[], Own | None]:
    try:
        call()
    except Own as error:
        return weakref.ref(error)
    raise AssertionError("it was pickled")


def test_error_survives_a_repr_that_fails() -> None:
    class Nameless(Refuses):
        def __repr__(self) -> str:
            raise RuntimeError("no repr either")

    with pytest.raises(pickle.PicklingError, match=r"args\[0\]: <.*Nameless object"):
        pickling.dumps([Nameless(pickle.PicklingError("no"))], "args")


# What multiprocessing hands to a process when it starts


# In processes of their own: multiprocessing starts servants that it keeps until its process ends.


def test_spawn_contexts_queue_travels_in_initargs() -> None:
    output = run_script(
        """
        import multiprocessing
        from manyhands._pickle import pickling as _pickling
        queue = multiprocessing.get_context("spawn").Queue()
        data, descriptors = _pickling.dumps_for_spawn((print, (queue,), None))
        print({queue._reader.fileno(), queue._writer.fileno()} <= set(descriptors))
        """
    )
    assert output == "True\n"


def test_lock_and_event_in_initargs_with_a_function_of_main() -> None:
    output = run_script(
        """
        import multiprocessing, os
        from manyhands._pickle import pickling as _pickling
        context = multiprocessing.get_context("spawn")
        lock, (reader, writer) = context.Lock(), context.Pipe()
        def initialize(lock, writer): writer.send(lock.acquire(block=False))
        data, descriptors = _pickling.dumps_for_spawn((initialize, (lock, writer), None))
        assert writer.fileno() in descriptors
        lock.acquire()
        child = "import sys; sys.path[:0] = %r; " % sys.path[:1]
        child += "from manyhands._pickle import pickling as _pickling; "
        child += "f, args, _ = _pickling.loads(bytes.fromhex(sys.argv[1])); f(*args)"
        import subprocess
        subprocess.run([sys.executable, "-c", child, data.hex()], pass_fds=descriptors, check=True)
        print(reader.recv())
        """
    )
    assert output == "False\n"


def test_fork_contexts_lock_is_refused_with_a_hint() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    with pytest.raises(RuntimeError, match="'spawn' or 'forkserver' context"):
        pickling.dumps_for_spawn((print, (lock,), None))


def test_lock_among_arguments_is_refused_with_a_hint() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    with pytest.raises(
        RuntimeError, match=r"through inheritance.*args\[0\].*only through initargs"
    ):
        pickling.dumps((lock,), "args")


def test_the_spawning_state_is_put_back() -> None:
    with pytest.raises(TypeError):
        pickling.dumps_for_spawn((print, (threading.Lock(),), None))
    assert multiprocessing.context.get_spawning_popen() is None


def test_connection_among_arguments_is_handed_over() -> None:
    output = run_script(
        """
        import multiprocessing, subprocess
        from manyhands._pickle import pickling as _pickling
        reader, writer = multiprocessing.Pipe(duplex=False)
        data = _pickling.dumps_in_band(writer)
        key = bytes(multiprocessing.current_process().authkey)
        child = "import sys, multiprocessing; sys.path[:0] = %r; " % sys.path[:1]
        child += "from manyhands._pickle import pickling as _pickling; "
        child += "process = multiprocessing.current_process(); "
        child += "process.authkey = bytes.fromhex(sys.argv[1]); "
        child += "_pickling.loads(bytes.fromhex(sys.argv[2])).send('hello')"
        subprocess.run([sys.executable, "-c", child, key.hex(), data.hex()], check=True)
        print(reader.recv())
        """
    )
    assert output == "hello\n"


# When a function's pickle may be kept


def test_importable_callables_hold_for_ever() -> None:
    for fn in (len, math.sqrt, json.dumps, dict, np.sum):
        data, guard = function_key.function_key(fn)
        assert guard is None and data is not None
        assert pickling.loads(data) is fn


factor = 3
table = [1]


def test_lambda_with_constants_holds_until_one_changes() -> None:
    offset = 1
    names: dict[str, Any] = {"factor": 3, "__builtins__": __builtins__}
    fn = eval("lambda x, step=2: len(str(x)) * factor + step", names)
    _, guard = function_key.function_key(fn)
    assert guard
    assert _native.guard_holds(guard)
    names["factor"] = 4
    assert not _native.guard_holds(guard)
    _, guard = function_key.function_key(fn)
    assert guard
    names["len"] = sum  # a builtin is covered by a global
    assert not _native.guard_holds(guard)

    def with_cell() -> int:
        return offset

    _, guard = function_key.function_key(with_cell)
    assert guard
    assert _native.guard_holds(guard)
    offset = 2
    assert not _native.guard_holds(guard)
    _, guard = function_key.function_key(with_cell)
    assert guard
    with_cell.__defaults__ = (5,)
    assert not _native.guard_holds(guard)


def test_functions_called_by_a_function_are_guarded_too() -> None:
    names: dict[str, Any] = {"base": 1, "__builtins__": __builtins__}
    exec("def inner(): return base\ndef outer(): return inner() + (lambda: depth)()", names)
    names["depth"] = 0
    _, guard = function_key.function_key(names["outer"])
    assert guard
    assert _native.guard_holds(guard)
    names["base"] = 2
    assert not _native.guard_holds(guard)
    names["base"] = 1
    _, guard = function_key.function_key(names["outer"])
    assert guard
    names["depth"] = 9
    assert not _native.guard_holds(guard)


def test_functions_that_call_each_other_have_a_guard() -> None:
    names: dict[str, Any] = {"__builtins__": __builtins__}
    exec("def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n and even(n - 1)", names)
    _, guard = function_key.function_key(names["even"])
    assert guard
    assert _native.guard_holds(guard)


def test_what_can_change_inside_is_pickled_anew() -> None:
    mutable: list[int] = []

    def late() -> object:
        return filled

    assert function_key.function_key(late)[1] is False  # its cell is still empty
    filled = 1
    assert function_key.function_key(late)[1]
    module = types.ModuleType("made_here")
    for fn in (
        lambda: mutable,
        lambda: module,
        lambda _=mutable: None,
        functools.partial(len, mutable),
        Holder(1).__init__,  # type: ignore[misc]
    ):
        assert function_key.function_key(fn)[1] is False


def test_attributes_of_functions_count() -> None:
    def counted() -> None: ...

    counted.limit = 3  # type: ignore[attr-defined]
    _, guard = function_key.function_key(counted)
    assert guard
    counted.limit = 4  # type: ignore[attr-defined]
    assert not _native.guard_holds(guard)
    counted.seen = []  # type: ignore[attr-defined]
    assert function_key.function_key(counted)[1] is False


def test_constants() -> None:
    constants = (1, "a", b"", None, ..., (1, ("x",)), frozenset({2}), decimal.Decimal(1))
    for value in constants:
        assert is_constant(value)
    assert is_constant(datetime.date(2026, 1, 1))
    mutables: tuple[object, ...] = ([], {}, set(), ([],), np.zeros(1), object(), Holder(1))
    for other in mutables:
        assert not is_constant(other)


def test_importable_means_found_by_name() -> None:
    assert is_importable(json.dumps)
    assert is_importable(Holder)
    assert not is_importable(lambda: 0)
    assert not is_importable(3)
    stray = types.FunctionType(json.dumps.__code__, {}, "dumps")
    stray.__module__ = "json"
    assert not is_importable(stray)


# Exceptions


def handed_over(error: BaseException, task: str = "demo") -> BaseException:
    """Return the exception as it is after having been raised, and sent from worker to parent."""
    try:
        raise error
    except BaseException as raised:
        return remote_error.load_exception(remote_error.dump_exception(raised, task))


class NeedsTwo(Exception):
    """Pickles, but cannot be unpickled: its arguments are not what its constructor takes."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class ExitsWhenLoaded(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no str")

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __reduce__(self) -> Any:
        raise self


class WithoutErrorInside(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception",)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("k"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(4),
        KeyboardInterrupt(),
        TaskTimeout("late", "task", 1.5),
        ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
        json.JSONDecodeError("bad", "doc", 0),
    ],
)
def test_exceptions_arrive_as_they_are(error: BaseException) -> None:
    arrived = handed_over(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert isinstance(arrived.__cause__, RemoteTraceback)
    text = str(arrived.__cause__)
    assert "Traceback (most recent call last)" in text
    assert "in handed_over" in text


def test_notes_and_causes_are_in_the_text() -> None:
    error = ValueError("outer")
    error.add_note("look here")
    error.__cause__ = KeyError("inner")
    arrived = handed_over(error)
    assert arrived.__notes__ == ["look here"]
    text = str(arrived.__cause__)
    assert "look here" in text
    assert "KeyError: 'inner'" in text
    assert "The above exception was the direct cause" in text


def test_an_exception_whose_arguments_do_not_make_it_anew_travels() -> None:
    arrived = handed_over(NeedsTwo(1, 2), "the-task")
    assert type(arrived) is NeedsTwo
    assert arrived.args == ("1 and 2",)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ExitsWhenLoaded("x"), "SystemExit"),
        (WithoutErrorInside("x"), "it is pickled as 'not an exception'"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_exceptions_that_cannot_travel_are_told(error: BaseException, told: str) -> None:
    arrived = handed_over(error, "the-task")
    assert type(arrived) is ManyhandsError
    assert f"task 'the-task' raised {__name__}.{type(error).__name__}" in str(arrived)
    assert told in str(arrived)
    assert type(error).__name__ in str(arrived.__cause__)


def test_exception_that_the_parent_cannot_load_is_told() -> None:
    data = remote_error.dump_exception(ValueError("v"), "t")
    _, text, summary = pickle.loads(data)
    arrived = remote_error.load_exception(pickle.dumps((b"cnowhere\nNothing\n.", text, summary)))
    assert type(arrived) is ManyhandsError
    assert "ModuleNotFoundError" in str(arrived)
    assert "ValueError('v')" in str(arrived)


def test_exception_class_of_main_arrives_as_itself() -> None:
    output = run_script(
        """
        import subprocess
        from manyhands._pickle import pickling as _pickling, remote_error as _remote_error
        class Wrong(Exception): pass
        def task(): raise Wrong("so wrong")
        child = "import sys; sys.path[:0] = %r; " % sys.path[:1]
        child += '''
        from manyhands._pickle import pickling as _pickling, remote_error as _remote_error
        try: _pickling.loads(bytes.fromhex(sys.argv[1]))()
        except Exception as e: print(_remote_error.dump_exception(e, "t").hex())
        '''.replace("\\n        ", "\\n")
        sent = _pickling.dumps_in_band(task).hex()
        back = subprocess.run([sys.executable, "-c", child, sent], capture_output=True, check=True)
        error = _remote_error.load_exception(bytes.fromhex(back.stdout.decode()))
        print(type(error) is Wrong, error)
        """
    )
    assert output == "True so wrong\n"


# Context variables


def in_new_context(values: dict[contextvars.ContextVar[Any], Any]) -> bytes:
    def dump() -> bytes:
        for name, value in values.items():
            name.set(value)
        return _context.dump_context()

    return contextvars.Context().run(dump)


def test_context_variables_of_modules_arrive() -> None:
    data = in_new_context({variable: {"user": 7}})
    context = _context.apply_context(data)
    assert context.run(variable.get) == {"user": 7}
    with pytest.raises(LookupError):
        variable.get()


def test_nothing_set_costs_nothing() -> None:
    assert contextvars.Context().run(_context.dump_context) == b""
    assert list(_context.apply_context(b"")) == []


def test_tasks_do_not_see_each_others_contexts() -> None:
    data = in_new_context({variable: "first"})
    context = _context.apply_context(data)
    context.run(variable.set, "changed")
    assert _context.apply_context(data).run(variable.get) == "first"
    mutable = in_new_context({variable: [1]})
    _context.apply_context(mutable).run(variable.get).append(2)
    assert _context.apply_context(mutable).run(variable.get) == [1]


def test_dump_is_kept_while_the_context_stays() -> None:
    def check() -> None:
        variable.set(True)
        first = _context.dump_context()
        assert _context.dump_context() is first
        variable.set(1)  # equal, but another value
        assert _context.apply_context(_context.dump_context()).run(variable.get) is not True
        content = [1]
        variable.set(content)
        before = _context.dump_context()
        content.append(2)
        assert _context.dump_context() != before

    contextvars.Context().run(check)


def test_what_cannot_be_pickled_stays_behind() -> None:
    other: contextvars.ContextVar[Any] = contextvars.ContextVar("nowhere")
    data = in_new_context({variable: threading.Lock(), other: 1})
    assert list(_context.apply_context(data)) == []


class NeverPickled:
    attempts = 0

    def __reduce__(self) -> Any:
        NeverPickled.attempts += 1
        raise TypeError("never")


def test_a_variable_of_unpicklable_things_is_tried_once() -> None:
    in_new_context({variable: NeverPickled()})
    attempts = NeverPickled.attempts
    assert attempts > 0
    assert in_new_context({variable: NeverPickled()}) == b""
    assert NeverPickled.attempts == attempts
    assert _context.apply_context(in_new_context({variable: 1})).run(variable.get) == 1


def test_a_variable_may_get_its_home_later() -> None:
    def check() -> None:
        hidden: contextvars.ContextVar[int] = contextvars.ContextVar("hidden")
        hidden.set(7)
        assert _context.dump_context() == b""
        pickling.dumps(lambda: hidden.get())
        context = _context.apply_context(_context.dump_context())
        assert context.run(hidden.get) == 7

    contextvars.Context().run(check)


def test_a_pickled_function_finds_its_variable() -> None:
    inner: contextvars.ContextVar[str] = contextvars.ContextVar("inner", default="nobody")
    child = """
        from manyhands._pickle import pickling as _pickling, context as _context
        fn = _pickling.loads(bytes.fromhex(sys.argv[1]))
        again = _pickling.loads(bytes.fromhex(sys.argv[1]))
        assert fn() == ("nobody", None)
        context = _context.apply_context(bytes.fromhex(sys.argv[2]))
        print(context.run(fn), context.run(again), fn())
    """

    def fn() -> tuple[str, Any]:
        return inner.get(), outer.get(None)

    outer: contextvars.ContextVar[Any] = contextvars.ContextVar("outer")
    function = pickling.dumps_in_band(fn)
    assert pickling.loads(function)() == ("nobody", None)
    context = in_new_context({inner: "ann", outer: 3})
    output = run_script(child, function.hex(), context.hex())
    assert output == "('ann', 3) ('ann', 3) ('nobody', None)\n"


def test_variable_in_main_script() -> None:
    sender = """
        import contextvars
        from manyhands._pickle import pickling as _pickling, context as _context
        user = contextvars.ContextVar("user_of_script")
        user.set("bob")
        def task(): return user.get()
        print(_pickling.dumps_in_band(task).hex(), _context.dump_context().hex())
    """
    receiver = """
        from manyhands._pickle import pickling as _pickling, context as _context
        fn = _pickling.loads(bytes.fromhex(sys.argv[1]))
        print(_context.apply_context(bytes.fromhex(sys.argv[2])).run(fn))
    """
    assert run_script(receiver, *run_script(sender).split()) == "bob\n"


# Import watch


def test_action_runs_after_the_first_import_only() -> None:
    output = run_script(
        """
        from manyhands._interpreter.import_watch import after_import
        modules = sys.modules
        after_import("colorsys", lambda: print("there", hasattr(modules["colorsys"], "ONE_SIXTH")))
        print("before")
        import colorsys, importlib
        importlib.reload(colorsys)
        print(len([f for f in sys.meta_path if type(f).__name__ == "_Watch"]))
        """
    )
    assert output == "before\nthere True\n0\n"


def test_new_modules_are_judged_once() -> None:
    judged: list[set[str]] = []

    def judge(names: set[str], modules: dict[str, ModuleType]) -> None:
        assert names <= modules.keys()
        judged.append(names)

    new_modules = import_watch.NewModules(judge)
    new_modules.look()
    assert judged.pop() == set(sys.modules)
    new_modules.look()
    names = ["a_module_of_tests", "another_module_of_tests"]
    try:
        for name in (names[0], names[1], names[0]):
            # One for another: there are as many as before.
            for other in names:
                sys.modules.pop(other, None)
            sys.modules[name] = ModuleType(name)
            new_modules.look()
            new_modules.look()
            assert judged.pop() == {name}
    finally:
        for name in names:
            sys.modules.pop(name, None)
    new_modules.look()
    assert judged == []


def test_action_for_an_imported_module_runs_at_once() -> None:
    called: list[int] = []
    before = list(sys.meta_path)
    import_watch.after_import("json", lambda: called.append(1))
    assert called == [1]
    assert sys.meta_path == before
