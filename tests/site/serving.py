"""The built site on localhost, compressed as a public host compresses it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler


class Quiet(Application):
    """Serves without a line for each request."""

    def log_request(self, handler) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder in a thread of its own; gives its address, without a slash at the end."""
    [socket] = bind_sockets(0, "127.0.0.1")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=run, args=(loop, folder, socket), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def run(loop: asyncio.AbstractEventLoop, folder: Path, socket) -> None:
    """Serve until the loop is stopped."""
    asyncio.set_event_loop(loop)
    files = (r"/(.*)", StaticFileHandler, {"path": folder, "default_filename": "index.html"})
    server = HTTPServer(Quiet([files], compress_response=True))
    loop.call_soon(server.add_socket, socket)
    loop.run_forever()
    server.stop()
    loop.run_until_complete(server.close_all_connections())
    loop.close()
