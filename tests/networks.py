"""Checkpoints of small networks that spike, of recordings and of images, as `lsg train` would have written them."""

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lsgcli.config.run import RunConfig
from lsgcli.store import checkpoint
from tests.unit.models.helpers import seasoned

CLASSES = ("cup", "key", "pen")


def saved(path, *, dataset="event-folder", sensor=(128, 128), medians=(60, 100_000), readers=("aedat2",), T=4, **settings):
    """A VGGSNN of recordings of that sensor, each pixel of its input that of the sensor."""
    static = dataset in ("image-folder", "digits")
    channels = {"image-folder": 3, "digits": 1}.get(dataset, 2)
    net = seasoned("vggsnn", batch=8, dtype=torch.float32, T=T, num_classes=len(CLASSES), in_channels=channels)
    options = {"arch": "vggsnn", "T": T, "size": 16, "resize": "bin", "precision": "fp32", "workers": 0, **settings}
    data = {"channels": channels, "static": static, "mean": None, "std": None, "samples": "none"}
    if static:
        data |= {"mean": [0.4] * channels, "std": [0.2] * channels}
    else:
        data |= {"sensor": list(sensor), "versions": {f"reader {name}": 1 for name in readers}}
        data |= {} if medians is None else {"medians": {"events": medians[0], "duration_us": medians[1]}}
    return as_trained(path, net, CLASSES, RunConfig(dataset=dataset, **options), data)


def as_trained(path, net, classes, settings, data):
    """Write the checkpoint of a run with these ``settings`` and this description of its ``data``; returns its path."""
    described = {"classes": list(classes), "settings": settings.to_dict(), "data": data}
    config = {**checkpoint.describe(net), **described}
    state = {"epoch": 3, "step": 0, "best_epoch": 2, "best_accuracy": 0.875, "best_chosen_on": "val"}
    checkpoint.save(path, checkpoint.Checkpoint(net.state_dict(), config, state))
    return path


def resealed(source, target, **texts):
    """Write a checkpoint with other texts of its metadata, such as ``config``, and digests that fit them; returns its path."""
    with safe_open(source, "pt") as stream:
        metadata = dict(stream.metadata())
    metadata |= {f"lsg.{name}": text for name, text in texts.items()}
    metadata["lsg.metadata_sha256"] = checkpoint._text_digest(metadata)
    save_file(load_file(source), target, metadata=metadata)
    return target
