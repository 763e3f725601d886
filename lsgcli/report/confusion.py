"""Confusion matrices as drawings, and the pairs of classes that are confused most."""

from collections.abc import Sequence

from lsgcli.report.drawing import ADVANCE, BLUE, HEAD, ROW, SIZE, Cell, Drawing, bars, box, grid, shortened, text

Counts = Sequence[Sequence[int]]  # rows are labels, columns predictions
NAMED = 30  # classes up to which cells have names and counts
WIDE = 34  # pixels of a cell with a count
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
    longest = max(len(str(n)) for row in confusion for n in row)
    width = max(WIDE, round(ADVANCE * SIZE * longest) + 8)
    rows = []
    for name, counts in zip(classes, confusion, strict=True):
        row, total = [], sum(counts)
        for prediction, n in zip(classes, counts, strict=True):
            tip = f"label {name}, prediction {prediction}: {n} of {total}"
            row.append(Cell(BLUE, str(n), tip, _opacity(n / total)) if n else Cell("shade", "", tip))
        rows.append(row)
    marks, left = grid(classes, [shortened(name, width, SIZE) for name in classes], rows, width)
    marks.append(text((left - 6, HEAD - 5), "label", size=SIZE, anchor="end"))
    marks.append(text((left, HEAD - 20), "prediction", size=SIZE))
    return Drawing(left + len(classes) * width + 4, HEAD + len(classes) * ROW + 4, marks, label)


def _opacity(share: float) -> float:
    """From nearly transparent, so that a single sample differs from none, to opaque."""
    return 0.25 + 0.75 * share


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
    marks += [bars(cells, size, BLUE, _opacity(level / (LEVELS - 1))) for level, cells in sorted(runs.items())]
    return Drawing(left + SIDE + 4, HEAD + SIDE + 4, marks, label)
