"""The notebooks of the documentation run, and were stored with their output."""

from pathlib import Path

import pytest

from docs import generate

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the packages of Jupyter
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
    if path.stem == "spikingjelly":
        pytest.importorskip("spikingjelly")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, 4)
    shown = [bool(cell.get("outputs")) for cell in notebook.cells]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert [bool(cell.get("outputs")) for cell in notebook.cells] == shown
    assert any(shown)


def test_a_repository_adds_a_badge_and_a_cell_once(tmp_path):
    for path in NOTEBOOKS:
        text = generate.in_colab(path, "https://github.com/someone/lsg")
        assert f"{generate.COLAB}/github/someone/lsg/blob/main/docs/notebooks/{path.name}" in text
        assert text.count("!git clone --quiet --depth 1 https://github.com/someone/lsg lsg") == 1
        again = tmp_path / path.name
        again.write_text(text, encoding="utf-8")
        assert generate.in_colab(again, "https://github.com/someone/lsg") == text
