"""Tokens and keys of the user's environment: actors need them, and nobody else may read them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

# Ray shows a job's environment on its dashboard and keeps it with the job, so these stay out of it.
NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


@dataclass(frozen=True)
class Secrets:
    """Environment variables that travel as an argument of an actor's method.

    Ray holds such an argument in the memory of the two processes and shows it nowhere.
    """

    values: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_this_process(cls) -> Secrets:
        return cls({name: os.environ[name] for name in NAMES if os.environ.get(name)})

    def set(self) -> None:
        """Sets them in this process, for the libraries that read them there."""
        os.environ.update(self.values)
