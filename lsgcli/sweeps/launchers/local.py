"""Jobs as processes on this machine."""

import dataclasses
import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli.errors import ConfigError
from lsgcli.registry import register
from lsgcli.sweeps.jobs import Job
from lsgcli.sweeps.launchers.base import Convert, Ids, Launcher, text, whole
from lsgcli.system import cpus, interpreter
from lsgcli.training import launch


@register("launcher", "local")
class Local(Launcher):
    """Processes on this machine, several at a time or one on each GPU; they end with the command."""

    options: Mapping[str, Convert] = {"jobs": whole, "devices": text}
    lasting = False

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        super().__init__(folder, options)
        devices = launch.parse(options["devices"]) if "devices" in options else launch.Devices(1)
        count = options.get("jobs", devices.count)
        if count < len(devices.gpus):
            raise ConfigError(
                f"--jobs: found {count}, expected at least {len(devices.gpus)}, one for each of --devices",
                "Omit --jobs, or use fewer devices.",
            )
        self.environments = [cpus.share(count) for _ in range(count)]
        for environment, gpu in zip(self.environments, itertools.cycle(devices.visible()), strict=False):
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self.slots = count
        self._running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}  # by job: index of its environment, process

    def submit(self, jobs: Sequence[Job]) -> Ids:
        taken = {number for number, _ in self._alive().values()}
        free = [number for number in range(self.slots) if number not in taken]
        ids = {}
        for job, number in zip(jobs, free, strict=False):
            process = subprocess.Popen(
                interpreter.command("lsgcli.sweeps.jobs", json.dumps(dataclasses.asdict(job))),
                env={**os.environ, **self.environments[number]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C interrupts this command only, which stops its jobs
            )
            self._running[job.name] = number, process
            ids[job.name] = str(process.pid)
        return ids

    def look(self, ids: Ids) -> Mapping[str, str]:
        return dict.fromkeys(self._alive(), "")

    def cancel(self, ids: Ids) -> None:
        own = [process for name, (_, process) in self._alive().items() if name in ids]
        for process in own:
            process.terminate()
        for process in own:
            process.wait()

    def _alive(self) -> dict[str, tuple[int, subprocess.Popen[bytes]]]:
        """The jobs whose processes have not ended."""
        self._running = {name: one for name, one in self._running.items() if one[1].poll() is None}
        return self._running
