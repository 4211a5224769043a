"""Sphinx configuration: the site is made of the docstrings, the examples and the documents of the repository.

The documents are included where they stand. Their links lead from file to file there; here they are turned to the pages
that the files have in the site.
"""

from __future__ import annotations

import builtins
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import skembed

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
PAGES = {  # of the documents that have one
    ROOT / "README.md": DOCS / "index.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
    ROOT / "RELEASING.md": DOCS / "releasing.md",
    ROOT / "LICENSE": DOCS / "licence.md",
    ROOT / "benchmarks" / "README.md": DOCS / "benchmarks.md",
    DOCS / "architecture.md": DOCS / "architecture.md",
    DOCS / "decisions.md": DOCS / "decisions.md",
    ROOT / "benchmarks" / "results": GENERATED / "benchmarks" / "results.md",
    ROOT / "examples" / "README.md": DOCS / "examples.md",
    **{path: GENERATED / "examples" / f"{path.stem}.md" for path in sorted((ROOT / "examples").glob("*.py"))},
}

project = "skembed"
author = "The skembed developers"
release = version = skembed.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
smartquotes = False  # options such as --csv keep their dashes

myst_heading_anchors = 4  # as deep as links to headings go

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False  # pandas' and scikit-learn's own methods are documented there
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False  # autodoc writes them out

# References to our own names are checked. Those into other packages cannot be without a network: they stay plain text.
nitpicky = True
nitpick_ignore_regex = [(r"py:\w+", r"(?!skembed\b)[a-z_]+\..*"), (r"py:\w+", "|".join(dir(builtins)))]

html_theme = "pydata_sphinx_theme"
html_title = f"skembed {release}"
html_show_sourcelink = html_copy_source = False  # of a page that includes a document it would show one line
html_theme_options = {"header_links_before_dropdown": 6, "secondary_sidebar_items": ["page-toc"]}
_WITHOUT_SIDEBAR = (
    "index",
    "benchmarks",
    "architecture",
    "decisions",
    "changelog",
    "contributing",
    "releasing",
    "licence",
)
html_sidebars = {page: [] for page in _WITHOUT_SIDEBAR}  # there is nothing below them


def write_pages(_app: Sphinx) -> None:
    """Write a page for each example, and one for the files of results; autosummary adds those of the reference."""
    shutil.rmtree(GENERATED, ignore_errors=True)  # pages of what is gone would be errors
    for path, page in PAGES.items():
        if page.is_relative_to(GENERATED):
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(turn_links(to_markdown(path), path.parent, page), encoding="utf-8")


def to_markdown(path: Path) -> str:
    """Make the text of a page, with links as from the file's folder: of a script in cells, or a folder of files."""
    if path.is_dir():
        files = [f"- [{file.name}]({path.name}/{file.name})\n" for file in sorted(path.iterdir())]
        return f"# Files of {path.relative_to(ROOT)}\n\n{''.join(files)}"
    parts = []
    for cell in re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        kind, _, content = cell.partition("\n")
        is_text = "[markdown]" in kind
        parts.append(re.sub("^# ?", "", content, flags=re.M) if is_text else f"````python\n{content.strip()}\n````\n")
    return "\n".join([*parts, f"[{path.relative_to(ROOT)}](path:{path.name})"])


def turn_included_links(app: Sphinx, path: Path, _parent: str, content: list[str]) -> None:
    """Turn the links of a document that a page includes."""
    path = (Path(app.srcdir) / path).resolve()
    if path in PAGES:
        content[0] = turn_links(content[0], path.parent, PAGES[path])


def turn_links(text: str, folder: Path, page: Path) -> str:
    """Make links that lead somewhere from a folder lead there from a page; Sphinx reports those that lead nowhere."""

    def turn(link: re.Match[str]) -> str:
        target = (folder / link["path"]).resolve()
        if not target.exists():
            return link[0]
        is_file_meant = link["scheme"] or target not in PAGES
        return link["scheme"] + os.path.relpath(target if is_file_meant else PAGES[target], page.parent)

    return re.sub(r"(?<=\]\()(?P<scheme>(?:path:)?)(?P<path>[^)#:\s]+)", turn, text)


def skip_made_methods(_app: Sphinx, _what: str, name: str, _obj: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the methods that scikit-learn makes for metadata routing, which are documented there."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> None:
    """Have the pages written before autosummary looks for more, and links turned when a document is read."""
    app.connect("builder-inited", write_pages, priority=100)
    app.connect("include-read", turn_included_links)
    app.connect("autodoc-skip-member", skip_made_methods)
