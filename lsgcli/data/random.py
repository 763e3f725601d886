"""Randomness without state: every number is a pure function of (seed, epoch, sample).

So the order of the samples and their augmentation are the same for any number of workers, any batch at which a run is
resumed and any machine, and nothing about them has to be stored. The mixer is SplitMix64's finaliser (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's bijection of 64 bits, elementwise."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def ids(keys: Sequence[str]) -> np.ndarray:
    """(N,) uint64: one number per key, the same everywhere."""
    return np.array([_digest(key) for key in keys], dtype=np.uint64)


def _states(seed: int, epoch: int, ids: np.ndarray, stream: str) -> np.ndarray:
    """(N,) uint64: a state per sample. The text keeps seeds of any size and streams of any name apart."""
    common = np.array([_digest(f"{stream}:{seed}:{epoch}")], dtype=np.uint64)
    return _mix(_mix(common) ^ ids)


def uniforms(seed: int, epoch: int, ids: np.ndarray, n: int, stream: str) -> np.ndarray:
    """(N, n) float64 in [0, 1): n numbers per sample, for the use called ``stream``."""
    steps = np.arange(1, n + 1, dtype=np.uint64) * _GAMMA
    bits = _mix(_states(seed, epoch, ids, stream)[:, None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def window(key: str) -> float:
    """Where, from 0 to below 1, the windows of ``--window-start random`` begin in the recording of this key."""
    return float(uniforms(0, 0, ids([key]), 1, "window")[0, 0])


def generator(seed: int, epoch: int, sample: np.uint64, stream: str) -> np.random.Generator:
    """A generator of one sample's own, where it needs more numbers than can be said beforehand."""
    return np.random.Generator(np.random.PCG64(int(_states(seed, epoch, np.array([sample]), stream)[0])))


def order(seed: int, epoch: int, ids: np.ndarray) -> np.ndarray:
    """(N,) int64: a permutation, drawn anew for every epoch."""
    return np.argsort(_states(seed, epoch, ids, "order"), kind="stable")
