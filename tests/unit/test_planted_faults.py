"""Rows of the fault table of data, samples, networks and training steps turn red where the promise is broken."""

import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import ImageFile

from lsgcli import registry
from lsgcli.data import cache, manifest, prepare
from lsgcli.data import random as draws
from lsgcli.data.download import unpack
from lsgcli.data.readers import base as readers
from lsgcli.models.base import SpikingNet
from lsgcli.store import checkpoint
from lsgcli.system import ranks
from lsgcli.training.optim import Optimizers
from tests.stress import data
from tests.stress.rows import measure, table


def touching(patch):
    """Recordings are touched when they are listed."""
    fingerprint = prepare.fingerprint
    patch.setattr(prepare, "fingerprint", lambda samples: [os.utime(one.source) for one in samples] and fingerprint(samples))


def not_inside(patch):
    """Events outside the sensor are let through."""
    patch.setattr(readers, "check_inside", lambda *arguments: None)


def truncated(patch):
    """Pillow fills what is missing with black."""
    patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def by_size(patch):
    """The checksum of a file is its size."""
    patch.setattr(manifest, "_digest", lambda folder, name: (f"{(folder / name).stat().st_size:064x}", 0))


def in_place(patch):
    """An archive is unpacked without a temporary folder."""

    def extract(archive, target, inside):
        with tarfile.open(archive) as stream:
            stream.extractall(target.parent, filter="data")

    patch.setattr(data, "unpack", extract)


def one_name(patch):
    """The settings do not matter for the name of a cache file."""
    patch.setattr(cache, "digest", lambda settings: "same")


def half(patch):
    """Something is written before an archive is refused."""

    def sloppy(archive, target):
        target.mkdir(exist_ok=True)
        (target / "half").touch()
        unpack(archive, target)

    patch.setattr(data, "unpack", sloppy)


def remembering(patch):
    """A network adds the number of its calls."""
    forward = SpikingNet.forward

    def counted(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return forward(self, x) + self.calls

    patch.setattr(SpikingNet, "forward", counted)


def forgetful(patch):
    """Running means are not restored."""
    load = checkpoint.load

    def without(path):
        net, config = load(path)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.zero_()
        return net, config

    patch.setattr(checkpoint, "load", without)


def missed(patch):
    """The optimiser lacks a weight."""
    init = Optimizers.__init__

    def lacking(self, *arguments):
        init(self, *arguments)
        self.all[0].param_groups[0]["params"].pop()

    patch.setattr(Optimizers, "__init__", lacking)


def steeper(patch):
    """A surrogate is 0.01 % too large."""
    atan = registry.get("surrogate", "atan")
    patch.setitem(registry._entries, ("surrogate", "atan"), lambda x, width: 1.0001 * atan(x, width))


def overlapping(patch):
    """The first training sample is the validation part."""
    patch.setattr(prepare, "hold_out", lambda train, fraction, seed: (train, train.part(np.arange(1))))


def every_epoch_the_same(patch):
    """Random numbers do not depend on the epoch."""
    uniforms = draws.uniforms
    patch.setattr(draws, "uniforms", lambda seed, epoch, *others: uniforms(seed, 0, *others))


def summed(patch):
    """The loss is a sum over the samples, not their mean."""
    for name in registry.names("loss"):
        loss = registry.get("loss", name)
        patch.setitem(
            registry._entries, ("loss", name), lambda y, labels, config, loss=loss: len(labels) * loss(y, labels, config)
        )


def alone(patch):
    """A process whose environment is incomplete trains alone."""
    patch.setattr(ranks, "_of_torchrun", lambda number, environment: ranks.Place())


def unscaled(patch):
    """The loss scaler restarts from its initial scale."""
    load = Optimizers.load
    patch.setattr(Optimizers, "load", lambda self, x: load(self, {n: t for n, t in x.items() if "scaler" not in n}))


FAULTS = {
    18: (10, touching),
    22: (900, not_inside),
    23: (60, truncated),
    24: (5, by_size),
    25: (9, in_place),
    26: (3, one_name),
    27: (1, half),
    31: (1, remembering),
    32: (1, forgetful),
    33: (1, missed),
    34: (0, steeper),
    35: (4, overlapping),
    36: (1, every_epoch_the_same),
    37: (4, summed),
    38: (0, alone),
    39: (1, unscaled),
}
SLOW = {18, 25, 26, 36}


@pytest.mark.parametrize(
    ("number", "count", "fault"),
    [pytest.param(n, *case, marks=[pytest.mark.slow] if n in SLOW else []) for n, case in FAULTS.items()],
)
def test_a_row_turns_red(number, count, fault, monkeypatch):
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("only Linux tells the peak of memory")
    torch.manual_seed(0)
    fault(monkeypatch)
    assert measure(table()[number], count)["failures"] > 0
