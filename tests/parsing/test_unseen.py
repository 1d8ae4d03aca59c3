"""What can't be seen is known by name, and the lists that say so are clean."""

import pytest
import yaml

from parsing.unseen import DATA, Unseen


@pytest.fixture(scope="module")
def unseen():
    return Unseen.load()


@pytest.mark.parametrize(
    "name", ["week", "summer day", "ideas", "film festival", "world cup", "olympics", "sadness"]
)
def test_times_events_ideas_and_feelings_cannot_be_seen(unseen, name):
    assert unseen.is_name(name.split())


@pytest.mark.parametrize("name", ["cup", "festival tent", "summer dress", "lionesses", "wall", ""])
def test_things_are_seen_also_where_their_name_begins_with_a_time_or_an_event(unseen, name):
    assert not unseen.is_name(name.split())


def test_the_lists_are_lower_case_and_without_repetition(unseen):
    lists = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    opinions, _ = lists.pop("opinions"), lists.pop("endings")
    names = [word for words in lists.values() for word in words]
    for words in (names, opinions):
        assert len(set(words)) == len(words)
        assert all(isinstance(word, str) and word == word.lower() for word in words)
    assert all(unseen.is_name(name.split()) for name in unseen.things)


def test_exceptions_are_exceptions():
    """A word among them without such an ending would do nothing."""
    lists = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    assert all(word.endswith(tuple(lists["endings"])) for word in lists["endings_of_things"])
