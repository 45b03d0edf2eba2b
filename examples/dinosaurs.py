"""A server that holds records of dinosaurs in memory, and many clients that look them up at once.

A client sends names, a line each, and gets the record of each as a line of JSON.
"""

import csv
import json
import socket
import threading
from pathlib import Path
from socketserver import StreamRequestHandler

import manyhands as mh
from manyhands.server import Server

with open(Path(__file__).with_suffix(".csv"), newline="") as file:
    DINOSAURS = {row["name"].lower(): row for row in csv.DictReader(file)}


class LookUp(StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            name = line.decode(errors="replace").strip().lower()
            record = DINOSAURS.get(name, {"error": f"no dinosaur is called {name!r}"})
            self.wfile.write(json.dumps(record).encode() + b"\n")


def ask(address: tuple[str, int], names: list[str]) -> list[dict[str, str]]:
    """Look names up over one connection, one after the other."""
    with socket.create_connection(address) as connection, connection.makefile("rwb") as lines:
        answers = []
        for name in names:
            lines.write(f"{name}\n".encode())
            lines.flush()
            answers.append(json.loads(lines.readline()))
        return answers


def main() -> None:
    with Server(("127.0.0.1", 0), LookUp, max_workers=32) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        names = [*DINOSAURS, "unicorn"]
        address = [server.server_address] * 20
        answers = mh.map(ask, address, [names] * 20, workers="thread", max_workers=20)
        longest = max(answers[0][:-1], key=lambda record: float(record["length_m"]))
        numbers = server.statistics()
        print(f"{sum(map(len, answers))} answers over {numbers['accepted']} connections")
        print(f"the longest was {longest['name']}, {longest['length_m']} m, {longest['period']}")
        print(answers[0][-1]["error"])
        server.shutdown()
        serving.join()


if __name__ == "__main__":
    main()
