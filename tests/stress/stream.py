"""Stream looped recordings into `lsg predict --stream`, and watch its memory: `python -m tests.stress.stream CKPT RECORDING`.

The recording (AEDAT 2.0) is written over and over, with times that go on, in pieces and with pauses, for --minutes. Prints JSON:
lines, resident memory in MiB by quarter of the run, and the latency that the command reports. Ends with status 1 where memory
in the last quarter is over 5 % above that of the second, or where the process does not end with status 0.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np


def resident(pid: int) -> float:
    """MiB that the process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1.0, help="recorded seconds a second")
    options = parser.parse_args()
    content = options.recording.read_bytes()
    start = 0
    while content[start : start + 1] == b"#":
        start = content.index(b"\n", start) + 1
    words = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).astype(np.uint32)
    span = int(words[-1, 1] - words[0, 1]) + 1

    command = [sys.executable, "-m", "lsgcli", "predict", options.checkpoint, "-", "--stream", "-v"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    lines = 0

    def count() -> None:
        nonlocal lines
        for _ in process.stdout or ():
            lines += 1

    reader = threading.Thread(target=count)
    reader.start()
    process.stdin.write(content[:start])
    memory, began, loop = [], time.monotonic(), 0
    while time.monotonic() - began < 60 * options.minutes:
        words[:, 1] += span
        for piece in np.array_split(words, 8):
            process.stdin.write(piece.astype(">u4").tobytes())
            process.stdin.flush()
            due = began + (loop + 1) * span / 8e6 / options.rate
            time.sleep(max(0.0, due - time.monotonic()))
            loop += 1
        if lines:
            memory.append(resident(process.pid))
    process.stdin.close()
    told = process.stderr.read().decode()
    reader.join()
    status = process.wait()
    quarters = [statistics.mean(part) for part in np.array_split(memory, 4)]
    latency = re.search(r"latency.*", told)
    record = {
        "minutes": options.minutes,
        "status": status,
        "lines": lines,
        "events": loop * len(words) // 8,
        "rss_mib_by_quarter": [round(value, 1) for value in quarters],
        "rss_mib_most": round(max(memory), 1),
        "latency": latency[0] if latency else None,
    }
    print(json.dumps(record, indent=1))
    return int(status != 0 or quarters[-1] > 1.05 * quarters[1])


if __name__ == "__main__":
    sys.exit(main())
