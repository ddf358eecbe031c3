"""A server on this machine, in place of those that data sets are downloaded from."""

import http.server
import threading

import pytest


@pytest.fixture
def server():
    """An HTTP server on this machine: ``pages`` are what it serves, ``asked`` what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.asked.append(self.path)
            page = served.pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(page) + served.missing_bytes))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.pages, served.asked, served.missing_bytes = {}, [], 0
    served.address = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()
