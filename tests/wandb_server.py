"""A stand-in for the W&B server on the loopback, for tests with the real client: GraphQL, the file stream, uploads and downloads.

It holds what the client sends and refuses what it does not know: an unknown operation or path, a key that is not its own, history that
leaves a gap or says something else of a row that it has. What it refused stands in `refused`, which tests assert to be empty.
"""

import base64
import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from processes import NET

KEY = "0123456789" * 4
ENTITY = "lab"


class Refusal(Exception):
    def __init__(self, text: str, code: int = 400):
        super().__init__(text)
        self.code = code


@dataclass
class Run:
    """One run as the server has it. `history` holds the rows as the client sent them, in order."""

    name: str
    project: str
    number: int
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    display_name: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    preempting: bool = False
    opened: int = 0  # how often a client began or went on with it

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.history]

    @property
    def values(self) -> dict[str, Any]:
        """The config as it was given, without the client's own part."""
        return {key: item["value"] for key, item in self.config.items() if key != "_wandb"}

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.history if name in row]


class Server:
    """`with Server() as server:`; `environment` is what a client needs to find it."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], Run] = {}  # by project and name
        self.views: dict[str, dict[str, Any]] = {}
        self.operations: list[str] = []
        self.refused: list[str] = []
        self.deleted: set[tuple[str, str]] = set()  # whose ids may not be used again
        self.conflicts: list[str] = []  # the deleted runs that a client tried to send again
        self.lines = 0  # history lines received, repeats included
        self.hanging = threading.Event()  # set: requests are taken and never answered
        self._released = threading.Event()
        self._lock = threading.RLock()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._released.set()
        self.die()

    def start(self) -> None:
        """Listens, after `die` on the same port again."""
        handler = type("Handler", (_Handler,), {"server_": self})
        self._http = _Http(("127.0.0.1", self.port), handler)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def die(self) -> None:
        """Closes the port: connections are refused from now on, open ones end without an answer."""
        http, self._http = self._http, None
        if http:
            http.shutdown()
            http.server_close()

    def restart(self) -> None:
        """Listens and answers again, after `die` or `hanging`; what was taken meanwhile is lost."""
        self.die()
        self.hanging.clear()
        self._released.set()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        patient = dict.fromkeys(("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT", "WANDB_X_SERVICE_WAIT"), str(NET))
        server = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}
        return {**server, **patient, "WANDB_ERROR_REPORTING": "false", "WANDB_MODE": ""}

    def run(self, start: str = "") -> Run:
        """The one run whose name begins so."""
        (found,) = [run for run in self.runs.values() if run.name.startswith(start)]
        return found

    def delete(self, start: str = "") -> str:
        """Deletes the one run whose name begins so, as a person does on the website. Returns its name."""
        run = self.run(start)
        del self.runs[run.project, run.name]
        self.deleted.add((run.project, run.name))
        return run.name

    # requests

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        if self.hanging.is_set():
            self._released.wait()
            raise ConnectionAbortedError
        try:
            with self._lock:
                if self._http is None:
                    raise ConnectionAbortedError
                return 200, self._route(method, path, authorization, body)
        except Refusal as refusal:
            if refusal.code not in (401, 409):
                self.refused.append(str(refusal))
            return refusal.code, {"errors": [{"message": str(refusal)}], "error": str(refusal)}

    def _route(self, method: str, path: str, authorization: str, body: bytes) -> Any:
        if path.startswith("/storage/"):
            return self._storage(method, path, body)
        given = base64.b64decode(authorization.removeprefix("Basic ")).decode() if authorization else ""
        if given.rpartition(":")[2] != KEY:
            raise Refusal("user is not logged in", 401)
        if (method, path) == ("POST", "/graphql"):
            return {"data": self._graphql(json.loads(body))}
        stream = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path)
        if method == "POST" and stream:
            return self._stream(self._of(*stream.groups()), json.loads(body))
        raise Refusal(f"{method} {path}: not known here")

    def _of(self, entity: str, project: str, name: str) -> Run:
        if entity != ENTITY or (project, name) not in self.runs:
            raise Refusal(f"{entity}/{project}/{name}: no such run", 404)
        return self.runs[project, name]

    def _storage(self, method: str, path: str, body: bytes) -> Any:
        _, _, project, name, file = path.split("/", 4)
        run = self.runs[project, name]
        if method == "PUT":
            run.files[file] = body
            return {}
        if method == "GET" and file in run.files:
            return run.files[file]
        raise Refusal(f"{method} {path}: not here", 404)

    def _stream(self, run: Run, said: dict[str, Any]) -> dict[str, Any]:
        known = {"files", "complete", "exitcode", "uploaded", "dropped", "preempting"}
        if unknown := set(said) - known:
            raise Refusal(f"file stream: {unknown} not known here")
        for file, chunk in (said.get("files") or {}).items():
            lines, offset = chunk["content"], chunk["offset"]
            if file == "wandb-history.jsonl":
                rows = [json.loads(line) for line in lines]
                self.lines += len(rows)
                for place, row in enumerate(rows, offset):
                    if place < len(run.history):
                        if run.history[place] != row:
                            raise Refusal(f"{run.name}: row {place} was {run.history[place]}, and is said to be {row}")
                    elif place == len(run.history):
                        run.history.append(row)
                    else:
                        raise Refusal(f"{run.name}: row {place} after {len(run.history)} rows")
            elif file == "wandb-summary.json":
                run.summary = json.loads(lines[-1])
            elif file not in ("wandb-events.jsonl", "output.log"):
                raise Refusal(f"file stream: {file} not known here")
        run.preempting = run.preempting or bool(said.get("preempting"))
        if said.get("complete"):
            bad = "preempted" if run.preempting else "failed"
            run.state = "finished" if said.get("exitcode") == 0 else bad
        return {"exitcode": None, "limits": {}}

    # GraphQL

    def _graphql(self, said: dict[str, Any]) -> dict[str, Any]:
        match = re.search(r"(?:query|mutation)\s+(\w+)", said["query"])
        operation = match[1] if match else said["query"][:80]
        self.operations.append(operation)
        answer = getattr(self, f"_on_{operation}", None)
        if answer is None:
            raise Refusal(f"operation {operation}: not known here: {' '.join(said['query'].split())}")
        return answer(said.get("variables") or {}, said["query"])

    def _on_RunResumeStatus(self, said, query):
        run = self.runs.get((said["project"], said["name"]))
        bucket = run and {
            "id": f"id-{run.number}",
            "name": run.name,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": json.dumps([]),
            "config": json.dumps(run.config),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**self._project(said["project"]), "bucket": bucket} if bucket else None}

    def _on_UpsertBucket(self, said, query):
        entity, project = said["entity"] or ENTITY, said["project"]
        if entity != ENTITY:
            raise Refusal(f"{entity}: permission denied", 403)
        if (project, said["name"]) in self.deleted:
            self.conflicts.append(said["name"])
            path = f"{entity}/{project}/{said['name']}"
            raise Refusal(f"run {path} was previously created and deleted; try a new run name", 409)
        new = (project, said["name"]) not in self.runs
        run = self.runs.setdefault((project, said["name"]), Run(said["name"], project, len(self.runs)))
        if said["config"]:
            run.config = json.loads(said["config"])
        if said["summaryMetrics"]:
            run.summary = json.loads(said["summaryMetrics"])
        run.group = said["groupName"] or run.group
        run.job_type = said["jobType"] or run.job_type
        run.display_name = said["displayName"] or run.display_name
        run.tags = said["tags"] or run.tags
        run.sweep = said["sweep"] or run.sweep
        if said["program"] or said["groupName"] or said["jobType"]:  # an opening; later ones carry the config alone
            run.opened, run.state, run.preempting = run.opened + 1, "running", False
        bucket = {
            "id": f"id-{run.number}",
            "name": run.name,
            "displayName": run.display_name or run.name,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": self._project(project),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def _on_Viewer(self, said, query):
        return {"viewer": {"id": "v", "entity": ENTITY, "username": "person", "flags": "{}", "teams": {"edges": []}}}

    def _on_GetDefaultEntity(self, said, query):
        return {"viewer": {"id": "v", "entity": ENTITY}}

    def _on_Run(self, said, query):
        run = self.runs.get((said["project"], said["name"])) if said["entity"] == ENTITY else None
        return {"project": {"run": run and self._node(run)}}

    def _on_Runs(self, said, query):
        filters = json.loads(said["filters"] or "{}")
        if set(filters) - {"group"}:
            raise Refusal(f"filters {filters}: not known here")
        wanted = [run for run in self.runs.values() if run.project == said["project"]]
        wanted = [run for run in wanted if filters.get("group") in (None, run.group)]
        first = int(said["cursor"] or 0)
        page = wanted[first : first + said["perPage"]]
        edges = [{"node": self._node(run), "cursor": str(place)} for place, run in enumerate(page, first + 1)]
        more = {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": first + len(page) < len(wanted)}
        runs = {"edges": edges, "pageInfo": more}
        project = {"internalId": "1", "runCount": len(wanted), "readOnly": False, "runs": runs}
        return {"project": project if said["entity"] == ENTITY else None}

    def _on_RunSampledHistory(self, said, query):
        run = self._of(said["entity"], said["project"], said["name"])
        found = []
        for spec in map(json.loads, said["specs"]):
            rows = [row for row in run.history if all(key in row for key in spec["keys"])]
            if len(rows) > spec["samples"]:
                raise Refusal("sampling: not known here")
            found.append([{key: row[key] for key in (*spec["keys"], "_step")} for row in rows])
        return {"project": {"run": {"sampledHistory": found}}}

    def _on_RunFiles(self, said, query):
        run = self._of(said["entity"], said["project"], said["name"])
        names = [name for name in said["fileNames"] or run.files if name in run.files]
        edges = [
            {
                "node": {
                    "id": f"file-{name}",
                    "name": name,
                    "url": f"{self.url}/storage/{run.project}/{run.name}/{name}",
                    "directUrl": f"{self.url}/storage/{run.project}/{run.name}/{name}",
                    "sizeBytes": str(len(run.files[name])),
                    "mimetype": "application/octet-stream",
                    "updatedAt": "2026-01-01T00:00:00Z",
                    "md5": "",
                },
                "cursor": name,
            }
            for name in names
        ]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(run.files), "files": files}}}

    def _node(self, run: Run) -> dict[str, Any]:
        return {
            "id": f"id-{run.number}",
            "name": run.name,
            "displayName": run.display_name or run.name,
            "tags": run.tags,
            "state": run.state,
            "config": json.dumps(run.config),
            "group": run.group,
            "jobType": run.job_type,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": "2026-01-01T00:00:00Z",
            "summaryMetrics": json.dumps(run.summary),
            "systemMetrics": "{}",
            "historyLineCount": len(run.history),
            "historyKeys": {"lastStep": run.steps[-1] if run.steps else -1},
            "user": {"name": "person", "username": "person"},
            "projectId": "1",
            "sweepName": None,
            "commit": None,
            "description": None,
            "notes": None,
        }

    def _on_CreateRunFiles(self, said, query):
        run = self._of(said["entity"], said["project"], said["run"])
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/{run.project}/{run.name}/{name}"} for name in said["files"]
        ]
        return {"createRunFiles": {"runID": f"id-{run.number}", "uploadHeaders": [], "files": files}}

    def _on_UpsertView2(self, said, query):
        new = not said.get("id")
        if said["type"] != "project-view" or said["entityName"] != ENTITY:
            raise Refusal(f"view {said}: not known here")
        name = said["name"]
        self.views[name] = {**said, "spec": json.loads(said["spec"])}
        return {"upsertView": {"view": {"id": f"view-{name}", "name": name}, "inserted": new}}

    def _on_View(self, said, query):
        view = self.views[said["viewName"]]
        node = {
            "id": f"view-{said['viewName']}",
            "name": said["viewName"],
            "displayName": view["displayName"],
            "type": view["type"],
            "user": {"id": "v", "username": "person", "userInfo": {"bio": None, "company": None, "location": None}},
            "spec": json.dumps(view["spec"]),
            "updatedAt": "2026-01-01T00:00:00Z",
        }
        views = {"edges": [{"node": node}], "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"allViews": views}}

    def _project(self, name: str) -> dict[str, Any]:
        return {"id": f"project-{name}", "name": name, "entity": {"id": "entity", "name": ENTITY}}


class _Http(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that end, or a server that dies, break connections off: no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: Server

    def log_message(self, *said: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        code, said = self.server_.answer(self.command, self.path, self.headers.get("Authorization") or "", body)
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(said, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve
