"""Fetches pages from a slow and unreliable local server: threads, a timeout, retries."""

import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import manyhands as mh

failed: set[str] = set()


class Unreliable(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.05)
        first = self.path not in failed
        failed.add(self.path)
        # Every third page fails when it is asked for the first time.
        page = int(self.path.strip("/"))
        self.send_response(503 if first and page % 3 == 0 else 200)
        self.end_headers()
        self.wfile.write(f"this is page {page}".encode())

    def log_message(self, *_: object) -> None:
        pass


def fetch(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return len(page.read())
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise


with ThreadingHTTPServer(("127.0.0.1", 0), Unreliable) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [f"http://127.0.0.1:{server.server_port}/{number}" for number in range(100)]
    began = time.perf_counter()
    sizes = mh.map(fetch, urls, workers="thread", max_workers=20, timeout=30, retries=2)
    seconds = time.perf_counter() - began
    server.shutdown()

print(f"{len(sizes)} pages of {sum(sizes)} bytes in {seconds:.2f} s; one after another: 6.7 s")
