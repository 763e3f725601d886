"""Randomness without state: every number is a pure function of (seed, epoch, sample).

The order and augmentation of samples therefore do not depend on the number of workers, the batch at which a run is resumed or the
machine, and require no stored state. The mixing function is the finaliser of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd


def _mix(z: np.ndarray) -> np.ndarray:
    """The 64-bit bijection of SplitMix64, elementwise."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def ids(keys: Sequence[str]) -> np.ndarray:
    """(N,) uint64: one number per key, equal on all machines."""
    return np.array([_digest(key) for key in keys], dtype=np.uint64)


def _states(seed: int, epoch: int, ids: np.ndarray, stream: str) -> np.ndarray:
    """(N,) uint64: a state per sample, from a digest of seed and stream."""
    common = np.array([_digest(f"{stream}:{seed}:{epoch}")], dtype=np.uint64)
    return _mix(_mix(common) ^ ids)


def uniforms(seed: int, epoch: int, ids: np.ndarray, n: int, stream: str) -> np.ndarray:
    """(N, n) float64 in [0, 1): n numbers per sample, from the random stream ``stream``."""
    steps = np.arange(1, n + 1, dtype=np.uint64) * _GAMMA
    bits = _mix(_states(seed, epoch, ids, stream)[:, None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def window(key: str) -> float:
    """Position in [0, 1) of the windows of ``--window-start random`` in the recording with this key."""
    return float(uniforms(0, 0, ids([key]), 1, "window")[0, 0])


def generator(seed: int, epoch: int, sample: np.uint64, stream: str) -> np.random.Generator:
    """A generator for one sample that requires an unknown number of random numbers."""
    return np.random.Generator(np.random.PCG64(int(_states(seed, epoch, np.array([sample]), stream)[0])))


def numbers(seed: int, epoch: int, ids: np.ndarray) -> np.ndarray:
    """(N,) int64: one random number per sample, from which the layers of a network derive theirs."""
    return _states(seed, epoch, ids, "layers").view(np.int64)


def order(seed: int, epoch: int, ids: np.ndarray) -> np.ndarray:
    """(N,) int64: a permutation, different for each epoch."""
    return np.argsort(_states(seed, epoch, ids, "order"), kind="stable")
