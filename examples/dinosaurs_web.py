"""The records of dinosaurs.py over HTTP: `manyhands serve --wsgi dinosaurs_web:app`.

Run by itself, it starts that command, asks it for some dinosaurs and ends it. It needs waitress.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.request import urlopen

from dinosaurs import DINOSAURS


def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/").lower()
    record = DINOSAURS.get(name)
    body = json.dumps(record or {"error": f"no dinosaur is called {name!r}"}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK" if record else "404 Not Found", headers)
    return [body]


def main() -> None:
    words = ["serve", "--wsgi", "dinosaurs_web:app", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(
        [sys.executable, "-m", "manyhands", *words],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        said = command.stderr.readline()  # serving at 127.0.0.1:40000 with 1 process
        if not said.startswith("serving at"):
            sys.exit(said)
        for name in ("allosaurus", "triceratops"):
            with urlopen(f"http://{said.split()[2]}/{name}") as answer:
                record = json.load(answer)
                print(f"{record['name']}: {record['length_m']} m, {record['period']}")
        command.terminate()


if __name__ == "__main__":
    main()
