"""What a run stores in its checkpoints: the network, its average, the optimisers, and the position of the training loop."""

import dataclasses
from typing import Literal

import torch
from torch.amp.grad_scaler import GradScaler

from lsgcli.config.run import PATHS, RunConfig
from lsgcli.data.batches import batches
from lsgcli.data.bundle import DataBundle
from lsgcli.errors import CheckpointError, DataError
from lsgcli.models.base import SpikingNet
from lsgcli.store import checkpoint as checkpoint_file
from lsgcli.store.checkpoint import Checkpoint, State, Tensors
from lsgcli.store.rundir import RunDir, RunFiles
from lsgcli.system.device import Compute
from lsgcli.training.distributed import Group
from lsgcli.training.initialise import Sources, initialise, new_model
from lsgcli.training.optim import ExponentialMovingAverage, Optimizers
from lsgcli.training.scale import SAMPLES, draw_weights


class Stored:
    """All that the checkpoints of a run contain, new or from ``last.safetensors``; arguments as for :class:`~lsgcli.training.loop.Trainer`.

    Attributes:
        model: the trained network.
        average: its exponential moving average, with ``--ema``.
        state: position of the run.
        sources: data that the network took from other checkpoints.
        chosen_on: the split that selects the best epoch.
    """

    def __init__(self, config: RunConfig, bundle: DataBundle, compute: Compute, run: RunDir | RunFiles, group: Group):
        self.config = config
        self.bundle = bundle
        self.compute = compute
        self.run = run
        self.group = group
        self.chosen_on: Literal["val", "test"] = "val" if bundle.val is not None else "test"
        self.model = new_model(config, len(bundle.classes), bundle.channels, bundle.height).to(compute.device)
        self.optimizers = Optimizers(self.model, config, GradScaler(compute.device.type, enabled=compute.precision == "fp16"))
        self.state, self.sources = State(), Sources()
        self.average: ExponentialMovingAverage | None = None
        if run.resumed and run.last.exists():
            self._restore()
        else:
            if config.init != "kaiming":
                batch = next(iter(batches(bundle, bundle.named("train"), SAMPLES, seed=config.seed, shuffle=True)))
                draw_weights(self.model, config, compute.move(batch.x))
            self.sources = initialise(self.model, config, bundle.classes)
            self.state.crossings = group.agree("crossings", lambda: self.model.crossings(compute))
            self.average = ExponentialMovingAverage(self.model, config.ema) if config.ema else None
        self.state.best_chosen_on = self.chosen_on
        compute.convolutions.crossings.update(self.state.crossings)

    @property
    def network(self) -> SpikingNet:
        """The network of the run: the averaged one with ``--ema``, otherwise the trained one."""
        return self.average.model if self.average else self.model

    def checkpoint(self, extra: Tensors) -> Checkpoint:
        """The checkpoint, with further tensors."""
        bundle = self.bundle
        config = self.config
        data = {
            "channels": bundle.channels,
            "static": bundle.static,
            "mean": bundle.mean,
            "std": bundle.std,
            "samples": bundle.digest(),
            **bundle.info,
        }
        # A checkpoint is portable: it stores no paths of this machine.
        settings = config.replace(**dict.fromkeys(PATHS), precision=self.compute.precision).to_dict()
        described = checkpoint_file.describe(self.model)
        trained = {f"raw/{name}": value for name, value in self.model.state_dict().items()} if self.average else {}
        return Checkpoint(
            weights=self.network.state_dict(),
            config={**described, "classes": list(bundle.classes), "settings": settings, "data": data, "sources": self.sources},
            state=dataclasses.asdict(self.state),
            extra={**extra, **trained},
        )

    def _restore(self) -> None:
        """Continue from the last checkpoint.

        Raises:
            DataError: the data are not those of the run.
            CheckpointError: the checkpoint cannot be used.
        """
        content = checkpoint_file.read(self.run.last)
        if content.config["data"]["samples"] != self.bundle.digest():
            raise DataError(
                f"{self.run.path}: found other training samples, validation split or preparation than those of the run",
                hint="Pass the original data to --data-dir, or start a new run.",
            )
        checkpoint_file.check_finite(content.weights, self.model, self.run.last)
        known = {field.name for field in dataclasses.fields(State)}
        try:
            self.model.load_state_dict(dict(content.weights))
            if self.config.ema:
                self.average = ExponentialMovingAverage(self.model, self.config.ema)
                trained = {name.removeprefix("raw/"): x for name, x in content.extra.items() if name.startswith("raw/")}
                self.model.load_state_dict(trained)
            self.sources = content.config.get("sources", {})
            self.optimizers.load(content.extra)
            torch.set_rng_state(content.extra["rng/torch"])
            self.state = State(**{key: value for key, value in content.state.items() if key in known})
            if (planned := content.config["settings"]["epochs"]) != self.config.epochs:
                self.state.extended.append([self.state.epoch, planned])
        except (RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.run.last}: cannot be resumed: {error}", hint="Restart the run with --force."
            ) from error
