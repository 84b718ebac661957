"""Text for people: order of names, one line without control characters, nothing of this machine's folders."""

import re

__all__ = ["natural", "one_line", "without_folders"]


def natural(text: str) -> list[str | float]:
    """Sort key that puts iterations=10 after iterations=2, and share=0.5 after share=0.25."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)  # text and numbers in turn
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def one_line(text: str) -> str:
    """Without line breaks and other control characters, which could fake a row or steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)


def without_folders(text: str) -> str:
    """Absolute paths cut down to file names: a report must not tell about the machine it was made on."""
    return re.sub(r"(?<![\w.:/])(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":]+[/\\])+", "", text)
