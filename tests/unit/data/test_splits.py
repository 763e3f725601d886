import numpy as np
import pytest

from lsgcli.data.datasets.base import Sample
from lsgcli.data.splits import RULES, assign, divide
from lsgcli.errors import DataError, MissingPart


def items(classes=3, count=1000):
    return [Sample(f"c{label}/{n}", label, "", None) for label in range(classes) for n in range(count)]


def held_back(found):
    return [{int(one.key.split("/")[1]) for one in found if one.split == "test" and one.label == label} for label in range(3)]


def test_rules_by_number():
    listed = items()
    assert all(numbers == set(range(900, 1000)) for numbers in held_back(assign(listed, "last", 0)))
    assert all(numbers == set(range(100)) for numbers in held_back(assign(listed, "first", 0)))


def test_the_lexicographic_rule_tests_91_to_99_and_909_to_999():
    listed = items()
    expected = {*range(91, 100), *range(909, 1000)}
    assert all(numbers == expected for numbers in held_back(assign(listed, "lexicographic", 0)))


def test_stratified_is_a_tenth_of_each_class_and_goes_by_the_seed():
    listed = items(count=60)
    zero, again, one = (assign(listed, "stratified", seed) for seed in (0, 0, 1))
    assert zero == again != one
    assert all(len(numbers) == 6 for numbers in held_back(zero))


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_listing_does_not_matter(rule):
    listed = items(count=50)
    assert set(assign(listed, rule, 3)) == set(assign(listed[::-1], rule, 3))


@pytest.mark.parametrize("rule", ["last", "first", "lexicographic"])
def test_a_file_without_a_number(rule):
    with pytest.raises(DataError, match=r"cup/left: found no number in its name"):
        assign([Sample("cup/left", 0, "", None)], rule, 0)
    two = assign([Sample("cup/left", 0, "", None), Sample("cup/right", 0, "", None)], "stratified", 0)
    assert sorted(one.split for one in two) == ["test", "train"]


@pytest.mark.parametrize(("counts", "folds"), [((20,) * 10, 5), ((7, 50, 3, 41), 5), ((9, 8, 10), 10), ((2, 3), 2)])
def test_folds_are_the_test_part_once_and_have_equal_shares(counts, folds):
    """Counts are those of scikit-learn's StratifiedKFold: class k has its number among every K-th of the sorted labels."""
    listed = [Sample(f"c{label}/{n}", label, "", None) for label, count in enumerate(counts) for n in range(count)]
    y, tested = np.repeat(np.arange(len(counts)), counts), []
    for fold in range(1, folds + 1):
        found = assign(listed, f"{fold}/{folds}", 0)
        assert found == assign(listed, f"{fold}/{folds}", 1)  # whatever the seed
        assert sorted(found, key=str) == sorted(assign(listed[::-1], f"{fold}/{folds}", 0), key=str)
        tested += [one.key for one in found if one.split == "test"]
        labels = [one.label for one in found if one.split == "test"]
        expected = np.bincount(y[fold - 1 :: folds], minlength=len(counts))
        assert np.abs(np.bincount(labels, minlength=len(counts)) - expected).max() <= 1
        assert abs(len(labels) - len(y) / folds) < 1
    assert sorted(tested) == sorted(one.key for one in listed)


@pytest.mark.parametrize(
    ("cup", "pen", "part", "told"),
    [
        (range(4), range(3), "test", "no recordings of cup, pen for the test part"),
        (range(900, 903), range(900, 903), "train", "no recordings of cup, pen for the train part"),
        (range(4), range(900, 903), "train", "no recordings of pen for the train part"),
        ([0, 900], range(3), None, "no recordings of pen for the test part"),
    ],
)
def test_a_part_that_lacks_a_class(caplog, tmp_path, cup, pen, part, told):
    """An error in the training part, a warning in the test part unless nothing is left of it."""
    listed = [
        Sample(f"{name}/{n}", k, "", None) for k, (name, numbers) in enumerate((("cup", cup), ("pen", pen))) for n in numbers
    ]
    arguments = tmp_path, ("cup", "pen"), listed, ("train", "test"), "last", 0
    if part is None:
        assert [sample.key for sample in divide(*arguments) if sample.split == "test"] == ["cup/900"]
        assert told in caplog.text
        assert "stratified" in caplog.text
        return
    with pytest.raises(MissingPart, match=f"{tmp_path}: found {told}") as caught:
        divide(*arguments)
    assert caught.value.part == part
    assert "--split stratified" in caught.value.hint
