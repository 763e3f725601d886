"""Facts about a run in config.json."""

from lsgcli.runs.facts import digest_of


def test_the_digest_of_crossings_says_whether_runs_choose_alike():
    one, other = {"a": [0.5, 1.0], "b": [0.25, 0.0]}, {"b": [0.25, 0.0], "a": [0.5, 1.0]}
    assert digest_of(one) == digest_of(other) != digest_of({**one, "a": [0.5, 0.9]})
    assert digest_of({}) is None
