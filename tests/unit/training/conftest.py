import pytest

from lsgcli.training.initialise import new_model
from tests import tiny
from tests.networks import as_trained
from tests.unit.training.test_loop import run


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The checkpoint of a short run of lsg whose decays have moved."""
    path = tmp_path_factory.mktemp("source") / "lsg"
    run(path, tiny.config(epochs=1, decay_lr=0.1), tiny.bundle())
    return path / "last.safetensors"


@pytest.fixture
def untrained(tmp_path):
    """Write the checkpoint of a new network, as of a run: ``untrained(**settings)`` -> path."""
    data = {"channels": 2, "static": False, "mean": None, "std": None, "samples": "none"}

    def write(**settings):
        config = tiny.config(**settings)
        return as_trained(tmp_path / "untrained.safetensors", new_model(config, 3, 2), tiny.CLASSES, config, data)

    return write
