import pytest

from tests import tiny
from tests.unit.training.test_loop import run


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The checkpoint of a short run of lsg whose decays have moved."""
    path = tmp_path_factory.mktemp("source") / "lsg"
    run(path, tiny.config(epochs=1, decay_lr=0.1), tiny.bundle())
    return path / "last.safetensors"
