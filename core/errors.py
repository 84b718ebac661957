"""The two kinds of failure a user can cause, and how they are worded: field, rule, value, nearest valid name."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["DataError", "SpecError", "in_one_line", "unknown"]

_REASON = 300  # characters of another library's error


class SpecError(ValueError):
    """A suite, a field or an option is not valid; nothing has been started (exit code 2)."""


class DataError(RuntimeError):
    """A file is missing, damaged or not what it says it is; the message names the file (exit code 1)."""


def in_one_line(error: BaseException) -> str:
    """Kind and text of a library's error, however many lines it has."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_REASON]}{'...' if len(text) > _REASON else ''}"


def unknown(kind: str, name: str, known: Iterable[str]) -> SpecError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return SpecError(f"{kind} must be one of {', '.join(names) or '(none)'}, got {name!r}{hint}")
