"""One RabbitMQ of our own: how the installed server is started beside others, and ended."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

__all__ = ["NOT_INSTALLED", "RabbitMQNode", "find_server"]

# Where packages have the script that only starts it; one in PATH may change the user first.
SCRIPTS: Final = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin")
NOT_INSTALLED: Final = (
    "RabbitMQ is not installed: apt-get install --no-install-recommends rabbitmq-server (as root), "
    "or set AMQP_URL to one that runs"
)
START_S: Final = 60.0
STOP_S: Final = 20.0
# So many lines of what it has said are part of an error.
SAID: Final = 16
USER: Final = "manyhands"

# Run by the node once it has started: it answers what it is asked over its standard input, which
# takes milliseconds where rabbitmqctl takes a second, and ends when nobody can ask it any more.
# RabbitMQ looks every minute whether a port mapper runs, and starts one that outlives it, if not:
# what looks is ended first, which has either name, by RabbitMQ's version.
ANSWERING: Final = """
spawn(fun() ->
  [supervisor:terminate_child(rabbit_sup, Each)
   || Each <- [rabbit_epmd_monitor_sup, rabbit_epmd_monitor]],
  Answer = fun Again() ->
    case io:parse_erl_exprs('') of
      {ok, Asked, _} ->
        try erl_eval:exprs(Asked, []) of
          {value, Value, _} -> io:format("~nanswer ~0tp~n", [Value])
        catch _:Why -> io:format("~nrefused ~0tp~n", [Why]) end,
        Again();
      {error, Why, _} -> io:format("~nrefused ~0tp~n", [Why]), Again();
      {eof, _} -> erlang:halt(0, [{flush, false}]);
      _ -> ok
    end
  end,
  io:format("~nanswer ready~n"),
  Answer()
end).
"""
CONFIGURATION: Final = """
listeners.tcp.local = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
log.file.level = warning
"""


class RabbitMQNode:
    """A node with ports, name, cookie, password and a data folder of its own, and no plugins.

    It listens on the loopback interface only, and needs no port mapper (epmd). It ends with the
    process that started it. Not thread-safe.

    Raises:
        FileNotFoundError: RabbitMQ is not installed.

    Example:
        >>> node = RabbitMQNode()
        >>> node.start()
        >>> node.ask("1 + 1.")
        '2'
        >>> node.remove()
    """

    def __init__(self) -> None:
        program = find_server()
        if program is None:
            raise FileNotFoundError(NOT_INSTALLED)
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="manyhands-broker-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        # Nobody else is given a port that is bound; the node may listen on it all the same, and
        # has it again after a restart.
        self._reserved = [_reserve() for _ in range(2)]
        self._port, self._distribution_port = (each.getsockname()[1] for each in self._reserved)
        self._password = secrets.token_hex(16)
        configuration = CONFIGURATION.format(port=self._port, user=USER, password=self._password)
        (self._folder / "rabbitmq.conf").write_text(configuration)
        (self._folder / "enabled_plugins").write_text("[].\n")

    def url(self, vhost: str = "/") -> str:
        """Return where it is, for one of its virtual hosts."""
        path = vhost.replace("/", "%2f")
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self._port}/{path}"

    def start(self) -> None:
        """Start it, and return when clients can connect; after `stop` with all that it had.

        Raises:
            RuntimeError: it does not start; with what it has said.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self._unread = b""
        self._process = subprocess.Popen(
            [self._program, *self._arguments()],
            env=self._environment(),
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._answer(START_S)
        except RuntimeError as error:
            self.stop(kill=True)
            raise RuntimeError(f"RabbitMQ ({self._program}) does not start: {error}") from None

    def stop(self, kill: bool = False) -> None:
        """End it, and keep its data and its port.

        Args:
            kill: end it at once, as a crash does.
        """
        if self._process is None:
            return
        with self._process as process:  # closes its pipes
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._process = None

    def remove(self) -> None:
        """End it, and remove all that it had."""
        self.stop(kill=True)
        for each in self._reserved:
            each.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, expression: str) -> str:
        """Have it evaluate Erlang expressions, and return the value of the last, in Erlang.

        Raises:
            RuntimeError: it raised an error, or the node is stopped.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError("RabbitMQ is stopped: start it first")
        process.stdin.write(expression.encode() + b"\n")
        process.stdin.flush()
        return self._answer(STOP_S)

    def _answer(self, patience_s: float) -> str:
        """Read lines until one is the answer."""
        deadline = time.monotonic() + patience_s
        said = ""
        while line := self._line(deadline):
            said += line
            what, _, value = line.rstrip().partition(" ")
            if what == "answer":
                return value
            if what == "refused":
                raise RuntimeError(f"RabbitMQ refuses what it is asked: {value}")
        late = time.monotonic() >= deadline
        why = f"no answer within {patience_s:g} s" if late else "it ended"
        raise RuntimeError(f"{why}\n{self._said(said)}")

    def _line(self, deadline: float) -> str:
        """Return what it writes next; nothing if it ends, or at the deadline."""
        assert self._process is not None
        assert self._process.stdout is not None
        output = self._process.stdout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            read = os.read(output.fileno(), 65536) if ready else b""
            if not read:
                return ""
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace") + "\n"

    def _said(self, output: str) -> str:
        """Return what it wrote from its first error on, or last."""
        logged = b"".join(path.read_bytes() for path in sorted(self._folder.glob("*.log")))
        text = (output + logged.decode(errors="replace")).replace(self._password, "…")
        lines = [line for line in text.splitlines() if line.strip()]
        errors = [n for n, line in enumerate(lines) if "[error]" in line or line == "BOOT FAILED"]
        first = errors[0] if errors else len(lines) - SAID
        return "\n".join(lines[max(0, first) :][:SAID])

    def _arguments(self) -> list[str]:
        port = str(self._distribution_port)
        # Where to look for the port of a node is settled, so nobody starts a port mapper.
        mapper = ["-start_epmd", "false", "-erl_epmd_port", port]
        local = ["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]
        answering = ["-noshell", "-eval", " ".join(ANSWERING.split())]
        return [*answering, "-sname", self._name, *mapper, *local]

    @property
    def _name(self) -> str:
        return f"manyhands-{self._port}@localhost"

    def _environment(self) -> dict[str, str]:
        others = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
        inherited = {name: each for name, each in os.environ.items() if not name.startswith(others)}
        folder = str(self._folder)
        return {
            **inherited,
            "HOME": folder,  # the cookie is there
            "LC_ALL": "C.UTF-8",
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            # Those of the system's own server are not for this one.
            "RABBITMQ_CONFIG_FILES": f"{folder}/none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/none.config",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
        }


def find_server() -> str | None:
    """Return the script that starts the installed RabbitMQ; None where there is none."""
    places = os.pathsep.join([*SCRIPTS, os.environ.get("PATH", os.defpath)])
    return shutil.which("rabbitmq-server", path=places)


def _reserve() -> socket.socket:
    """Return a socket that keeps a port of the loopback interface for a listener."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    return made
