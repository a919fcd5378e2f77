"""A hub on loopback: the few routes of the Hugging Face hub that a push and a download use, over real HTTP."""

import base64
import hashlib
import http.server
import json
import threading
import urllib.parse

REVISION = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories in memory; `endpoint` is for HF_ENDPOINT.

    Attributes:
      files: bytes by (repository, path).
      asked: method and path of each request.
    """

    def __init__(self):
        self.files, self.asked, self.unknown = {}, [], []
        self._large = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._path()
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            return self._json({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        name, _, rest = path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(content)["files"]]
            return self._json({"files": [{**one, "shouldIgnore": False} for one in files]})
        name, _, rest = path.removeprefix("/api/models/").partition("/commit/")
        if rest:
            for line in content.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.hub.files[name, entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "deletedFile":
                    del self.hub.files[name, entry["value"]["path"]]
            url = f"{self.hub.endpoint}/{name}/commit/{REVISION}"
            return self._json({"success": True, "commitOid": REVISION, "commitUrl": url, "hookOutput": ""})
        return self._missing(path)

    def do_GET(self):
        path = self._path()
        if path == "/api/whoami-v2":
            return self._json({"type": "user", "name": "someone", "auth": {"accessToken": {"role": "write"}}})
        if "/resolve/" in path:
            return self._file(path)
        name, _, rest = path.removeprefix("/api/models/").partition("/tree/")
        if not rest:
            name, _, _ = path.removeprefix("/api/models/").partition("/revision/")
        held = {file: content for (owner, file), content in sorted(self.hub.files.items()) if owner == name}
        if not held:
            return self._missing(path)
        if rest:
            return self._json(
                [
                    {"type": "file", "oid": _etag(content), "size": len(content), "path": file}
                    for file, content in held.items()
                ]
            )
        siblings = [{"rfilename": file} for file in held]
        return self._json({"id": name, "sha": REVISION, "private": False, "siblings": siblings, "tags": []})

    do_HEAD = do_GET

    def _file(self, path):
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        content = self.hub.files.get((name, rest.partition("/")[2]))
        if content is None:
            return self._missing(path)
        return self._send(200, content, "application/octet-stream")

    def _path(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        return path

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), "application/json")

    def _missing(self, path):
        self.hub.unknown.append(path)
        code = "EntryNotFound" if "/resolve/" in path else "RepoNotFound"
        self._send(404, b'{"error": "not here"}', "application/json", {"X-Error-Code": code})

    def _send(self, status, content, kind, headers=()):
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "ETag": f'"{_etag(content)}"',
            "X-Repo-Commit": REVISION,
            **dict(headers),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(content):
    return hashlib.sha1(content).hexdigest()
