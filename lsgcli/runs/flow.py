"""The full gradient flow of a run's network: on batches of its training data, as it is trained."""

import itertools
from typing import Any

from lsgcli.analysis import gradflow, raster, running
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batches, batches
from lsgcli.data.bundle import DataBundle, spread
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.system.device import Compute, check_gradients
from lsgcli.training.freeze import freeze
from lsgcli.training.losses import observed_backbone, of_run


def full_flow(
    model: SpikingNet,
    bundle: DataBundle,
    config: RunConfig,
    compute: Compute,
    n_batches: int = 4,
    shown: int = 0,
    *,
    detailed: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """The full gradient-flow record of a model on the first batches of its training data, without augmentation.

    It includes the accuracy in evaluation and with batch statistics, and a warning if they differ much, and the activity of the training
    sample ``shown``. With ``--accumulate``, batches have the size of the parts, of which training normalises each by itself. ``detailed`` and
    ``options`` are as for :func:`lsgcli.analysis.inspect`; ``detailed`` also measures ``batch_invariant``.

    Raises:
        ConfigError: there is no such sample, or the precision has no gradients.
    """
    check_gradients(config.precision)
    split = bundle.named("train")
    if config.freeze is not None and not model.frozen:  # of a checkpoint; as in training
        freeze(model, config.freeze)
    size = -(-config.batch_size // config.accumulate)
    if shown >= len(split):
        raise ConfigError(f"--sample: found {shown}, expected 0 to {len(split) - 1}, the samples of the training part")
    around = spread(split, size, first=shown)
    stream = batches(bundle, split, size, seed=config.seed, shuffle=True, drop_last=True)
    with observed_backbone(model, config):
        flow = gradflow.inspect(
            model,
            itertools.islice(stream, n_batches),
            loss=of_run(config, split.y, len(bundle.classes)),
            compute=compute,
            detailed=detailed,
            **options,
        )
    found = running.accuracies(model, stream, compute)
    running.warn_of_gap(found, "training samples")
    (batch,) = batches(bundle, around, size, seed=config.seed)
    flow["activity"] = {**raster.activity(model, batch, compute=compute), "sample": shown}
    flow |= {"accuracy": found and found._asdict(), "eval_gap": found and found.batch - found.evaluation}
    return flow | {"batch_invariant": _is_batch_invariant(model, stream, compute) if detailed else None}


def _is_batch_invariant(model: SpikingNet, stream: Batches, compute: Compute) -> bool:
    """Whether samples of the first batch have the same logits alone."""
    x = compute.move(next(iter(stream)).x)
    was_training = model.training
    try:
        with compute.context():
            return running.batch_invariant(model.eval(), x, axis=0 if x.dim() == 4 else 1)
    finally:
        model.train(was_training)
