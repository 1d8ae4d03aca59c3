"""Which OpenAI-compatible server answers."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from common.errors import UserError


@dataclass(frozen=True)
class Server:
    """Where questions go, and how many at once.

    Attributes:
        url: with the version at its end; `/v1` is added to a URL without a path.
        model: the server's name of the model.
        batch: number of captions in flight.
        timeout: seconds that one request may take.
        patience: seconds without any answer after which the server counts as gone.

    Raises:
        UserError: the URL is not valid, or holds a secret; a number is out of its range.
    """

    url: str
    model: str
    batch: int = 256
    timeout: float = 60.0
    patience: float = 600.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _checked(self.url))
        if self.batch < 1:
            raise UserError(f"--batch must be at least 1, not {self.batch}")
        if not self.timeout > 0:
            raise UserError(f"--endpoint-timeout must be above 0, not {self.timeout:g}")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise UserError(f"--endpoint takes a URL such as http://host:8000/v1, not '{url}'")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            "--endpoint takes no password and no query, since the manifest keeps it for all to read: put "
            "the key into OPENAI_API_KEY"
        )
    return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"
