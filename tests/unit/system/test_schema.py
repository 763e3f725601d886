"""Records in JSON from outside: what is wrong is named, once."""

import os
from typing import Literal, NotRequired, TypedDict

import pytest

from lsgcli.analysis.measures import LAYER
from lsgcli.errors import ConfigError, DataError
from lsgcli.store import flows
from lsgcli.system import schema


class Inner(TypedDict):
    mean: NotRequired[list[float] | None]
    versions: NotRequired[dict[str, int]]
    chosen_on: NotRequired[Literal["val", "test"]]


class Record(TypedDict):
    name: str
    data: Inner


GOOD = '{"name": "a", "data": {"mean": [1, 2.5]}, "another": [{}]}'


def test_a_record_is_kept_with_what_is_not_declared():
    expected = {"name": "a", "data": {"mean": [1, 2.5]}, "another": [{}]}
    assert schema.decode(GOOD, Record, "f", DataError) == expected


def test_names_of_other_bytes_are_kept():
    """Names of folders that are not UTF-8 are lone surrogates, which JSON contains as escapes."""
    assert schema.decode(r'{"name": "\udce9", "data": {}}', Record, "f", DataError)["name"] == os.fsdecode(b"\xe9")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON: Expecting value"),
        ("[]", "found array, expected object"),
        ('{"name": "a", "data": {}, "another": ' + "[" * 40 + "]" * 40 + "}", "found more than 32 levels"),
        ('{"data": {}}', "found no name"),
        ('{"name": 9, "data": {}}', "name: found int, expected str"),
        ('{"name": "a", "data": {"mean": [1, NaN]}}', "data.mean[1]: found null, expected float"),
        ('{"name": "a", "data": {"mean": [1, 1e999]}}', "found the number inf"),
        ('{"name": "a", "data": {"versions": {"x": true}}}', "data.versions[...]: found bool, expected int"),
        ('{"name": %s, "data": {}}' % ("[" + "1," * 1000 + "1]"), "name: found array, expected str"),
        ('{"name": "a", "data": {"chosen_on": "x - at y"}}', "data.chosen_on: found 'x - at y', expected one of the values"),
        ('{"name": "a", "data": {"chosen_on": "%s"}}' % ("://" * 20_000), "data.chosen_on: found '://://"),
    ],
)
def test_what_is_wrong_is_named(text, problem):
    with pytest.raises(DataError) as caught:
        schema.decode(text, Record, "a.json", DataError)
    assert caught.value.message.startswith(f"a.json: {problem}")
    assert len(caught.value.message) < 300


def test_lines_are_numbered_and_an_incomplete_last_one_is_passed_over(tmp_path):
    file = tmp_path / "x.jsonl"
    assert schema.read_lines(file) == []
    file.write_text(f'{GOOD}\n{GOOD}\n{{"na')
    assert len(schema.read_lines(file, Record)) == 2
    file.write_text(f'{GOOD}\n{{"name": 1}}\n')
    with pytest.raises(ConfigError, match=r"x\.jsonl: line 2: "):
        schema.read_lines(file, Record)


def test_all_numbers_of_a_layer_are_typed():
    """Of those that tables format; a new measure is named in flows.MEASURED."""
    numbers = {name for name, field in LAYER.items() if field.kind == "number" and "." not in name}
    assert {*flows.LIGHT, *flows.MEASURED} == numbers
