"""A stand-in for the service of W&B on this machine: it keeps what it is told, and fails on demand."""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0" * 40
NEVER = 30.0  # seconds for which a hanging service says nothing


class Service(ThreadingHTTPServer):
    """Answers the few questions that runs, syncs and workspaces ask."""

    daemon_threads = True

    def __init__(self, how: str) -> None:
        """Fail as `how` says: fine, 401, 500, no viewer, hang, or hang later, once the key was accepted."""
        super().__init__(("127.0.0.1", 0), Answers)
        self.how = how
        self.asked: list[tuple[str, dict[str, Any]]] = []  # operations of GraphQL with their variables
        self.requests: list[str] = []  # paths
        self.streamed: list[dict[str, Any]] = []  # bodies of file streams
        self.stored: dict[str, bytes] = {}  # files by the path they were put to
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def recover(self) -> None:
        """Let go of who waits, and answer from now on."""
        self.how = "fine"
        self.ended.set()

    def told(self, operation: str) -> list[dict[str, Any]]:
        """The variables of every call of an operation."""
        return [variables for name, variables in self.asked if name == operation]

    def history(self) -> list[dict[str, Any]]:
        """Every line of history that was streamed."""
        lines = [line for body in self.streamed for line in self._file(body, "wandb-history.jsonl")]
        return [json.loads(line) for line in lines]

    def summary(self) -> dict[str, Any]:
        """The last summary that was streamed."""
        return json.loads([line for body in self.streamed for line in self._file(body, "wandb-summary.json")][-1])

    @staticmethod
    def _file(body: dict[str, Any], name: str) -> list[str]:
        return body.get("files", {}).get(name, {}).get("content", [])


class Answers(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that leaves
            super().handle()

    def do_POST(self) -> None:
        body = self._body()
        asked = json.loads(body) if body.startswith(b"{") else {}
        found = re.search(r"(?:query|mutation)\s+(\w+)", asked.get("query", ""))
        operation = found.group(1) if found else ""
        if self._fails(operation):
            return
        if self.path.endswith("/graphql"):
            variables = asked.get("variables") or {}
            self.server.asked.append((operation, variables))
            self._send({"data": answer(operation, variables, self.server)})
        else:
            self.server.streamed.append(asked)
            self._send({})

    def do_PUT(self) -> None:
        self.server.stored[self.path] = self._body()
        if not self._fails("PUT"):
            self._send({})

    def do_GET(self) -> None:
        if not self._fails("GET"):
            self._send({})

    def _body(self) -> bytes:
        self.server.requests.append(self.path)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _fails(self, operation: str) -> bool:
        how = self.server.how
        if how == "hang" or (how == "hang later" and operation != "Viewer"):
            self.server.ended.wait(NEVER)
            self.close_connection = True
            return True
        if how in ("401", "500"):
            self._send({"errors": [{"message": how}]}, int(how))
            return True
        return False

    def _send(self, content: dict[str, Any], code: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: Any) -> None:
        pass


def answer(operation: str, asked: dict[str, Any], server: Service) -> dict[str, Any]:
    """What the service says; an operation that it does not know is told nothing."""
    found = ANSWERS.get(operation)
    return found(asked, server) if found else {}


def viewer(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    known = {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
    return {"viewer": None if server.how == "no viewer" else known}


def bucket(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    project = {"id": "p", "name": asked.get("project"), "entity": {"id": "e", "name": "me"}}
    found = {
        "id": "bucket", "name": asked.get("name"), "displayName": asked.get("displayName"), "description": "",
        "config": "{}", "sweepName": None, "historyLineCount": 0, "project": project,
    }  # fmt: skip
    return {"upsertBucket": {"bucket": found, "inserted": True}}


def run_files(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    files = [{"name": name, "uploadUrl": f"{server.url}/storage/{name}"} for name in asked["files"]]
    return {"createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": files}}


def artifact(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    sequence = {"id": "sequence", "latestArtifact": None}
    made = {"id": f"artifact-{len(server.asked)}", "state": "PENDING", "artifactSequence": sequence}
    return {"createArtifact": {"artifact": made}}


def manifest(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    url = f"{server.url}/storage/manifest-{len(server.asked)}"
    file = {"id": "file", "name": "m", "displayName": "m", "uploadUrl": url, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": file}}}


def artifact_files(asked: dict[str, Any], server: Service) -> dict[str, Any]:
    nodes = [
        {
            "id": f"f{place}", "name": each["name"], "displayName": each["name"], "storagePath": "",
            "uploadUrl": f"{server.url}/storage/artifact/{each['name']}", "uploadHeaders": [],
            "uploadMultipartUrls": None, "artifact": {"id": each["artifactID"]},
        }
        for place, each in enumerate(asked["input"]["artifactFiles"])
    ]  # fmt: skip
    return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}


ANSWERS: dict[str, Callable[[dict[str, Any], Service], dict[str, Any]]] = {
    "Viewer": viewer,
    "GetDefaultEntity": viewer,
    "UpsertBucket": bucket,
    "CreateRunFiles": run_files,
    "ArtifactType": lambda asked, server: {"project": None},
    "CreateArtifact": artifact,
    "CreateArtifactManifest": manifest,
    "CreateArtifactFiles": artifact_files,
    "CommitArtifact": lambda asked, server: {
        "commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": "d"}}
    },
    "UpsertView2": lambda asked, server: {"upsertView": {"view": {"id": "v", "name": asked["name"]}, "inserted": True}},
}


@contextmanager
def wandb_service(how: str = "fine") -> Iterator[Service]:
    """A service that runs until the block ends."""
    with Service(how) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
