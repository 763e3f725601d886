"""Rows of `lsg predict`: streams, and thousands of files."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, row
from lsgcli.inference import predict as prediction
from tests import networks
from tests.unit.data.conftest import HEADER, aedat2_bytes, blob

SLICE = 10  # events per timestep
EVENTS = blob(0, count=400)
WARM, MOST = 40, 400  # timesteps of an endless stream: from which memory must be flat, and at least
GROWTH = 0.05


def opened(folder: Path) -> prediction.Network:
    """A small network of recordings. It computes once here, so that forked processes have all of torch that they need."""
    network = prediction.Network.open(networks.saved(folder / "net.safetensors", medians=(4 * SLICE, 1), backend="reference"))
    (folder / "first.aedat").write_bytes(aedat2_bytes(EVENTS[: 4 * SLICE]))
    list(prediction.predict(network, [folder / "first.aedat"]))
    return network


class Stream:
    """`lsg predict --stream` of a pipe, and what was written to it."""

    def __init__(self, network: prediction.Network, at: Path):
        reader, self.writer = os.pipe()
        os.set_inheritable(self.writer, False)

        def use_network() -> None:
            os.close(self.writer)
            prediction.Network.open = lambda *args, **named: network  # type: ignore[method-assign]

        words = ["predict", str(at.parent / "net.safetensors"), "-", "--stream"]
        self.command = Command(words, at, before=use_network, stdin=reader).start()
        os.close(reader)

    def write(self, content: bytes) -> None:
        os.write(self.writer, content)

    def lines(self) -> list[str]:
        path = self.command.at / "stdout"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def wait_for(self, count: int, seconds: float = 60) -> bool:
        """Wait for a number of lines; false if they do not come."""
        until = time.monotonic() + seconds
        while len(self.lines()) < count and time.monotonic() < until and self.command.poll() is None:
            time.sleep(0.02)
        return len(self.lines()) >= count

    def end(self) -> int:
        os.close(self.writer)
        return self.command.wait(60)


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@row(
    42,
    fault="a stream stalls, is cut, sends garbage, never ends",
    promise="a line for each timestep that was complete, then status 0 or 3; flat memory",
    quick=8,
    full=200,
)
def streams(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A pipe to `lsg predict --stream`: stalls within an event, and continues; is closed between or within events; sends random bytes
    after some events, or instead of all; never ends until SIGTERM. The lines must be those of the whole recording so far, those
    before a stall must come during it, and the status 3 for a damaged stream only. One endless stream in five runs for 400 timesteps,
    and its resident memory must stay within 5 % from timestep 40 on."""
    network = opened(folder)
    whole = Stream(network, folder / "whole")
    whole.write(aedat2_bytes(EVENTS))
    problem, expected = "" if whole.end() == 0 else whole.command.err, whole.lines()
    yield Case("the whole recording", problem or ("" if len(expected) == len(EVENTS) // SLICE else f"{len(expected)} lines"))
    for number in range(count - 1):
        kind = ("stalls", "is cut", "garbage", "never ends")[number % 4]
        one = Stream(network, folder / str(number))
        if kind == "never ends":
            yield Case(kind, _endless(one, MOST if number % 20 == 3 else WARM, expected))
            continue
        n = chance.randrange(len(EVENTS))
        content, complete, status = aedat2_bytes(EVENTS[:n]), n // SLICE, 0
        if kind == "stalls":
            stall = chance.randrange(len(HEADER), len(content) + 1)
            one.write(content[:stall])
            before = (stall - len(HEADER)) // 8 // SLICE
            came = one.wait_for(before)
            time.sleep(chance.uniform(0, 0.3))
            one.write(content[stall:])
            status = 0 if n else 3
            if not came:
                one.end()
                yield Case(kind, f"{len(one.lines())} of {before} lines during the stall")
                continue
        elif kind == "is cut":
            cut = chance.randrange(len(content) + 1)
            one.write(content[:cut])
            events = max(0, cut - len(HEADER)) // 8
            complete, status = events // SLICE, 0 if events and (cut - len(HEADER)) % 8 == 0 else 3
        else:
            head = content if chance.random() < 0.8 else b""
            one.write(head + b"\xff" * 4 + chance.randbytes(chance.randrange(4, 4000)))
            complete, status = complete if head else 0, 3
        one.end()
        yield Case(
            kind, one.command.ended(status, *["error: -: "] * (status == 3)) or _different(one.lines(), expected[:complete])
        )


def _endless(one: Stream, most: int, expected: list[str]) -> str:
    """The problem of a stream that is fed until SIGTERM."""
    one.write(HEADER)
    memory: list[int] = []
    span = EVENTS[-1][2] + 1
    for loop in range(10_000):
        one.write(aedat2_bytes([(x, y, t + loop * span, on) for x, y, t, on in EVENTS], header=b""))
        if not one.wait_for((loop + 1) * len(expected)):
            break
        memory.append(resident(one.command.pid))
        if (loop + 1) * len(expected) >= most:
            break
    os.kill(one.command.pid, signal.SIGTERM)
    status = one.command.wait(60)
    one.end()
    lines = one.lines()
    if problem := one.command.ended(0) or _different(lines[: len(expected)], expected):
        return f"{problem} (status {status})"
    grown = max(memory) / memory[0] - 1
    if most > WARM and grown > GROWTH:
        return f"resident memory grew by {100 * grown:.1f} % in {len(lines)} timesteps"
    return "" if len(lines) >= most else f"{len(lines)} lines, expected {most}"


def _different(found: list[str], expected: list[str]) -> str:
    if found == expected:
        return ""
    return (
        f"{len(found)} lines, expected {len(expected)}" if len(found) != len(expected) else "other lines than of the recording"
    )


@row(
    43,
    fault="1 % damaged among 10,000 files",
    promise="a line for each other file, a message for each damaged one, status 3",
    quick=300,
    full=10_000,
)
def many_files(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each file is a case. Of small recordings, 1 % are empty, cut, or of random bytes. One process must give a line for each whole file,
    in order, and a message for each damaged one; four at once that write to one file, as `xargs -P4` starts them, must together give
    the same lines and messages, each whole."""
    network = opened(folder)

    def use_network() -> None:
        prediction.Network.open = lambda *args, **named: network  # type: ignore[method-assign]

    data = folder / "data"
    data.mkdir()
    contents = [aedat2_bytes(blob(seed, count=4 * SLICE)) for seed in range(7)]
    damaged = set(chance.sample(range(count), max(1, count // 100)))
    paths = [str(data / f"{number:05}.aedat") for number in range(count)]
    for number, path in enumerate(paths):
        content = contents[number % len(contents)]
        if number in damaged:
            content = (b"", content[: len(HEADER)], content[:-3], HEADER + b"\xff" * 64, chance.randbytes(99))[number % 5]
        Path(path).write_bytes(content)
    wanted = [path for number, path in enumerate(paths) if number not in damaged]
    broken = sorted(paths[number] for number in damaged)
    words = ["predict", str(folder / "net.safetensors")]

    once = Command([*words, str(data)], folder / "once", before=use_network).run(3600)
    answers = dict(line.split("\t", 1) for line in once.out.splitlines())
    for path in wanted:
        yield Case("whole file", "" if path in answers else f"{path}: no line")
    for path in broken:
        messages = [line for line in once.err.splitlines() if line.startswith(f"error: {path}: ")]
        yield Case(
            "damaged file", "" if len(messages) == 1 and path not in answers else f"{path}: {messages}, {answers.get(path)}"
        )
    in_order = list(answers) == wanted and len(once.out.splitlines()) == len(wanted)
    problem = once.ended(3) or ("" if in_order and len(once.err.splitlines()) == len(broken) else "other lines or messages")
    yield Case("once", problem)

    shared = folder / "shared"
    four = [Command([*words, *paths[k::4]], folder / f"part {k}", before=use_network, stdout=str(shared)) for k in range(4)]
    for one in four:
        one.start()
    ends = [one.wait(3600) for one in four]
    lines = shared.read_text().splitlines()
    messages = sorted(line.split(": ")[1] for one in four for line in one.err.splitlines())
    same = sorted(lines) == sorted(once.out.splitlines())
    status = [3 if damaged & set(range(k, count, 4)) else 0 for k in range(4)]
    yield Case("four at once", "" if same and messages == broken and ends == status else f"statuses {ends}, {len(lines)} lines")
