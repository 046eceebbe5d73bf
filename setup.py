"""What can't be said in pyproject.toml: the README as a package index shows it, where links to files lead nowhere.

With the address of the repository under ``Source`` in ``[project.urls]``, they lead there; without one, the path stands
in place of a link.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent

# A link to a file: its text, its path, and an anchor. Addresses have a colon.
LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def for_index(readme: str, repository: str | None, release: str) -> str:
    """Return the README with links that don't depend on where it is shown.

    Parameters:
        readme: the README, with links that are relative to the repository.
        repository: the address of the repository, if it has one.
        release: the release that is built; its files have its tag.
    """

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found["text"], found["path"].rstrip("/"), found["anchor"] or ""
        if repository is not None:
            return f"[{text}]({repository.rstrip('/')}/blob/{release}/{path}{anchor})"
        return text if path in text else f"{text} (`{path}`)"

    return LINK.sub(link, readme)


if __name__ == "__main__":
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (HERE / "README.md").read_text("utf-8")
    setup(
        long_description=for_index(readme, project.get("urls", {}).get("Source"), project["version"]),
        long_description_content_type="text/markdown",
    )
