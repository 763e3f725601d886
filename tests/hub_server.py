"""A stand-in for the Hugging Face Hub: as much of its HTTP interface as huggingface_hub uses for a model of small files."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from unittest import mock


class Repository(NamedTuple):
    private: bool
    branches: dict  # name -> commit
    commits: dict  # commit -> {path: content}


class Hub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        token: without which nothing can be written, and private repositories cannot be read.
        fault: what goes wrong with downloads: a status such as ``403``; ``half`` of the file; ``other`` content of the same size;
            ``longer``; ``empty``; ``page``, a web page; ``closed`` without an answer; ``stalls`` after half of the file, for
            ``pause`` seconds; ``redirect`` to the file ``elsewhere`` on another host, ``loop`` of redirects, or ``moved``, a redirect to the same file.
        headers: which replace those of the answers about files; ``Location`` makes them redirects.
        says: the JSON that answers every POST instead of the right one, if not None.
    """

    daemon_threads = True

    def __init__(self, token):
        super().__init__(("127.0.0.1", 0), Handler)
        self.token, self.fault, self.objects, self.repositories, self.requests = token, "", {}, {}, []
        self.pause, self.headers, self.says = 3.0, {}, None
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def hub(token, cache):
    """A server, which huggingface_hub uses meanwhile, with copies in the folder ``cache``."""
    from huggingface_hub import constants

    server = Hub(token)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    places = {"ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(cache)}
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with mock.patch.multiple(constants, HF_HUB_DISABLE_XET=True, **places):
            yield server
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    @property
    def allowed(self):
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def do_POST(self):
        content, path, server = self.body(), self.path, self.server
        server.requests.append((self.command, path))
        if server.says is not None:
            self.answer(200, server.says)
        elif not self.allowed:
            self.answer(401, {"error": f"invalid token {self.headers.get('Authorization')}"})
        elif path == "/api/repos/create":
            wanted = json.loads(content)
            name = f"{wanted['organization']}/{wanted['name']}"
            status = 409 if name in server.repositories else 200
            private = wanted.get("private") or wanted.get("visibility") == "private"  # by the version of huggingface_hub
            empty = Repository(private, {"main": "0" * 40}, {"0" * 40: {}})
            server.repositories.setdefault(name, empty)
            self.answer(status, {"url": f"{server.url}/{name}", "error": "exists"})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch("/api/models/(.+?)/preupload/.+", path):
            files = [file["path"] for file in json.loads(content)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in files}
            self.answer(200, {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]})
        elif path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(content)["objects"]
            objects = [{**one, "actions": {"upload": {"href": f"{server.url}/lfs/{one['oid']}"}}} for one in wanted]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch("/api/models/(.+?)/commit/(.+)", path):
            self.answer(200, self.commit(server.repositories[match[1]], match[2], content))

    def do_PUT(self):
        content = self.body()
        assert hashlib.sha256(content).hexdigest() == self.path.removeprefix("/lfs/")
        self.server.objects[self.path.removeprefix("/lfs/")] = content
        self.answer(200)

    def commit(self, repository, branch, content):
        files = {}
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] != "header":
                files[value["path"]] = self.server.objects[value["oid"]]
        oid = hashlib.sha1(content).hexdigest()
        repository.commits[oid] = {**repository.commits[repository.branches[branch]], **files}
        repository.branches[branch] = oid
        return {"commitUrl": f"{self.server.url}/ann/net/commit/{oid}", "commitOid": oid}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path))
        if match := re.fullmatch("/api/models/(.+/.+)", self.path):
            if match[1] in server.repositories:
                about = {"id": match[1], "private": server.repositories[match[1]].private, "siblings": []}
                self.answer(200, about)
            else:
                self.answer(404, X_Error_Code="RepoNotFound")
            return
        match = re.fullmatch(r"/(.+/.+)/resolve/(.+)/([^/?]+)(?:\?moved)?", self.path)
        repository = match and server.repositories.get(match[1])
        if not repository or (repository.private and not self.allowed):
            self.answer(401, X_Error_Code="RepoNotFound")
            return
        commit = repository.branches.get(match[2], match[2])
        if commit not in repository.commits:
            self.answer(404, X_Error_Code="RevisionNotFound")
            return
        content = repository.commits[commit].get(match[3])
        if content is None:
            self.answer(404, **{"X_Error_Code": "EntryNotFound", "X_Repo_Commit": commit, **server.headers})
        elif server.fault.isdecimal():
            self.answer(int(server.fault))
        elif server.fault == "closed":
            self.close_connection = True
        elif server.fault in ("redirect", "loop", "moved") and self.path.endswith("model.safetensors"):
            name = {"redirect": "elsewhere", "loop": match[3], "moved": f"{match[3]}?moved"}[server.fault]
            digest = hashlib.sha256(content).hexdigest()
            about = {"X_Linked_ETag": f'"{digest}"', "X_Linked_Size": len(content), "X_Repo_Commit": commit}
            self.answer(302, Location=f"http://localhost:{server.server_port}/{match[1]}/resolve/{match[2]}/{name}", **about)
        elif server.fault == "page":
            self.answer(200, b"<html>log in</html>", Content_Type="text/html", ETag='"page"', X_Repo_Commit=commit)
        else:
            self.send_file(content, commit)

    def send_file(self, content, commit):
        fault = self.server.fault
        about = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Repo_Commit": commit, "X_Linked_Size": len(content)}
        if fault == "other":
            content = content[:-1] + bytes([content[-1] ^ 1])
        elif fault == "longer":
            content += b"more"
        elif fault == "empty":
            content = b""
        if fault in ("half", "stalls") and self.command == "GET":
            self.close_connection = True
            about["Content_Length"], content = len(content), content[: len(content) // 2]
        about |= self.server.headers
        self.answer(302 if "Location" in about else 200, content, **about)
        if fault == "stalls" and self.command == "GET":
            time.sleep(self.server.pause)
