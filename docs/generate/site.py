"""Hook of mkdocs: pages that lie outside of docs/ come along, and links to other files of the repository become text.

On a forge a page links to `../benchmarks/README.md`; on the site it is `project/benchmarks/README.md`. What is no
page is named and not linked.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FOLDER = "project"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages of the repository that are not in docs/."""
    for path in PAGES:
        files.append(File.generated(config, f"{FOLDER}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Point links to where the files are on the site."""
    here = page.file.src_uri
    inside = f"{FOLDER}/" in here
    # Where the page lies in the repository.
    source = here.removeprefix(f"{FOLDER}/") if inside else f"docs/{here}"

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        on_site = path.removeprefix("docs/") if path.startswith("docs/") else f"{FOLDER}/{path}"
        if path == "README.md":
            on_site = "index.md"
        if files.get_file_from_path(on_site) is None:
            return words
        return f"[{words}]({posixpath.relpath(on_site, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
