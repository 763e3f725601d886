"""Description of a network or checkpoint: its layers, the settings that differ from the defaults, and where it comes from."""

from pathlib import Path

from lsgcli import models
from lsgcli.analysis.structure import structure
from lsgcli.config.resolve import differing, resolve
from lsgcli.config.run import check_effect, from_checkpoint, from_dict
from lsgcli.data.datasets.base import SPLITS, Dataset, dataset_of
from lsgcli.errors import DataError
from lsgcli.store import checkpoint, hub, rundir
from lsgcli.system.schema import Record
from lsgcli.training.initialise import new_model

IMAGES = 3  # channels of a network whose input is images


def of_network(settings: Record, classes: int | None = None) -> Record:
    """Layers of a new network; other result as :func:`of_checkpoint`.

    Args:
        settings: ``arch``, and settings that replace its defaults; or ``dataset``, whose preset, channels and classes then apply.
        classes: number of classes. Default: that of the network, or of the data set; only of data of your own are files read.

    Raises:
        ConfigError: as :func:`lsgcli.models.build`, or a setting has no effect.
        DataError: the classes of the data set are not known without its data.
    """
    if "dataset" in settings:
        config = resolve(settings, environment={})
        dataset = dataset_of(config, may_download=False)
        if classes is None:
            classes = len(dataset.class_names or _scanned(dataset).classes)
        model = new_model(config, classes, dataset.channels, 1 if dataset.line else None)
    else:
        config = from_dict(settings)
        check_effect(settings, config)
        given = {"input_size" if name == "size" else name: value for name, value in settings.items()}
        model = models.build(given.pop("arch"), num_classes=classes, **given)
    others = {name: value for name, value in settings.items() if name != "arch"}
    return {
        "arch": config.arch,
        **structure(model, model.images_only or model.spec.in_channels == IMAGES),
        "settings": others,
        "provenance": {},
    }


def _scanned(dataset: Dataset) -> Dataset:
    try:
        return dataset.scan(SPLITS)
    except DataError as error:
        raise DataError(error.message, "Give --classes N, the number of classes.") from error


def of_checkpoint(path: Path | str) -> Record:
    """Layers of a checkpoint, its settings that differ from the preset of its data set, and where it comes from.

    Args:
        path: as for :func:`lsgcli.store.hub.local`.

    Returns:
        JSON types: those of :func:`lsgcli.analysis.structure.structure`, ``arch``, ``settings``: name -> value, and ``provenance``.

    Raises:
        CheckpointError: not a valid checkpoint.
    """
    file = hub.local(path)
    content = checkpoint.read(file)
    config = content.config
    state = content.state
    found = structure(checkpoint.restored(content, path), bool(config["data"].get("static")))
    settings = {}
    if config["settings"]:
        run_config = from_checkpoint(path, config, {"precision": config["settings"].get("precision")})
        settings = {name: getattr(run_config, name) for name in differing(run_config)}
    provenance = {
        "sha256": content.sha256,
        "dataset": config["settings"].get("dataset"),
        "classes": len(config["classes"]),
        **{name: state.get(name) for name in ("epoch", "best_epoch", "best_accuracy", "best_chosen_on")},
        "export": {name: value for name, value in config.get("export", {}).items() if name != "layers"} or None,
        "sources": config.get("sources") or None,
        **_of_run(Path(file).parent),
    }
    known = {name: value for name, value in provenance.items() if value is not None}
    return {"arch": config["arch"], **found, "settings": settings, "provenance": known}


def _of_run(folder: Path) -> Record:
    """Facts about the run in a folder; none if there is no readable one."""
    facts = rundir.facts_of_run(folder) or {}
    return {name: facts.get(name) for name in ("started", "lsg", "git_revision", "python", "versions", "device")}
