"""A Kubernetes on one machine: an API with jobs and pods, whose containers are local processes.

The API serves the requests of dagster-k8s. Volumes and the files of images are directories of this machine, whose paths
replace those in commands and environment variables. ``/tmp`` and ``/dev/shm`` stay as they are.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import psutil
import yaml

from processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]

NAMESPACE = "data"
_ROUTE = re.compile(r"/apis?(?:/batch)?/v1/namespaces/[^/]+/(jobs|pods|events)(?:/([^/]+))?(?:/(status|log))?")
_GRACE_SECONDS = 30
_PATH = re.compile(r"(?<!\S)/\S*")
_SHARED = {"/tmp", "/dev/shm"}  # noqa: S108  # paths in a container


@dataclass(frozen=True)
class Image:
    """Files of an image by their path in it, and its environment variables. Containers start in the first directory."""

    files: Mapping[str, Path]
    environment: Mapping[str, str] = field(default_factory=dict)


class Pod:
    """A pod with one container.

    Attributes:
        name: Its name.
        labels: Its labels.
        spec: Its specification.
        directory: Directory of this machine with its log and its own volumes.
        process: The container's first process; None while it cannot be created.
        problem: Reason why the container cannot be created.
    """

    def __init__(self, name: str, template: Json, directory: Path) -> None:
        self.name = name
        self.labels: dict[str, str] = template["metadata"].get("labels", {})
        self.spec: Json = template["spec"]
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.problem = ""
        directory.mkdir(parents=True)

    @property
    def container(self) -> Json:
        container: Json = self.spec["containers"][0]
        return container

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def phase(self) -> str:
        if self.process is None:
            return "Pending"
        code = self.process.poll()
        return "Running" if code is None else "Failed" if code else "Succeeded"

    def document(self) -> Json:
        """Return the object of the API."""
        code = self.process.poll() if self.process else None
        state: Json = {"running": {}}
        if self.process is None:
            state = {"waiting": {"reason": "CreateContainerConfigError", "message": self.problem}}
        elif code is not None:
            state = {"terminated": {"exitCode": code if code >= 0 else 128 - code}}
        status = {"name": self.container["name"], "ready": "running" in state, "restartCount": 0, "state": state}
        return {
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": self.labels},
            "spec": self.spec,
            "status": {
                "phase": self.phase,
                "containerStatuses": [{**status, "image": self.container["image"], "imageID": ""}],
            },
        }

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process."""
        if self.process is not None:
            self.process.send_signal(number)

    def end(self, grace: float) -> None:
        """End the container: SIGTERM, then SIGKILL after the grace period."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.signal(signal.SIGKILL)
        self.process.wait()

    def end_others(self) -> None:
        """Kill the container's other processes after its first one, as the kernel does."""
        assert self.process is not None
        self.process.wait()
        for process in psutil.process_iter(["environ"]):
            # A directory of this test; the names of services are the same in all of them.
            if (process.info["environ"] or {}).get("TMPDIR") == str(self.directory):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@dataclass(frozen=True)
class Job:
    """A job and its pod, which is not replaced."""

    document: Json
    pod: Pod

    def with_status(self) -> Json:
        """Return the object of the API."""
        counted = {"Succeeded": "succeeded", "Failed": "failed"}.get(self.pod.phase, "active")
        return {**self.document, "status": {counted: 1, "startTime": "2026-01-01T00:00:00Z"}}


class Kubernetes(ThreadingHTTPServer):
    """The API, and the node that runs all pods.

    Attributes:
        directory: Directory for volumes and logs.
        images: Images by reference; others have no files.
        secrets: Values of Secrets by name.
        config_maps: Values of ConfigMaps by name.
        pods: Pods by name, until they are deleted.
        jobs: All jobs by name, also deleted ones.
    """

    daemon_threads = True

    def __init__(self, directory: Path, images: Mapping[str, Image]) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.directory = directory
        self.images = images
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.config_maps: dict[str, Mapping[str, str]] = {}
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Job] = {}
        self.deleted: set[str] = set()

    def kubeconfig(self) -> Path:
        """Write the file with which clients outside a pod find the API."""
        cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}
        context = {"cluster": "test", "user": "test", "namespace": NAMESPACE}
        content = {
            "clusters": [cluster],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path = self.directory / "kubeconfig"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def create_job(self, job: Json) -> Job:
        name = job["metadata"]["name"]
        template = job["spec"]["template"]
        template["metadata"].setdefault("labels", {})["job-name"] = name
        self.jobs[name] = Job(job, self.create_pod(f"{name}-{secrets.token_hex(3)}", template))
        return self.jobs[name]

    def create_pod(self, name: str, template: Json) -> Pod:
        """Create a pod and start its container, unless a part of its configuration does not exist."""
        pod = self.pods[name] = Pod(name, template, self.directory / "pods" / name)
        try:
            environment, places = self._environment(pod), self._places(pod)
        except KeyError as error:
            pod.problem = f"{error.args[0]} not found"
            return pod
        image = self.images.get(pod.container["image"], Image({}))
        values = {**image.environment, **environment, "HOSTNAME": name, "TMPDIR": str(pod.directory)}
        command = [*pod.container.get("command", []), *pod.container.get("args", [])]
        with pod.log.open("wb") as log:
            pod.process = subprocess.Popen(
                [_on_this_machine(word, places) for word in command],
                env=clean_environment(
                    PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    NO_PROXY="127.0.0.1",
                    **{key: _on_this_machine(value, places) for key, value in values.items()},
                ),
                cwd=next(iter(image.files.values()), pod.directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=pod.end_others, daemon=True).start()
        return pod

    def delete_pod(self, pod: Pod) -> None:
        """End a pod with its grace period, then remove it."""
        pod.end(pod.spec.get("terminationGracePeriodSeconds", _GRACE_SECONDS))
        self.pods.pop(pod.name, None)

    def log_of(self, pod: str) -> Path:
        """Return the file with a pod's log."""
        return self.directory / "pods" / pod / "log"

    def of_run(self, run_id: str, component: str) -> list[Job]:
        """List the jobs of a run: its ``run_worker`` or its ``step_worker`` ones."""
        expected = {"dagster/run-id": run_id, "app.kubernetes.io/component": component}
        return [job for job in self.jobs.values() if expected.items() <= job.pod.labels.items()]

    def end_all(self) -> None:
        """End all pods together."""
        endings = [threading.Thread(target=pod.end, args=[15]) for pod in [*self.pods.values()]]
        for ending in endings:
            ending.start()
        for ending in endings:
            ending.join()

    def _environment(self, pod: Pod) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in pod.container.get("envFrom", []):
            if "secretRef" in source:
                values |= self.secrets[source["secretRef"]["name"]]
            else:
                values |= self.config_maps[source["configMapRef"]["name"]]
        return {**values, **{entry["name"]: self._value(entry, pod) for entry in pod.container.get("env", [])}}

    def _value(self, entry: Json, pod: Pod) -> str:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            return self.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        if "fieldRef" in source:
            fields = {"metadata.name": pod.name, "metadata.namespace": NAMESPACE, "status.podIP": "127.0.0.1"}
            return fields[source["fieldRef"]["fieldPath"]]
        return str(entry.get("value", ""))

    def _places(self, pod: Pod) -> dict[str, Path]:
        """Return the container's directories: those of its image, then its volumes, with links to nested ones."""
        image = self.images.get(pod.container["image"], Image({}))
        places = dict(image.files)
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        mounts = {mount["mountPath"].rstrip("/"): mount for mount in pod.container.get("volumeMounts", [])}
        for path in sorted(set(mounts) - _SHARED):
            volume = self._volume(pod, volumes[mounts[path]["name"]])
            place = volume / mounts[path].get("subPath", "")
            if not place.is_file():
                place.mkdir(parents=True, exist_ok=True)
            link = Path(_on_this_machine(path, places))
            if str(link) != path and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(place)
            places[path] = place
        return places

    def _volume(self, pod: Pod, volume: Json) -> Path:
        if "persistentVolumeClaim" in volume:
            return self.directory.joinpath("claims", volume["persistentVolumeClaim"]["claimName"])
        directory = pod.directory.joinpath("volumes", volume["name"])
        if "configMap" in volume:
            directory.mkdir(parents=True, exist_ok=True)
            for name, text in self.config_maps[volume["configMap"]["name"]].items():
                (directory / name).write_text(text, encoding="utf-8")
        return directory


@contextmanager
def running_kubernetes(directory: Path, images: Mapping[str, Image]) -> Iterator[Kubernetes]:
    """Serve the API until the block ends; then end all pods."""
    with Kubernetes(directory, images) as kubernetes:
        thread = threading.Thread(target=kubernetes.serve_forever)
        thread.start()
        try:
            yield kubernetes
        finally:
            kubernetes.end_all()
            kubernetes.shutdown()
            thread.join()


def config_map_values(manifest: Json) -> dict[str, str]:
    """Return the values of a ConfigMap's manifest."""
    binary = {key: base64.b64decode(value).decode() for key, value in manifest.get("binaryData", {}).items()}
    return {**manifest.get("data", {}), **binary}


def _on_this_machine(text: str, places: Mapping[str, Path]) -> str:
    """Replace the paths of a container that are words of ``text``."""

    def replaced(found: re.Match[str]) -> str:
        path = found[0]
        within = [place for place in places if path == place or path.startswith(f"{place}/")]
        place = max(within, key=len, default="")
        return f"{places[place]}{path[len(place) :]}" if place else path

    return _PATH.sub(replaced, text)


class _Api(BaseHTTPRequestHandler):
    server: Kubernetes

    def do_GET(self) -> None:  # the base class calls it so
        kind, name, part = self._route()
        known = self._objects(kind)
        if name is None:
            self._answer(200, {"metadata": {}, "items": [entry for entry in known.values() if self._selects(entry)]})
        elif name not in known:
            self._answer(404, {"reason": "NotFound"})
        elif part == "log":
            lines = self.server.pods[name].log.read_bytes().splitlines(keepends=True)
            self._answer(200, b"".join(lines[-int(self._query.get("tailLines", "100")) :]))
        else:
            self._answer(200, known[name])

    def do_POST(self) -> None:  # the base class calls it so
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["metadata"]["name"] in self.server.jobs:
            self._answer(409, {"reason": "AlreadyExists"})
        else:
            self._answer(201, self.server.create_job(body).with_status())

    def do_DELETE(self) -> None:  # the base class calls it so
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, name, _ = self._route()
        known = self._objects(kind)
        if name is None or name not in known:
            self._answer(404, {"reason": "NotFound"})
            return
        if kind == "jobs":
            self.server.deleted.add(name)
        else:
            threading.Thread(target=self.server.delete_pod, args=[self.server.pods[name]]).start()
        self._answer(200, known[name])

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))

    def _route(self) -> tuple[str, str | None, str | None]:
        found = _ROUTE.fullmatch(urlsplit(self.path).path)
        assert found is not None, self.path
        return found[1], found[2], found[3]

    def _objects(self, kind: str) -> dict[str, Json]:
        if kind == "pods":
            return {name: pod.document() for name, pod in [*self.server.pods.items()]}
        if kind == "jobs":
            existing = [(name, job) for name, job in self.server.jobs.items() if name not in self.server.deleted]
            return {name: job.with_status() for name, job in existing}
        return {}

    def _selects(self, entry: Json) -> bool:
        labels = dict(pair.split("=", 1) for pair in self._query.get("labelSelector", "").split(",") if pair)
        wanted = self._query.get("fieldSelector", "").partition("metadata.name=")[2]
        return labels.items() <= entry["metadata"].get("labels", {}).items() and wanted in {
            "",
            entry["metadata"]["name"],
        }

    def _answer(self, status: int, content: Json | bytes) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if isinstance(content, dict) else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
