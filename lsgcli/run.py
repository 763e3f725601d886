"""A run from its settings to its report: what ``lsg train``, and each cell of ``lsg ablate``, does."""

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lsgcli import __version__, files, registry
from lsgcli.analysis import gradflow
from lsgcli.compute import Compute, set_up
from lsgcli.config import RunConfig
from lsgcli.data.batches import Batches
from lsgcli.data.prepare import DataBundle, prepare
from lsgcli.report import html
from lsgcli.rundir import RunDir, write_config
from lsgcli.training.loop import Emit, Trainer, new_model
from lsgcli.training.signals import stop_on_signals

Progress = Callable[[int, int], None]


def train(
    config: RunConfig, path: Path, emit: Emit, *, force: bool = False, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Prepare data, train in the run directory ``path``, write the reports.

    Returns:
        The final record, as :meth:`lsgcli.training.loop.Trainer.train`.

    Raises:
        LsgError: of the kinds that data, run directory, checkpoint and training raise.
    """
    compute = set_up(config)
    bundle = prepare(config, progress=progress)
    with RunDir(path, force=force, resume=resume) as run, stop_on_signals() as stop:
        trainer = Trainer(config, bundle, compute, run, emit, stop, resume=resume)
        if not resume:
            write_config(run, config, facts(compute, bundle))
        end = trainer.train()
        flow = full_flow(trainer.model, bundle, config, compute)
        files.write_json(run.path / "gradient-flow.json", flow)
        files.write_text(run.report, html.run_page(run, end, flow))
        files.write_json(run.path / "result.json", end)
        emit(end)
    return end


def full_flow(
    model: Any,
    bundle: DataBundle,
    config: RunConfig,
    compute: Compute,
    batches: int = 4,
    thresholds: gradflow.Thresholds | None = None,
) -> dict[str, Any]:
    """The complete gradient-flow record of a model over the first batches of its training data, without augmentation."""
    split = bundle.train if bundle.train is not None else bundle.test
    loss = registry.get("loss", config.loss)
    stream = Batches(
        split,
        config.batch_size,
        seed=config.seed,
        shuffle=True,
        drop_last=True,
        mean=bundle.mean,
        std=bundle.std,
        static=bundle.static,
    )
    first = (batch for batch, _ in zip(stream, range(batches), strict=False))
    return gradflow.measure(model, first, lambda y, labels: loss(y, labels, config), compute, thresholds)


def facts(compute: Compute, bundle: DataBundle) -> dict[str, Any]:
    """What a run met: program, versions, command line, machine and data."""
    device = (
        torch.cuda.get_device_name(compute.device)
        if compute.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "lsg": __version__,
        "git_revision": _git_revision(),
        "argv": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "torchvision", "tonic", "numpy", "safetensors")},
        "device": {"type": compute.device.type, "name": device, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "classes": list(bundle.classes),
        "samples": {
            name: len(split)
            for name, split in (("train", bundle.train), ("val", bundle.val), ("test", bundle.test))
            if split is not None
        },
        "data": bundle.info,
    }


def dry_run(config: RunConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Build everything, run one training step without changing anything on disk, and say what it costs.

    Returns:
        Settings, shapes, number of parameters, multiply-accumulates per sample, bytes and seconds of a step.
    """
    compute = set_up(config)
    bundle = prepare(config, progress=progress)
    assert bundle.train is not None
    model = new_model(config, bundle).to(compute.device)
    batches = Batches(
        bundle.train,
        config.batch_size,
        augment=config.augment,
        mean=bundle.mean,
        std=bundle.std,
        static=bundle.static,
        drop_last=True,
    )
    batch = next(iter(batches))
    x = batch.x.to(compute.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x[:, :1] if x.dim() == 5 else x[:1])
    seconds = []
    for _ in range(2):  # the first step also sets up kernels and memory
        begin = time.perf_counter()
        with compute.autocast():
            logits = model.train()(x)
        logits.float().mean().backward()
        seconds.append(time.perf_counter() - begin)
    steps = len(batches)
    return {
        "settings": config.to_dict(),
        "input": list(x.shape),
        "output": list(logits.shape),
        "classes": list(bundle.classes),
        "samples": {"train": len(bundle.train), "val": len(bundle.val) if bundle.val else 0, "test": len(bundle.test)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "macs_per_sample": counter.get_total_flops() // 2,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds_per_step": seconds[-1],
        "seconds_per_epoch": seconds[-1] * steps,
        "seconds_total": seconds[-1] * steps * config.epochs,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the source tree this program runs from, if it is one."""
    try:
        root = Path(__file__).resolve().parents[1]
        if not (root / ".git").exists():
            return None
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
