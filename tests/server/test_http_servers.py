"""What clients get from applications served by HTTP; the list follows granian's own tests."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect, unix_connect

from eventually import eventually
from http_client import CERTIFICATE, ask, connected, context
from manyhands._server.http_server import HttpServer
from serving import WATCHDOG, read_all, running
from serving import client as connect_plainly

INTERFACES = ["wsgi", "asgi"]
# Of TLS records of 16 KiB the last has more than waitress reads at a time.
BIG = bytes(range(256)) * 20_010
CURL = shutil.which("curl")
BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")


def http_server(interface: Any, address: Any = ("127.0.0.1", 0), **options: Any) -> HttpServer:
    return HttpServer(address, f"http_apps:{interface}", interface=interface, **options)


@contextmanager
def started(server: HttpServer, tls: bool = False) -> Iterator[HttpServer]:
    """Serve for many tests; each finds the process that was there before."""
    with running(server):
        ask(server, "/echo", b"", tls=tls)
        yield server


@pytest.fixture(scope="module", params=INTERFACES)
def server(request: pytest.FixtureRequest) -> Iterator[HttpServer]:
    with started(http_server(request.param)) as made:
        yield made


@pytest.fixture(scope="module", params=INTERFACES)
def secure(request: pytest.FixtureRequest) -> Iterator[HttpServer]:
    with started(http_server(request.param, ssl=context), tls=True) as made:
        yield made


@pytest.fixture(scope="module")
def talking() -> Iterator[HttpServer]:
    with started(http_server("asgi")) as made:
        yield made


def info(server: HttpServer, tls: bool = False, **more: Any) -> dict[str, Any]:
    """Return what the application is told of a request, in words of ASGI."""
    answer = ask(server, "/info?test=true", tls=tls, **more)
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain"
    known: dict[str, Any] = json.loads(answer.body)
    if "wsgi.url_scheme" in known:
        return {
            "method": known["REQUEST_METHOD"],
            "path": known["PATH_INFO"],
            "query": known["QUERY_STRING"],
            "scheme": known["wsgi.url_scheme"],
            "http_version": known["SERVER_PROTOCOL"].removeprefix("HTTP/"),
            "host": known["HTTP_HOST"],
        }
    known["host"] = known["headers"]["host"]
    assert known["state"] == {"began": "with the process"}
    return {"query": "test=true", **known}


def test_what_is_asked(server: HttpServer) -> None:
    known = info(server)
    expected = {"method": "GET", "path": "/info", "query": "test=true", "scheme": "http"}
    assert expected.items() <= known.items()
    assert known["http_version"] == "1.1" and known["host"] == "localhost"


def test_bodies_come_back(server: HttpServer) -> None:
    for body in (b"", b"test", BIG):
        assert ask(server, "/echo", body).body == body


def test_a_body_in_chunks(server: HttpServer) -> None:
    parts = [BIG[begin : begin + 100_000] for begin in range(0, len(BIG), 100_000)]
    assert ask(server, "/echo", iter(parts), encode_chunked=True).body == BIG


def test_a_response_in_parts_is_not_held_back(server: HttpServer, tmp_path: Path) -> None:
    with connected(server) as connection:
        connection.request("GET", f"/stream?{quote(str(tmp_path))}")
        response = connection.getresponse()
        assert response.read(6) == b"first "
        (tmp_path / "go").touch()
        assert response.read() == b"second"


def test_many_requests_over_one_connection(server: HttpServer) -> None:
    with connected(server) as connection:
        bodies = {connection.ask("/echo", b"%d" % number).body for number in range(20)}
    assert bodies == {b"%d" % number for number in range(20)}


def test_requests_that_do_not_wait_for_answers(server: HttpServer) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n%s\r\n%s"
    with connect_plainly(server) as connection:
        connection.sendall(request % (b"", b"one") + request % (b"Connection: close\r\n", b"two"))
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert 0 < answers.index(b"one") < answers.index(b"two")


@pytest.mark.parametrize("path", ["/error", "/silent"])
def test_applications_that_fail(server: HttpServer, path: str) -> None:
    assert ask(server, path).status == 500
    assert ask(server, "/echo", b"test").body == b"test"


def test_what_is_no_http(server: HttpServer) -> None:
    with connect_plainly(server) as connection:
        connection.sendall(b"this is no request\r\n\r\n")
        assert b" 400 " in read_all(connection)


def test_who_has_been_forwarded_for(server: HttpServer) -> None:
    assert info(server, headers={"X-Forwarded-Proto": "https"})["scheme"] == "https"


def test_tls(secure: HttpServer) -> None:
    assert info(secure, tls=True)["scheme"] == "https"
    with connected(secure, tls=True) as connection:
        for _ in range(3):
            assert connection.ask("/echo", BIG).body == BIG


def test_tls_says_that_it_is_all(secure: HttpServer) -> None:
    """Else a client could not know whether an answer without a length was cut off."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    with (
        connect_plainly(secure) as plain,
        trusting.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 OK" in read_all(connection)


def test_what_is_no_tls_disturbs_nobody(secure: HttpServer) -> None:
    with connect_plainly(secure) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):  # of what it has not read, the kernel says so
            assert b"HTTP" not in read_all(connection)
    assert ask(secure, "/echo", b"test", tls=True).body == b"test"


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_unix_socket(interface: str, tmp_path: Path) -> None:
    with running(http_server(interface, tmp_path / "socket")) as server:
        assert info(server)["host"] == "localhost"
        assert ask(server, "/echo", BIG).body == BIG


@pytest.mark.parametrize("interface", INTERFACES)
def test_tls_over_a_unix_socket(interface: str, tmp_path: Path) -> None:
    with running(http_server(interface, tmp_path / "socket", ssl=context)) as server:
        assert info(server, tls=True)["scheme"] == "https"


@pytest.mark.skipif(CURL is None, reason="there is no curl here")
@pytest.mark.parametrize("form", [["--http1.1"], ["--http1.0"], ["--header", "Connection: close"]])
def test_curl(server: HttpServer, form: list[str]) -> None:
    address = "http://{}:{}/echo".format(*server.server_address)
    words = [CURL, "--silent", "--show-error", *form, "--data-binary", "@-", address]
    done = subprocess.run(words, input=BIG, capture_output=True, timeout=WATCHDOG, check=False)  # type: ignore[arg-type]
    assert (done.stdout, done.stderr) == (BIG, b"")


@pytest.mark.skipif(CURL is None, reason="there is no curl here")
def test_curl_with_tls_gets_all(secure: HttpServer) -> None:
    address = f"https://localhost:{secure.server_address[1]}/echo"
    words = [CURL, "-sS", "--http1.0", "--cacert", str(CERTIFICATE), "--data-binary", "@-", address]
    done = subprocess.run(words, input=BIG, capture_output=True, timeout=WATCHDOG, check=False)  # type: ignore[arg-type]
    assert (done.stdout, done.stderr) == (BIG, b"")


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here: make browser installs it")
def test_a_browser(server: HttpServer, tmp_path: Path) -> None:
    """It loads the page, whose script asks for more, and prints what has become of it."""
    address = "http://{}:{}/page".format(*server.server_address)
    words = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", address),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)  # type: ignore[arg-type]
    assert "it is a dino" in done.stdout, done.stderr


def test_websockets_carry_text_and_bytes(talking: HttpServer) -> None:
    with connect("ws://{}:{}/".format(*talking.server_address), open_timeout=WATCHDOG) as websocket:
        for message in ("dino", b"dino", "d" * 100_000):
            websocket.send(message)
            assert websocket.recv(WATCHDOG) == message
        websocket.send("bye")
        assert websocket.recv(WATCHDOG) == "bye"
        with pytest.raises(ConnectionClosedError) as closed:
            websocket.recv(WATCHDOG)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 4000


def test_websockets_can_be_refused(talking: HttpServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect("ws://{}:{}/refused".format(*talking.server_address), open_timeout=WATCHDOG)
    assert refused.value.response.status_code == 403


def test_websockets_over_a_unix_socket(tmp_path: Path) -> None:
    with running(http_server("asgi", tmp_path / "socket")):
        with unix_connect(
            str(tmp_path / "socket"), "ws://localhost/", open_timeout=WATCHDOG
        ) as websocket:
            websocket.send("dino")
            assert websocket.recv(WATCHDOG) == "dino"


@pytest.mark.parametrize(
    ("interface", "options", "text"),
    [
        ("asgi", {"workers": "thread"}, "use 'process', since each runs one event loop"),
        ("wsgi", {"workers": "coroutine"}, "or 'thread' for one process"),
        ("wsgi", {"max_queue": 3}, "use max_connections"),
        ("asgi", {"overflow": "reject"}, "use max_connections"),
        ("asgi", {"connection_timeout": 1.0}, "limit these in the application"),
        ("wsgi", {"first_byte_timeout": 1.0}, "idle connections take no worker"),
        ("asgi", {"proxy_protocol": "unix"}, "X-Forwarded-For"),
        ("wsgi", {"address": "udp:127.0.0.1:0"}, "carry no HTTP"),
    ],
)
def test_what_runners_cannot_do(interface: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        http_server(interface, **options)


def test_applications_of_the_other_interface() -> None:
    for interface, other in (("wsgi", "asgi"), ("asgi", "unchecked")):
        with pytest.raises(TypeError, match=r"use --[aw]sgi"):
            HttpServer(("127.0.0.1", 0), f"http_apps:{other}", interface=interface)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be called"):
        HttpServer(("127.0.0.1", 0), "http_apps:PAGE", interface="wsgi")


@pytest.mark.parametrize(("interface", "package"), [("wsgi", "waitress"), ("asgi", "uvicorn")])
def test_what_is_not_installed(
    interface: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package}.* pip install 'manyhands\[{interface}\]'"):
        http_server(interface)


@pytest.mark.parametrize("interface", INTERFACES)
def test_metrics_tell_what_its_processes_count_and_that_they_answer(interface: str) -> None:
    with running(http_server(interface, metrics=0)) as server:
        assert ask(server, "/echo", b"x").body == b"x"
        eventually(lambda: server.statistics()["requests"] == 1, "it is counted")
        eventually(lambda: server.report()["answers"], "it answers")
        (process,) = server.report()["processes"]
        assert (process["phase"], process["statistics"]["accepted"]) == ("serving", 1)
    assert server.statistics()["lost"] == 0
