"""The largest batch size that fits: doubled until a step needs too much, or the process that tries it is killed."""

import os
import signal

import pytest

from lsgcli.config.resolve import resolve
from lsgcli.errors import ConfigError, OutOfMemoryError
from lsgcli.runs import batch_size, dry_run
from lsgcli.runs.batch_size import Fit

BASE, EACH = 100 << 20, 3 << 20  # bytes that the process and each sample need here


@pytest.fixture
def config(tmp_path):
    given = {"dataset": "digits", "arch": "mlp", "T": 1, "size": 8, "width_multiplier": 0.05, "threads": 1}
    return resolve({**given, "cache_dir": str(tmp_path)}, environment={})


@pytest.mark.parametrize("available", [300 << 20, 1000 << 20, 2300 << 20, 1 << 40])
def test_doubled_until_a_step_needs_more_than_half_of_the_memory(config, monkeypatch, available):
    """Never trying a size that would need all of it."""
    sizes, gradients = [], dry_run.gradients

    def step(model, batch, *arguments):
        sizes.append(len(batch.y))
        gradients(model, batch, *arguments)

    monkeypatch.setattr(dry_run, "gradients", step)
    monkeypatch.setattr(batch_size.memory, "peak_bytes", lambda: BASE + EACH * sizes[-1])
    *_, found = batch_size._sizes(config, available)
    fitting = [n for n in (2**k for k in range(1, 11)) if BASE + EACH * n <= available / 2]
    assert found == Fit(max(fitting), BASE + EACH * max(fitting), available // 2)
    assert BASE + EACH * max(sizes) <= available


def test_each_part_has_two_samples(config, monkeypatch):
    monkeypatch.setattr(batch_size.memory, "peak_bytes", lambda: 0)
    assert next(batch_size._sizes(config.replace(accumulate=5), 1 << 40)).batch_size == 16


def killed_after_two(config, available, sender):
    """As the kernel kills a process that uses too much memory."""
    for size in (2, 4):
        sender.send(Fit(size, 1 << 20, available))
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_once(config, available, sender):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_has_found_what_did_not_fit(config, monkeypatch):
    monkeypatch.setattr(batch_size, "_measure", killed_after_two)
    assert batch_size.largest(config).batch_size == 4
    monkeypatch.setattr(batch_size, "_measure", killed_at_once)
    with pytest.raises(OutOfMemoryError, match="--batch-size auto: found no batch size that fits"):
        batch_size.largest(config)


@pytest.mark.slow
def test_measured_in_a_process_of_its_own(config):
    found = batch_size.largest(config)
    assert found.batch_size == 1024
    assert 0 < found.peak_bytes <= found.limit_bytes


def test_settings_are_checked_first(config):
    with pytest.raises(ConfigError, match="expected more than the 15 of warm-up"):
        batch_size.largest(config.replace(warmup_epochs=15))
