"""An exception with an attribute that cannot be pickled arrives as itself, without that.

Found by use, with `urllib.error.HTTPError`, which holds an open socket: `except HTTPError` worked
with threads and not with processes.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import manyhands as mh


class Busy(ConnectionError):
    def __init__(self) -> None:
        super().__init__("busy")
        self.lock: Any = threading.Lock()
        self.tries = 3


class Holding(Exception):
    pass


class Reduced(Exception):
    """Says itself how it is pickled, which does not work."""

    def __reduce__(self) -> tuple[type[Reduced], tuple[object]]:
        return Reduced, (threading.Lock(),)


class NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def be_busy() -> None:
    raise Busy


def hold() -> None:
    raise Holding(threading.Lock(), 3)


def fail_to_reduce() -> None:
    raise Reduced("it")


class Several(ExceptionGroup[Exception]):
    """A group with something of its own."""

    lock: Any = None


def fail_several_times() -> None:
    inner = ExceptionGroup("inner", [Holding(threading.Lock(), 3), Reduced("it"), KeyError("k")])
    error = Several("outer", [Busy(), inner, OSError(2, "gone", "file")])
    error.lock = threading.Lock()
    raise error


def fail_in_every_way() -> None:
    raise BaseExceptionGroup("both", [KeyboardInterrupt(), Reduced("it")])


def test_an_http_error_is_one() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with mh.ProcessPoolExecutor(1) as pool:
            url = f"http://127.0.0.1:{server.server_address[1]}/nothing"
            error = pool.submit(fetch, url).exception()
    finally:
        server.shutdown()
        server.server_close()
    assert isinstance(error, urllib.error.HTTPError)
    assert (error.code, error.reason, str(error)) == (404, "Not Found", "HTTP Error 404: Not Found")
    assert error.headers["Content-Type"].startswith("text/html")
    assert any("cannot be pickled: fp" in note for note in error.__notes__)


def test_what_stays_behind_is_none_and_said() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(be_busy).exception()
    assert type(error) is Busy
    assert (error.args, error.lock, error.tries) == (("busy",), None, 3)
    assert error.__notes__ == ["not sent along, because it cannot be pickled: lock"]
    assert "raise Busy" in str(error.__cause__)


def test_an_argument_that_stays_behind_is_told_in_words() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(hold).exception()
    assert type(error) is Holding
    assert error.args[0].startswith("<unlocked _thread.lock object") and error.args[1] == 3
    assert error.__notes__ == ["not sent along, because it cannot be pickled: args"]


def test_a_class_that_says_how_it_is_pickled_is_not_taken_apart() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(fail_to_reduce).exception()
    assert type(error) is mh.ManyhandsError
    assert "Reduced('it')" in str(error)


def test_members_of_a_group_arrive_as_single_exceptions_do() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(fail_several_times).exception()
    assert type(error) is Several
    assert (error.message, error.lock) == ("outer", None)
    assert error.__notes__ == ["not sent along, because it cannot be pickled: lock"]
    busy, inner, gone = error.exceptions
    assert type(busy) is Busy and (busy.lock, busy.tries) == (None, 3)
    assert busy.__notes__ == ["not sent along, because it cannot be pickled: lock"]
    assert type(gone) is FileNotFoundError and gone.filename == "file"
    assert type(inner) is ExceptionGroup and inner.message == "inner"
    assert not hasattr(inner, "__notes__")
    holding, reduced, key = inner.exceptions
    assert type(holding) is Holding and holding.args[1] == 3
    assert type(reduced) is mh.ManyhandsError
    assert "Reduced, which cannot be sent (TypeError: cannot pickle" in str(reduced)
    assert type(key) is KeyError and key.args == ("k",)
    assert "in fail_several_times" in str(error.__cause__)


def test_a_group_can_be_taken_apart_by_its_members() -> None:
    caught: list[type[Exception]] = []
    with mh.ProcessPoolExecutor(1) as pool:
        try:
            pool.submit(fail_several_times).result()
        except* Busy as group:
            caught += map(type, group.exceptions)
        except* KeyError as group:
            caught += map(type, group.exceptions)
        except* Exception as group:
            caught += map(type, group.exceptions)
    assert caught == [Busy, ExceptionGroup, ExceptionGroup, FileNotFoundError]


def test_a_group_of_what_is_no_exception_stays_one() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(fail_in_every_way).exception()
    assert type(error) is BaseExceptionGroup
    assert [type(each) for each in error.exceptions] == [KeyboardInterrupt, mh.ManyhandsError]
