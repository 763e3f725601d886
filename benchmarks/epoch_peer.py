"""N-MNIST trained and evaluated with spikingjelly alone, as its users write it; ``benchmarks.epoch`` runs this beside ``lsg train``.

    python -m benchmarks.epoch_peer ROOT --prepare DATA    # DATA contains Train/<digit>/*.bin and Test/<digit>/*.bin
    python -m benchmarks.epoch_peer ROOT --best

Events, frames and their files are those of spikingjelly's own data set; torch's DataLoader reads them in processes that stay between
epochs. Prints a line of JSON per epoch.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.bench.peers import VGGSNN, SpikingJelly

# Imported only for spikingjelly's data set of speech, see benchmarks.bench.peers.
sys.modules.setdefault("torchaudio", ModuleType("torchaudio"))

from spikingjelly.datasets.n_mnist import NMNIST  # noqa: E402

T, SIZE = 10, 32


def centre(frames: Any) -> Tensor:
    """The middle of frames (T, 2, 34, 34): (T, 2, 32, 32)."""
    return torch.from_numpy(frames[..., 1:-1, 1:-1])


def frames(root: Path, train: bool) -> NMNIST:
    """Frames of equal numbers of events, made by spikingjelly where they are missing."""
    return NMNIST(str(root), train=train, data_type="frame", frames_number=T, split_by="number", transform=centre)


def prepare(root: Path, data: Path) -> None:
    """Convert the recordings of an unpacked download, then make frames."""
    raw = root / "events_np"  # as spikingjelly names it
    raw.mkdir(parents=True)
    NMNIST.create_raw_from_extracted(data, raw)
    frames(root, train=True)


def train(options: argparse.Namespace) -> None:
    """All epochs, each followed by an evaluation and a checkpoint."""
    loaders = [
        DataLoader(
            frames(options.root, train=part),
            batch_size=options.batch,
            shuffle=part,
            drop_last=part,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        for part in (True, False)
    ]
    kit = SpikingJelly(best=options.best)
    network = VGGSNN(kit, T, SIZE, options.width)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    for epoch in range(options.epochs):
        begin, total, count = time.perf_counter(), 0.0, 0
        network.train()
        for x, labels in loaders[0]:
            with precision(options.best):
                logits = network(x.transpose(0, 1))
            loss = F.cross_entropy(logits.float().mean(0), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            kit.forget(network)
            total, count = total + loss.item() * len(labels), count + len(labels)
        schedule.step()
        record = {
            "epoch": epoch,
            "samples": count,
            "train_loss": total / count,
            "test_accuracy": accuracy(kit, network, loaders[1]),
        }
        torch.save(network.state_dict(), options.root / f"{'best' if options.best else 'plain'}.pt")
        print(json.dumps({**record, "seconds": time.perf_counter() - begin}), flush=True)


@torch.inference_mode()
def accuracy(kit: SpikingJelly, network: VGGSNN, loader: DataLoader[Any]) -> float:
    """Share of right predictions."""
    deployed: nn.Module = kit.deploy(network)
    right = count = 0
    for x, labels in loader:
        with precision(kit.best):
            logits = deployed(x.transpose(0, 1))
        kit.forget(deployed)
        right, count = right + int((logits.float().mean(0).argmax(1) == labels).sum()), count + len(labels)
    return right / count


def precision(best: bool) -> Any:
    """Context of a forward pass: bf16 where that is faster."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if best else nullcontext()


def main() -> None:
    """Prepare or train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of spikingjelly's files")
    parser.add_argument("--prepare", type=Path, metavar="DATA", help="make frames of these recordings, and stop")
    parser.add_argument("--best", action="store_true", help="bf16, and what makes it fastest in benchmarks.bench.peers")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="processes that read frames")
    options = parser.parse_args()
    if options.best:
        from lsgcli.system.memory import keep_large_buffers

        keep_large_buffers()
    if options.prepare:
        prepare(options.root, options.prepare)
    else:
        train(options)


if __name__ == "__main__":
    main()
