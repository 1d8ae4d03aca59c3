"""Reads captions, and packs tar files of samples, for the tests of the readers."""

from __future__ import annotations

import io
import json
import os
import tarfile

from parsing.source.readers import Row, Source


def read(*paths: object, **settings) -> list[Row]:
    return list(Source(tuple(map(str, paths)), **settings).rows())


def tar(path, members: list[tuple[str, bytes]], mode: str = "w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, text: str) -> list[tuple[str, bytes]]:
    record = {"caption": f"json of {text}", "alt": f"alt of {text}"}
    return [
        (f"{key}.jpg", os.urandom(3000)),
        (f"{key}.txt", text.encode()),
        (f"{key}.json", json.dumps(record).encode()),
    ]
