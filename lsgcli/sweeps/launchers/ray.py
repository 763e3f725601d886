"""Jobs of a Ray cluster."""

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.errors import ConfigError
from lsgcli.registry import register
from lsgcli.sweeps.jobs import Attempt, Job
from lsgcli.sweeps.launchers.base import Convert, Ids, Launcher, text

NAMESPACE = "lsg"
ANSWER = 5.0  # seconds within which a cluster, or an actor that has started, must answer


def amount(value: str) -> float:
    """A number of CPUs or GPUs, possibly a fraction; raises a ValueError if it is not a number of at least 0."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise ValueError("a number, at least 0")
    return number


def _check_answer(address: str) -> None:
    """Check that something listens at HOST:PORT; Ray would try for minutes without a message.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), ANSWER).close()


class Actor:
    """Runs a job. Ray starts it again if its process or node is lost."""

    def __init__(self, job: Job):
        self.attempt = Attempt(job)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """Run the job, then end the actor."""
        import ray

        try:
            self.attempt.run()
        finally:
            ray.kill(ray.get_runtime_context().current_actor)

    def stop(self) -> None:
        """Let the run save its state, and end."""
        self.attempt.stop()
        self.thread.join()


@register("launcher", "ray")
class Ray(Launcher):
    """Actors of a Ray cluster, which outlive the command, or of a local one that ends with it."""

    extra, packages = "ray", ("ray",)
    options: ClassVar[Mapping[str, Convert]] = {"address": text, "num_cpus": amount, "num_gpus": amount}
    pause = 1.0

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        super().__init__(folder, options)
        import ray

        address = options.get("address", "local")
        self.lasting = address != "local"
        with contextlib.ExitStack() as stack:
            # Ray prints messages on lost workers to stdout, which is reserved for the table.
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            try:
                _check_answer(address)
                with contextlib.chdir(os.sep):  # Ray adds the working directory to the module path of its workers
                    ray.init(address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
            except RuntimeError as error:  # such as other versions of Ray or Python
                raise ConfigError(
                    f"--ray address: found {address!r}, which refuses this program: {' '.join(str(error).split())}",
                    hint="Install the versions of Ray and Python that the cluster has.",
                ) from error
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"--ray address: found {address!r}, where no cluster answers: {error}",
                    hint="Start a cluster with `ray start --head`, or omit the address for a local one; for a cluster with a token, set "
                    "RAY_AUTH_MODE=token.",
                ) from error
            stack.callback(ray.shutdown)
            self._connection = stack.pop_all()
        there = ray.cluster_resources()
        self.resources = {
            "num_cpus": options.get("num_cpus", 1.0),
            "num_gpus": options.get("num_gpus", 1.0 if there.get("GPU") else 0.0),
        }
        fitting = [there.get(name[4:-1].upper(), 0.0) // each for name, each in self.resources.items() if each]
        self.slots = max(1, int(min(fitting, default=self.slots)))
        self.prefix = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]

    def close(self) -> None:
        self._connection.close()

    def submit(self, jobs: Sequence[Job]) -> Ids:
        import ray

        ids = {}
        for job in jobs:
            ids[job.name] = f"{self.prefix}-{job.name}"
            ray.remote(Actor).options(
                name=ids[job.name],
                get_if_exists=True,  # the name admits one actor for each job
                lifetime="detached",
                max_restarts=-1,
                **self.resources,
            ).remote(job)
        return ids

    def look(self, ids: Ids) -> Mapping[str, str]:
        from ray.util import list_named_actors

        known = set(list_named_actors())
        return {name: "" for name, actor in ids.items() if actor in known}

    def cancel(self, ids: Ids) -> None:
        import ray
        from ray.exceptions import RayError

        actors = [ray.get_actor(ids[name]) for name in self.look(ids)]
        ready = {actor.__ray_ready__.remote(): actor for actor in actors}
        started, _ = ray.wait(list(ready), num_returns=len(ready), timeout=ANSWER) if ready else ([], [])
        for answer, actor in ready.items():
            if answer not in started:
                ray.kill(actor)
        for stopped in [ready[answer].stop.remote() for answer in started]:
            try:
                ray.get(stopped)
            except RayError:  # it has ended
                continue
