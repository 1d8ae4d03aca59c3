"""Settings of a build that exclude each other or make no sense are refused."""

from __future__ import annotations

import pytest

from common.errors import UserError
from labels.settings import Settings


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"k": 0}, "--k must be at least 1, not 0"),
        ({"k_objects": 0}, "--k-objects must be at least 1"),
        ({"ks": (100, -1)}, "--ks must be at least 1"),
        ({"ks": (1,), "k": 2}, "--ks and --k exclude"),
        ({"min_count": 0}, "--min-count must be"),
        ({"kinds": "verb"}, "--kinds is"),
        ({"out": "labels"}, r"must name a \.parquet"),
        ({"vocab": "x.parquet", "k": 3}, "cannot be combined with --k"),
        ({"vocab": "x.parquet", "stop_tags": "y"}, "cannot be combined with --stop-tags"),
        ({"vocab": "x.parquet", "kinds": "object"}, "leave out --kinds"),
        ({"kinds": "object", "k_attributes": 5}, "--kinds object excludes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        Settings(**flags)
