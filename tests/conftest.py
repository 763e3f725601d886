import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors gain nothing from more threads, and on a busy machine they wait for each other."""
    torch.set_num_threads(1)
