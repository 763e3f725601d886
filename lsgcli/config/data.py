"""Settings of the data set."""

import re
from dataclasses import dataclass
from pathlib import Path

from lsgcli.config.fields import LARGEST_SEED, Applies, Settings, having, setting, when

SENSOR = 1 << 16  # events have coordinates of 16 bits


def _fold(text: str) -> str | None:
    match = re.fullmatch(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", text)
    fits = match and 1 <= int(match[1]) <= int(match[2]) >= 2
    return None if fits else "I/K, fold I of K, such as 1/5"


def _sensor(text: str) -> str | None:
    fits = re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text) and max(map(int, text.split("x"))) <= SENSOR
    return None if fits else f"WIDTHxHEIGHT in pixels, such as 128x128, at most {SENSOR} each"


FROM_FILES = having("dataset", "embedded", "a --dataset read from files, such as event-folder or image-folder", wanted=False)
RECORDINGS = having("dataset", "static", "a --dataset of recordings", wanted=False)
WINDOW = RECORDINGS & when("slicing", "window")
MIXED = Applies("--mixup or --cutmix", lambda config: config.mixup > 0 or config.cutmix > 0)


@dataclass(frozen=True)
class DataConfig(Settings):
    """Data set, and its conversion to the input of the network."""

    dataset: str = setting("digits-dvs", "Data set.", kind="dataset")
    data_dir: str | None = setting(
        None, "Directory of the data set, for reading and downloading. Default: data/.", path="folder", applies=FROM_FILES
    )
    T: int = setting(4, "Timesteps.", at_least=1, at_most=1024, preset=True)
    size: int = setting(48, "Height and width of the network's input, in pixels.", at_least=1, at_most=4096, preset=True)
    slicing: str = setting(
        "count",
        "Slicing of a recording into T frames: equal event count, equal duration, or windows of --window-us.",
        choices="count time window",
        preset=True,
        applies=RECORDINGS,
    )
    window_us: int = setting(5000, "Window length in microseconds.", at_least=1, at_most=1 << 40, preset=True, applies=WINDOW)
    window_start: str = setting(
        "first",
        "Position of the windows in a recording; random is drawn once per recording, seeded by its name.",
        choices="first middle random",
        applies=WINDOW,
    )
    resize: str = setting(
        "bilinear",
        "Resizing of event frames to --size: bilinear with or without antialiasing, nearest neighbour, binning of event "
        "coordinates, or centre crop or padding.",
        choices="bilinear bilinear-aliased nearest bin centre",
        preset=True,
        applies=RECORDINGS,
    )
    value: str = setting(
        "count",
        "Pixel values of a frame: event count, 0 or 1 (binary), or log(1 + count).",
        choices="count binary log1p",
        preset=True,
        applies=RECORDINGS,
    )
    normalise: str = setting(
        "none",
        "Divide event frames by their own maximum (frame) or by the maximum of all frames of the sample.",
        choices="none frame sample",
        preset=True,
        applies=RECORDINGS,
    )
    orientation: str = setting(
        "upright",
        "Orientation of frames relative to the data set's default: mirrored flips horizontally, rotated-90 is clockwise.",
        choices="upright mirrored upside-down rotated-90 rotated-180 rotated-270 transposed anti-transposed",
        applies=RECORDINGS,
    )
    sensor: str | None = setting(
        None,
        "Sensor size of an event-folder, as WIDTHxHEIGHT. Default: as the recordings state it.",
        check=_sensor,
        applies=having("dataset", "takes_sensor", "a --dataset of unknown sensor size: event-folder"),
    )
    split: str | None = setting(
        None,
        "Test split of a data set without a published split, per class: file numbers 900-999 (last) or 0-99 (first), the last "
        "tenth in alphabetical order (lexicographic), or a random tenth drawn with --split-seed (stratified).",
        choices="last first lexicographic stratified",
        preset=True,
        applies=Applies("no --fold", lambda config: config.fold is None),
    )
    fold: str | None = setting(
        None,
        "Cross-validation on a data set without a published split, instead of --split: fold I of K, given as I/K, is the test part. Folds "
        "have equal shares of each class, and depend on nothing but the files and K.",
        check=_fold,
    )
    skip_bad: bool = setting(False, "Skip recordings and images that cannot be read, and list them.", applies=FROM_FILES)
    augment: str = setting(
        "none",
        "Augmentations of the training data, comma-separated, or none.",
        kind="augmentation",
        several=True,
        preset=True,
    )
    mixup: float = setting(
        0.0,
        "Mixup: average pairs of training samples and their labels, with a weight from Beta(a, a) per batch, where a is this value; "
        "0 disables it.",
        at_least=0.0,
        at_most=100.0,
    )
    cutmix: float = setting(
        0.0,
        "CutMix: replace a box of each training sample by that of another one, with a relative area from Beta(a, a) per batch; 0 "
        "disables it. With --mixup as well, each batch uses one of the two, with equal probability.",
        at_least=0.0,
        at_most=100.0,
    )
    mix_prob: float = setting(
        1.0, "Probability that a batch is mixed by --mixup or --cutmix.", above=0.0, at_most=1.0, applies=MIXED
    )
    mix_until: int | None = setting(
        None, "Number of epochs with --mixup and --cutmix. Default: all.", at_least=1, at_most=1_000_000, applies=MIXED
    )
    val_fraction: float = setting(
        0.1,
        "Fraction of the training set held out, per class, as validation split, which selects the best epoch.",
        at_least=0.0,
        below=1.0,
        preset=True,
    )
    split_seed: int = setting(
        0,
        "Seed of the validation split and of --split stratified; independent of --seed, so that all seeds use the same split.",
        at_least=0,
        at_most=LARGEST_SEED,
        applies=Applies(
            "--split stratified or a --val-fraction above 0", lambda c: c.split == "stratified" or c.val_fraction > 0
        ),
    )

    @property
    def split_rule(self) -> str | None:
        """``fold``, or ``split``: what :func:`lsgcli.data.splits.assign` takes."""
        return self.fold or self.split

    @property
    def data_folder(self) -> Path:
        """``--data-dir``, or ``data`` in the working directory."""
        return Path(self.data_dir or "data")
