"""python range_server.py: serve this folder, with Range requests, as a store of COGs does.

It prints its address, then the size of each part that was requested. It is a process of its own because GDAL keeps
Python's lock while it waits for an answer.
"""

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Parts(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if wanted is None:
            super().do_GET()
            return
        with open(self.translate_path(self.path), "rb") as file:
            content = file.read()
        first, last = wanted.removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        print(len(part), flush=True)  # noqa: T201

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Parts)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
    server.serve_forever()
