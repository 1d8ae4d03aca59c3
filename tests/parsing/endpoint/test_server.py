"""The address of a server: completed, or refused in a sentence."""

import pytest

from common.errors import UserError
from parsing.endpoint.server import Server


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://[::1]:8000/proxy/v2", "http://[::1]:8000/proxy/v2"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(given, asked):
    assert Server(given, "m").url == asked


@pytest.mark.parametrize("url", ["h:8000", "ftp://h/v1", "http://", "", "http://h:port/v1", "/v1"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(UserError, match="--endpoint takes a URL such as http://host:8000/v1"):
        Server(url, "m")


@pytest.mark.parametrize("url", ["https://me:pw@h/v1", "https://tok@h/v1", "https://h/v1?key=pw"])
def test_a_secret_in_the_address_is_refused_and_not_repeated(url):
    with pytest.raises(UserError, match="put the key into OPENAI_API_KEY") as told:
        Server(url, "m")
    assert "pw" not in str(told.value)
    assert "tok@" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 0}, "--batch must be at least 1, not 0"),
        ({"timeout": 0}, "--endpoint-timeout must be above 0, not 0"),
        ({"timeout": float("nan")}, "--endpoint-timeout must be above 0, not nan"),
    ],
)
def test_a_number_out_of_its_range_is_told(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Server("http://h", "m", **options)
