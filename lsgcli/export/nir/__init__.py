"""NIR, the Neuromorphic Intermediate Representation: a graph for other simulators and neuromorphic toolchains.

Source: Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for interoperable brain-inspired
computing", Nature Communications 15, 2024, doi 10.1038/s41467-024-52259-9.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lsgcli.export import ExportOptions, Format, Runner, metadata
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet


@register("format", "nir")
class NIR(Format):
    """A graph of convolutions, summing pools and LIF neurons, in one HDF5 file."""

    suffix = ".nir"
    extra = "nir"
    packages = ("nir",)
    options: ClassVar[Mapping[str, Any]] = {"dt": 1e-4}  # seconds; snntorch supports no other value

    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        """Write the graph of a folded network, see :mod:`lsgcli.export.nir.graph`."""
        import nir

        from lsgcli.export.nir.graph import draw

        assert options.dt is not None
        graph = draw(network, options.dt)
        graph.metadata |= {**metadata(content), "classes": json.dumps(content.config["classes"])}
        file = io.BytesIO()
        nir.write(file, graph)
        path.write_bytes(file.getvalue())

    def open(self, path: Path) -> Runner:
        """The graph, run by a small interpreter in torch."""
        from lsgcli.export.nir.runner import GraphRunner

        return GraphRunner(path)
