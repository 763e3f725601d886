"""Confusion matrices as drawings, and the pairs of classes that are confused most."""

from collections.abc import Sequence

from lsgcli.report.colours import SEQUENTIAL, ink_on, ramp
from lsgcli.report.drawing import ADVANCE, Drawing, Mark, bars, box, group, shortened, text

Counts = Sequence[Sequence[int]]  # rows are labels, columns predictions
NAMED, SIZE = 30, 11  # classes up to which cells have names and counts; size of their text, pixels
NAMES, HEAD = 130, 34  # maximum width of names, and height of the title of the columns, pixels
WIDE, ROW = 34, 22  # of a cell with a count
SIDE = 600  # of a matrix without names
LEVELS = 16  # colours of a matrix without names
PAIRS = 10  # shown


def drawing(confusion: Counts, classes: Sequence[str]) -> Drawing:
    """The matrix, coloured by the fraction of each label's samples; cells without samples are empty.

    Args:
        confusion: (classes, classes) counts; rows are labels, columns predictions.
    """
    samples, right = sum(map(sum, confusion)), sum(row[k] for k, row in enumerate(confusion))
    label = f"Confusion matrix of {len(classes)} classes: {right} of {samples} samples on the diagonal"
    return _named(confusion, classes, label) if len(classes) <= NAMED else _dense(confusion, label)


def pairs(confusion: Counts, classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Label, prediction, count, and the label's number of samples, of the pairs that are confused most."""
    wrong = [(n, i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n and i != j]
    most = sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))[:PAIRS]
    return [(classes[i], classes[j], n, sum(confusion[i])) for n, i, j in most]


def _named(confusion: Counts, classes: Sequence[str], label: str) -> Drawing:
    names = [shortened(name, NAMES, SIZE) for name in classes]
    wide = max(WIDE, *(round(ADVANCE * SIZE * len(str(n))) + 8 for row in confusion for n in row))
    left = 14 + ADVANCE * SIZE * max(len(name) for name in ("label", *names))
    marks = [text((left - 6, HEAD - 5), "label", size=SIZE, anchor="end"), text((left, 11), "prediction", size=SIZE)]
    for j, name in enumerate(names):
        marks.append(text((left + (j + 0.5) * wide, HEAD - 5), shortened(name, wide, SIZE), "ink", SIZE, "middle"))
    for i, (name, row) in enumerate(zip(names, confusion, strict=True)):
        top = HEAD + i * ROW
        marks.append(text((left - 6, top + ROW - 7), name, "ink", SIZE, "end"))
        for j, n in enumerate(row):
            at = left + j * wide, top
            tip = f"label {classes[i]}, prediction {classes[j]}: {n} of {sum(row)}"
            marks.append(group(_cell(n, n / max(1, sum(row)), wide), tip, at=at))
    return Drawing(left + len(classes) * wide + 4, HEAD + len(classes) * ROW + 4, marks, label)


def _cell(n: int, share: float, wide: float) -> list[Mark]:
    if not n:
        return [box((0, 0), wide - 1, ROW - 1, "shade")]
    colour = ramp(SEQUENTIAL, share)
    return [box((0, 0), wide - 1, ROW - 1, colour), text(((wide - 1) / 2, ROW - 7), str(n), ink_on(colour), SIZE, "middle")]


def _dense(confusion: Counts, label: str) -> Drawing:
    """Cells without counts: one mark for each colour, because there may be a million cells."""
    left, size = 20, SIDE / len(confusion)
    runs: dict[int, list[tuple[float, float, float]]] = {}
    for i, row in enumerate(confusion):
        total = sum(row)
        for j, n in enumerate(row):
            if n:
                run = left + j * size, HEAD + (i + 0.5) * size, size
                runs.setdefault(round((LEVELS - 1) * n / total), []).append(run)
    marks = [text((left, 11), "prediction, from the first class", size=SIZE), text((left, 26), "rows: label", size=SIZE)]
    marks.append(box((left, HEAD), SIDE, SIDE, "shade"))
    marks += [bars(cells, size, ramp(SEQUENTIAL, level / (LEVELS - 1))) for level, cells in sorted(runs.items())]
    return Drawing(left + SIDE + 4, HEAD + SIDE + 4, marks, label)
