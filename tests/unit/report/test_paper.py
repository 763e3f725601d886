"""Figures 1 and 3 of the paper against plain numpy, and that figures of the paper are drawn by a command."""

import json

import numpy as np
import pytest

from lsgcli.report import paper
from lsgcli.report.drawing import svg
from tests.unit.neurons import oracle
from tests.unit.report import reading


def test_surrogates():
    """Read back from the picture, and compared with formulas of their own."""
    drawn = svg(paper.surrogates())
    x_of, y_of = reading.scale(drawn, "X"), reading.scale(drawn, "Y")
    names = sorted(oracle.SURROGATES.keys() - {"tanh"})  # which is the same as sigmoid
    assert [text for text, _, _ in reading.texts(drawn, "role-legend")] == names
    for name, line in zip(names, reading.marks(drawn, "line"), strict=True):
        pixels = reading.points(line)
        x = x_of(pixels[:, 0])
        np.testing.assert_allclose(x, np.linspace(-1.5, 1.5, 301), atol=0.01)
        off_jumps = np.abs(np.abs(x) - oracle.JUMPS.get(name, 9)) > 0.02
        expected = oracle.SURROGATES[name](x, 1.0)
        np.testing.assert_allclose(y_of(pixels[:, 1])[off_jumps], expected[off_jumps], atol=0.02)


def simulated(beta, rho, gamma, T, n):
    """Potentials before the reset (T, n) of neurons with threshold 0.5."""
    rng = np.random.default_rng(3)
    current = rng.standard_normal(n)
    u, spikes, found = np.zeros(n), np.zeros(n), []
    for t in range(T):
        if t:
            current = rho * current + np.sqrt(1 - rho**2) * rng.standard_normal(n)
        u = beta * u * (1 - spikes) + 0.5 * gamma * current
        spikes = (u >= 0.5).astype(float)
        found.append(u)
    return np.array(found)


def test_potentials(monkeypatch):
    monkeypatch.setattr(paper, "BATCHES", 1)
    for name, flow in zip(paper.SETTINGS, paper.potential_records(), strict=True):
        rho, gamma = paper.SETTINGS[name]
        for beta, layer in zip(paper.DECAYS, flow["layers"], strict=True):
            u = simulated(beta, rho, gamma, paper.T, 100_000)
            half = np.sqrt(1 + beta**2) / 2
            assert layer["u_std"] == pytest.approx((u / 0.5).std(), rel=0.02)
            assert layer["coverage"] == pytest.approx((np.abs(u - 0.5) < half).mean(), abs=0.01)


def test_figures_without_training_are_drawn_by_a_command(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from lsgcli.cli.app import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lsgcli.report.drawing.SUFFIXES", (".svg",))
    monkeypatch.setattr(paper, "BATCHES", 1)
    monkeypatch.setattr(paper, "SAMPLES", 10)
    for name, words in (("figure-1", "rectangular"), ("figure-3", "rho = 0.5")):
        done = CliRunner().invoke(app, ["reproduce", name, "--out", "made"])
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"made/{name}.svg\n"
        assert words in (tmp_path / "made" / f"{name}.svg").read_text()
        done = CliRunner().invoke(app, ["reproduce", name, "--out", "made", "--json"])
        assert json.loads(done.stdout) == {"figure": name, "files": [f"made/{name}.svg"]}
