"""Re-estimation of the running statistics of a checkpoint, ``lsg eval --refresh-norm``."""

import itertools
import logging
from pathlib import Path

from lsgcli.analysis import running
from lsgcli.data.batches import batches
from lsgcli.errors import CheckpointError
from lsgcli.runs.open import Opened
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint

log = logging.getLogger("lsg")


def refreshed(opened: Opened, path: Path, n: int) -> Checkpoint:
    """Re-estimate the running statistics of an opened checkpoint in place, on ``n`` batches of training data without augmentation.

    Batches have the size of the parts that training normalises, and one epoch is the most.

    Returns:
        The checkpoint with the new statistics; without training state of the optimiser, and with the source in ``refreshed``.

    Raises:
        CheckpointError: an export.
        ConfigError: the network has no normalisation.
    """
    stored = opened.stored
    if stored["folded"] or "export" in stored:
        raise CheckpointError(
            f"{path}: found an export, expected a checkpoint written by training",
            hint="Refresh the run's own checkpoint, and export the result.",
        )
    bundle, config = opened.bundle, opened.config
    size = -(-config.batch_size // config.accumulate)
    stream = batches(bundle, "train", size, seed=config.seed, shuffle=True, drop_last=True, workers=config.workers)
    done = running.refresh(opened.model, itertools.islice(stream, n), opened.compute)
    log.info("re-estimated running statistics on %d batches of %d training samples", done, size)
    content = checkpoint.read(path)
    about = {**stored, "refreshed": {"batches": done, "batch_size": size, "sha256": content.sha256}}
    return Checkpoint(opened.model.state_dict(), about, content.state)
