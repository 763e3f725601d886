"""Each picture of the documentation is shown by a page, and made by code of the repository."""

import ast
from pathlib import Path

from benchmarks import plot, rates, reproduction, zeros
from docs import picture
from lsgcli import registry
from lsgcli.sweeps.paper import TABLES

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = DOCS / "images"


def of_figures():
    """What docs/figures.py draws, without importing it, which takes matplotlib."""
    for node in ast.parse((DOCS / "figures.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and node.target.id == "FIGURES":
            return {f"{key.id}.svg" for key in node.value.keys}
    raise AssertionError("docs/figures.py has no table of figures")


def of_reproduction():
    """What benchmarks.reproduction draws: by `lsg ablate --plot` and by `lsg inspect-gradients --plot`."""
    charts = ["accuracy", "loss", "coverage"]
    charts += [f"{measure}-{variant['method']}" for measure in ("alpha", "beta") for variant in TABLES["1"]]
    for name, experiment in reproduction.EXPERIMENTS.items():
        yield from (f"reproduction/{name}-{table}/{chart}.svg" for table in experiment.tables for chart in charts)
        yield from (f"reproduction/{name}-flow/{flow}.svg" for flow in registry.names("picture"))


def test_each_picture_has_a_maker_and_a_page():
    there = {path.relative_to(IMAGES).as_posix() for path in IMAGES.rglob("*") if path.is_file()}
    made = {*of_figures(), *picture.made(), *(module.IMAGE.name for module in (plot, rates, zeros))}
    assert made <= there
    assert there <= made | set(of_reproduction())
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert {name for name in there if f"images/{name}" not in text} == set()
