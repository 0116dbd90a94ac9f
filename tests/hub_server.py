"""A hub on this machine, as far as huggingface_hub asks one: commits of models, and their files by ranges."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

from misbehaving_server import Handler, Reply, Server, ServerBehaviour


@dataclass
class HubBehaviour(ServerBehaviour):
    """What the hub holds, as FOLDER/OWNER/NAME/COMMIT/FILE, and what it does wrong."""

    newest: dict[str, str] = field(default_factory=dict)
    """OWNER/NAME -> the commit that `main` is."""
    token: str | None = None
    """The token without which the hub shows no model."""
    tokens: set[str | None] = field(default_factory=set)
    """The tokens that were sent."""

    def publish(self, model: str, folder: Path) -> str:
        """Put a folder on the hub as a new commit, and return that commit."""
        content = "".join(
            f"{file.name}{hashlib.sha1(file.read_bytes()).hexdigest()}" for file in sorted(folder.iterdir())
        )
        commit = hashlib.sha1(content.encode()).hexdigest()
        shutil.copytree(folder, self.folder / model / commit)
        self.newest[model] = commit
        return commit


class HubHandler(Handler):
    behaviour: HubBehaviour

    def do_GET(self) -> None:  # noqa: N802 -- the name is http.server's
        behaviour, path = self.behaviour, unquote(urlsplit(self.path).path)
        with behaviour.lock:
            behaviour.requests.append((path, self.headers.get("Range")))
            behaviour.tokens.add(self.headers.get("Authorization"))
            is_busy = behaviour.busy > 0
            behaviour.busy -= is_busy
        if is_busy:
            self.send(Reply(path, None, 503, b"busy", {"Retry-After": "0"}))
        elif asked := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self._send_info(path, *asked.groups())
        elif asked := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/([^/]+)", path):
            self._send_file(path, *asked.groups())
        else:
            self.send(Reply(path, None, 404, b"no", {}))

    def do_HEAD(self) -> None:  # noqa: N802 -- the name is http.server's
        self.do_GET()

    def _send_info(self, path: str, model: str, revision: str) -> None:
        newest = self.behaviour.newest.get(model)
        if not self._is_allowed() or newest is None:
            self.send(Reply(path, None, 401, b"{}", {"X-Error-Code": "RepoNotFound"}))
        elif revision not in ("main", *(one.name for one in (self.behaviour.folder / model).iterdir())):
            self.send(Reply(path, None, 404, b"{}", {"X-Error-Code": "RevisionNotFound"}))
        else:
            commit = newest if revision == "main" else revision
            body = json.dumps({"id": model, "sha": commit, "siblings": [], "tags": []}).encode()
            self.send(Reply(path, None, 200, body, {"Content-Type": "application/json"}))

    def _send_file(self, path: str, model: str, commit: str, name: str) -> None:
        file = self.behaviour.folder / model / commit / name
        if not self._is_allowed():
            self.send(Reply(path, None, 401, b"{}", {"X-Error-Code": "RepoNotFound"}))
        elif not file.is_file():
            self.send(Reply(path, None, 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}))
        else:
            reply = self.reply_with(path, *self.behaviour.content(file), self.headers.get("Range"))
            reply.headers |= {"X-Repo-Commit": commit}
            if self.command == "GET" and self.behaviour.alter is not None:
                self.behaviour.alter(reply)
            self.send(reply)

    def send_body(self, reply: Reply, content: bytes, *, whole: bool) -> None:
        """Send the body, where there is one."""
        if self.command != "HEAD":
            super().send_body(reply, content, whole=whole)

    def _is_allowed(self) -> bool:
        return self.behaviour.token in (None, (self.headers.get("Authorization") or "").removeprefix("Bearer "))


@contextmanager
def hub(behaviour: HubBehaviour) -> Iterator[str]:
    """Run a hub with this behaviour and give its address."""
    handler = type("MisbehavingHub", (HubHandler,), {"behaviour": behaviour})
    server = Server(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
