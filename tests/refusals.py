"""The page "When it says no", as the tests of the faults compare it with what they are told."""

import re
from functools import cache

from conftest import BOOK

PAGE = BOOK / "when_it_says_no.md"


@cache
def rows() -> dict[str, dict[str, str]]:
    """Return what the page says that is said: by the name of its section, by what was given."""
    sections = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))[1:]
    return {section.partition("\n")[0]: dict(_row(line) for line in _lines(section)) for section in sections}


def _lines(section: str) -> list[str]:
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


def _row(line: str) -> tuple[str, str]:
    given, said, _ = (cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    return given.replace("`", ""), said.replace("`", "")


def on_the_page(section: str, given: str, message: str) -> bool:
    """Tell whether the row for what was given has the words of the message, but for what its ellipses stand for."""
    words = [re.escape(part.strip()) for part in rows()[section][given].split("…")]
    return bool(re.search(".*".join(words), " ".join(message.split())))
