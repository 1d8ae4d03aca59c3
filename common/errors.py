"""The one exception that a user sees as a sentence instead of a stack trace."""


class UserError(Exception):
    """Something the person at the keyboard can mend; `str(error)` is one clear sentence."""


class EngineDied(Exception):
    """The parser's engine is gone and every later call would fail: replace the actor."""


def reason(error: BaseException) -> str:
    """The first line of what an exception says, or its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
