"""The failures and healthy scripts of experiment E10, and how they are written for a run."""

import hashlib
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
FOLDERS = ("second", "third", "fourth", "fifth", "sixth")  # of parts below a library's; all other scripts are of the first two
PARTS = ("tuning", "test", *FOLDERS, "sixth-tuning")
CELL = re.compile(r"^# %% (\w+/\S+\.(?:py|txt))\n", re.MULTILINE)


@cache
def scripts() -> dict[str, str]:
    """Path -> text of all healthy scripts, which are cells of the files in ``scripts``: one for each library and part."""
    found: dict[str, str] = {}
    for file in sorted(SCRIPTS.iterdir()):
        _, *cells = CELL.split(file.read_text(encoding="utf-8"))
        found |= zip(cells[::2], cells[1::2], strict=True)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Case:
    """A healthy script, or with edits a failure.

    Attributes:
        name: of the failure, such as snntorch-01; of a healthy script, its path.
        script: path of a healthy script; a ``.txt`` has options of ``lsg train``.
        fault: what the edits break.
        source: where somebody had this failure.
        causes: what may be named as its cause.
        edits: pairs of a text that is once in the script, and its replacement.
    """

    name: str
    script: str
    fault: str = ""
    source: str = ""
    causes: tuple[str, ...] = ()
    edits: list[list[str]] = field(default_factory=list)

    @property
    def part(self) -> str:
        """Of the benchmark: by its folder, or tuning or test, by the name alone; the sixth has a part for tuning, too."""
        folder = self.script.split("/")[1]
        digest = hashlib.sha256(self.name.encode()).hexdigest()
        tunes = int(digest[:8], 16) % 10 < 4
        if folder in FOLDERS:
            return "sixth-tuning" if folder == "sixth" and tunes else folder
        return "tuning" if tunes else "test"

    @property
    def library(self) -> str:
        return self.script.split("/")[0]

    @property
    def settings(self) -> bool:
        """Whether the script is options of ``lsg train``."""
        return self.script.endswith(".txt")

    def text(self) -> str:
        """The script with its edits.

        Raises:
            ValueError: an edit's text is not exactly once in the script.
        """
        text = scripts()[self.script]
        for old, new in self.edits:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} is {text.count(old)} times in {self.script}, expected once")
            text = text.replace(old, new)
        return text

    def changed_settings(self) -> set[str]:
        """Names of the settings of ``lsg train`` that differ from the healthy ones."""
        if not self.settings:
            return set()
        healthy, changed = scripts()[self.script].split(), self.text().split()
        before, after = (dict(zip(words[::2], words[1::2], strict=True)) for words in (healthy, changed))
        return {option[2:].replace("-", "_") for option, value in after.items() if before.get(option) != value}

    def edited_lines(self) -> set[int]:
        """Numbers of the lines of :meth:`text` that differ from the healthy script, and of the one after a removed line."""
        import difflib

        healthy = scripts()[self.script].splitlines()
        lines: set[int] = set()
        for tag, _, _, start, end in difflib.SequenceMatcher(
            None, healthy, self.text().splitlines(), autojunk=False
        ).get_opcodes():
            if tag != "equal":
                lines.update(range(start + 1, max(end, start + 1) + 1))
        return lines


def failures() -> list[Case]:
    """All failures, by library and number."""
    found = []
    for path in sorted((HERE / "failures").glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found.append(Case(name, **{**entry, "causes": tuple(entry["causes"])}))
    return found


def healthy() -> list[Case]:
    """All healthy scripts."""
    return [Case(path, path) for path in scripts()]
