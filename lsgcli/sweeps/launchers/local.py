"""Jobs as processes on this machine."""

import contextlib
import dataclasses
import itertools
import json
import os
import platform
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.errors import ConfigError
from lsgcli.registry import register
from lsgcli.sweeps.jobs import Job, read_record
from lsgcli.sweeps.launchers.base import Convert, Ids, Launcher, text, whole
from lsgcli.system import cpus, files, interpreter
from lsgcli.training import launch


@register("launcher", "local")
class Local(Launcher):
    """Processes on this machine, several at a time or one on each GPU; they end with the command."""

    options: ClassVar[Mapping[str, Convert]] = {"jobs": whole, "devices": text}
    lasting = False

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        super().__init__(folder, options)
        devices = launch.parse(options["devices"]) if "devices" in options else launch.Devices(1)
        count = options.get("jobs", devices.count)
        if count < len(devices.gpus):
            raise ConfigError(
                f"--jobs: found {count}, expected at least {len(devices.gpus)}, one for each of --devices",
                hint="Omit --jobs, or use fewer devices.",
            )
        self.environments = [cpus.share(count) for _ in range(count)]
        for environment, gpu in zip(self.environments, itertools.cycle(devices.visible()), strict=False):
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self.slots = count
        self._running: list[tuple[str, subprocess.Popen[bytes]] | None] = [None] * count

    def submit(self, jobs: Sequence[Job]) -> Ids:
        self._free()
        ids, waiting = {}, iter(jobs)
        for number, environment in enumerate(self.environments):
            if self._running[number] is None and (job := next(waiting, None)) is not None:
                process = subprocess.Popen(
                    interpreter.command("lsgcli.sweeps.jobs", json.dumps(dataclasses.asdict(job))),
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C interrupts this command only, which stops its jobs
                )
                self._running[number] = job.name, process
                ids[job.name] = str(process.pid)
        return ids

    def alive(self, ids: Ids) -> set[str]:
        self._free()
        return {slot[0] for slot in self._running if slot is not None}

    def cancel(self, ids: Ids) -> None:
        """Cancel jobs, including those of other commands on this machine. If a job's lock is held, the process in its record exists."""
        own = [slot[1] for slot in self._running if slot is not None and slot[0] in ids]
        for process in own:
            process.terminate()
        for name in ids:
            record = read_record(self.folder / f"{name}.json")
            if record.get("host") == platform.node() and "pid" in record and files.is_locked(self.folder / f"{name}.lock"):
                with contextlib.suppress(ProcessLookupError):  # it has ended in the meantime
                    os.kill(record["pid"], signal.SIGTERM)
        for process in own:
            process.wait()

    def _free(self) -> None:
        self._running = [slot if slot is not None and slot[1].poll() is None else None for slot in self._running]
