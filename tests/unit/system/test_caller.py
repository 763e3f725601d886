"""What a call of `import lsgcli as lsg` leaves behind in the process of its caller: nothing."""

import json
import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import lsgcli
from lsgcli.errors import ConfigError
from lsgcli.system.caller import undisturbed

SETTINGS = {"dataset": "digits-dvs", "T": 2, "size": 16, "width_multiplier": 0.03125, "arch": "mlp", "epochs": 1}
PROCESS = """
import json, os, random
before = dict(os.environ)
import lsgcli as lsg
random.seed(3)
state = random.getstate()
{first}
import torch

torch.manual_seed(5)
torch.set_num_threads(2)
end = lsg.train("run", **{settings}, threads=1, deterministic=True, seed=3)
lsg.evaluate(end["checkpoint"], threads=1, deterministic=True)
print(json.dumps([torch.initial_seed(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
                  random.getstate() == state, os.environ == before]))
"""


def state():
    """The state of this process, as far as a library might change it."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
    }


def unchanged(before):
    now = state()
    assert [name for name in before if now[name] != before[name]] == []


def disturb():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    torch.set_num_threads(3 if torch.get_num_threads() != 3 else 2)
    torch.use_deterministic_algorithms(True)
    os.environ["ONE"] = "1"
    os.environ["PATH"] += ":/nowhere"
    os.environ.pop("HOME", None)
    warnings.simplefilter("ignore")


def test_everything_is_restored(monkeypatch):
    monkeypatch.delenv("ONE", raising=False)
    before = state()

    @undisturbed
    def call(fails):
        disturb()
        if fails:
            raise ConfigError("fails")
        return 3

    assert call(False) == 3
    unchanged(before)
    with pytest.raises(ConfigError):
        call(True)
    unchanged(before)


def test_a_generator_finds_its_own_state_again(monkeypatch):
    monkeypatch.delenv("ONE", raising=False)
    before = state()

    @undisturbed
    def numbers():
        torch.manual_seed(7)
        torch.set_num_threads(3)
        os.environ["ONE"] = "1"
        yield torch.rand(()).item()
        assert (torch.get_num_threads(), os.environ["ONE"]) == (3, "1")
        yield torch.rand(()).item()

    found = []
    for number in numbers():
        found.append(number)
        unchanged(before)
    unchanged(before)
    torch.manual_seed(7)
    assert found == torch.rand(2).tolist()
    items = numbers()
    next(items)
    items.close()


def test_calls_change_nothing(tmp_path):
    """Each function, with settings other than those of the process."""
    assert lsgcli.prepare  # the first use of a name restores the wait policy
    before, machine = state(), {"threads": 2, "deterministic": True}
    data = lsgcli.prepare("digits-dvs", T=2, size=16)
    unchanged(before)
    end = lsgcli.train(tmp_path / "run", **SETTINGS, **machine)
    unchanged(before)
    lsgcli.evaluate(end["checkpoint"], **machine)
    unchanged(before)
    lsgcli.inspect(end["checkpoint"], 1, **machine)
    unchanged(before)
    np.savez(tmp_path / "a.npz", x=np.arange(9) % 8, y=np.arange(9) % 8, p=np.arange(9) % 2, t=np.arange(9))
    assert len(list(lsgcli.predict(end["checkpoint"], [tmp_path / "a.npz"]))) == 1
    unchanged(before)
    network = lsgcli.load(end["checkpoint"])
    lsgcli.inspect(network.train(), [next(iter(lsgcli.batches(data, data.train, 8)))])
    unchanged(before)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import torch", "lsg.LIF"])
def test_a_process_of_its_own(tmp_path, first):
    """With its imports, of which threadpoolctl sets a variable, and the wait policy, which is set while OpenMP is loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "KMP", "GOMP"))}
    code = PROCESS.format(first=first, settings=SETTINGS)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [5, 2, False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "spins"), [("import lsgcli; lsgcli.LIF", 0), ("import torch, lsgcli; lsgcli.LIF", 300_000)])
def test_threads_wait_passively_if_lsgcli_is_imported_first(code, spins):
    """As GNU's OpenMP says itself when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "KMP", "GOMP"))}
    environment["OMP_DISPLAY_ENV"] = "VERBOSE"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch is not linked to GNU's OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr
