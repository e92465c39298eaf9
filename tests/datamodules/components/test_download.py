"""Downloads from a server on this machine: cut, wrong, moved, slow, twice at once, absent."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datamodules.components import download
from datamodules.components.download import fetch
from datamodules.components.sample import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
            return
        if self.path == "/absent":
            self.send_error(404)
            return
        content = b"another file" if self.path == "/other" else CONTENT
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if self.path != "/no-ranges" else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut = {"/cut": 100_000, "/dead": 0}.get(self.path)
        if self.path == "/dead" and start == 0:
            cut = 50_000
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def get(server, tmp_path):
    def call(*paths, sha256=SHA256):
        urls = [path if "://" in path else f"http://127.0.0.1:{server.server_port}{path}" for path in paths]
        seen = []
        file = fetch("set.zip", urls, sha256, tmp_path / "data", lambda there, total: seen.append((there, total)))
        assert file.read_bytes() == CONTENT
        assert not file.with_name("set.zip.part").exists()
        return seen

    return call


def test_a_whole_file_with_its_progress(get, server):
    seen = get("/whole")
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    get("/whole")
    assert len(server.asked) == 1  # what is there is not fetched again


def test_a_cut_is_resumed_where_it_was(get, server):
    get("/cut")
    starts = [0 if asked is None else int(asked[6:-1]) for _, asked in server.asked]
    assert starts == [*range(0, len(CONTENT), 100_000)]


def test_a_process_that_was_killed_left_a_part(get, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set.zip.part").write_bytes(CONTENT[:1234])
    get("/whole")
    assert server.asked == [("/whole", "bytes=1234-")]


def test_a_truncated_archive_that_lies_there_is_gone_on_with(get, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set.zip").write_bytes(CONTENT[:999])
    get("/whole")
    assert server.asked == [("/whole", "bytes=999-")]


@pytest.mark.parametrize("path", ["/whole", "/no-ranges"])
def test_a_part_of_another_file_is_thrown_away(get, tmp_path, path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set.zip.part").write_bytes(b"of something else" * 100)
    get(path)


def test_mirrors_are_tried_in_order_and_redirects_followed(get, server):
    get("http://127.0.0.1:9/refused", "/absent", "/other", "/dead", "/moved")
    order = [*dict.fromkeys(path for path, _ in server.asked)]
    assert order == ["/absent", "/other", "/dead", "/moved", "/whole"]


def test_a_wrong_checksum_keeps_nothing(get, tmp_path):
    with pytest.raises(DataError, match=r"set\.zip cannot be had: .*/other gives a file with another sha256 than"):
        get("/other")
    assert not [path for path in (tmp_path / "data").iterdir() if not path.name.endswith(".lock")]


def test_no_network_says_so(get):
    with pytest.raises(DataError, match=r"set\.zip cannot be had: http://127\.0\.0\.1:9/x: .*refused.*again later"):
        get("http://127.0.0.1:9/x")
    with pytest.raises(DataError, match="no address is known"):
        get()


def test_a_server_that_falls_silent(get, server, monkeypatch):
    silent = threading.Event()
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    monkeypatch.setattr(Handler, "do_GET", lambda self: silent.wait(5))
    with pytest.raises(DataError, match=r"cannot be had: .*timed out"):
        get("/whole")
    silent.set()


def test_two_at_once_fetch_once(get, server):
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: get("/whole"), range(2)))
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"set\.zip cannot be written"):
        fetch("set.zip", ["http://127.0.0.1:9/x"], SHA256, tmp_path / "file", lambda there, total: None)
