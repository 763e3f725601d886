"""Trained checkpoints in other simulators: `python -m tests.stress.nir_readers CKPT... --samples 100`, some minutes.

Each is exported to NIR and run by snntorch, norse and spikingjelly on test samples, in batches, beside the folded network. Prints a
table, and ends with status 1 if more differs than what `lsg export --verify` lets pass.
"""

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lsgcli.cli.common import open_data
from lsgcli.data.batches import batches
from lsgcli.data.bundle import spread
from lsgcli.export import chosen, read
from lsgcli.export.nir import NIR
from lsgcli.export.verify import SPIKES_PER_TIE, compare
from tests.nir_readers import READERS

HEAD = """| checkpoint | reader | samples | spikes compared | differ | ties | after ties | all of these, by layer | predictions differ | accuracy |
|---|---|---|---|---|---|---|---|---|---|"""


def row(checkpoint: str, reader: str, result: dict[str, Any]) -> str:
    """A comparison as a row of the table."""
    layers = [f"{layer} {sum(kinds.values())}" for layer, kinds in result["per_layer"].items() if any(kinds.values())]
    cells = [checkpoint, reader, result["samples"], f"{result['spikes_compared']:,}", result["spikes_different"]]
    predictions = result["predictions_different"] + result["predictions_after_ties"]
    cells += [result["ties"], result["after_ties"], ", ".join(layers) or "none", predictions]
    return "| " + " | ".join(str(cell) for cell in [*cells, f"{result['accuracy']:.3f}"]) + " |"


def main() -> int:
    """Run every checkpoint in every simulator, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--data-dir", help="folder of the data, where it is not the default")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    options = parser.parse_args()
    failed = 0

    print(HEAD)
    for path in options.checkpoints:
        exporting = chosen("nir")
        found = read(path, "nir", exporting)
        changes = {"data_dir": options.data_dir, "device": "cpu"}
        _, bundle, _ = open_data(found.content.config, changes, ("test",), True)
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "net.nir"
            NIR().write(found.written, found.content, graph, exporting)
            for name in options.readers:
                samples = batches(bundle, spread(bundle.test, options.samples), options.batch_size)
                result = compare(found.written, READERS[name](graph), samples)
                print(row(path.stem, f"{name} {version(name)}", result), flush=True)
                bad = result["spikes_different"] or result["predictions_different"]
                failed += bool(bad or result["ties"] * SPIKES_PER_TIE > result["spikes_compared"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
