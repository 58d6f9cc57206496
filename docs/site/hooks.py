# SPDX-License-Identifier: MIT
"""What the site does to Markdown that is written to be read on GitHub: pages from outside of docs/, and links.

README.md is the first page. A link means the same file in both views; one to a file that is no page of the site leads
to the code repository where mkdocs.yml knows it, and is plain text otherwise. A link that leads nowhere is a warning,
which `mkdocs build --strict` does not pass.
"""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File


ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "facetalk_hf"
CARD = "facetalk_hf/checkpoints/facetalk-tiny/README.md"
# Files of the repository that are pages, by their place in it.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    CARD: "model-card.md",
}
# The template is filled in for the model that is here: the reader wants that one.
SAME_AS = {"model_card.md": CARD}
LINK = re.compile(r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^ *(?:```|~~~).*?^ *(?:```|~~~) *$)", re.MULTILINE | re.DOTALL)
log = logging.getLogger("mkdocs.plugins.facetalk")


def on_files(files, config):
    """Add the pages that do not lie in docs/, and one for every module that no page of the reference names."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == "LICENSE":
            text = f"# Licence\n\n{text}"
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/modules.md", content=other_modules()))
    return files


def other_modules() -> str:
    """The page of all modules of the library that have no place elsewhere; commands are documented by themselves."""
    reference = Path(__file__).parent.parent / "reference"
    named = set(re.findall(r"^::: (facetalk_hf[\w.]*)", "\n".join(map(Path.read_text, reference.glob("*.md"))), re.M))
    lines = ["# All other modules", "", "What the pages before this one are made of, in alphabetical order."]
    for path in sorted(LIBRARY.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not (name in named or path.stem.startswith("__") or path.parent.name == "cli"):
            lines += ["", f"::: {name}"]
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown, page, config, files):
    """Lead links of the repository to the pages of the site; leave out marks that are there for the tests."""
    pages = {name: source for source, name in PAGES.items()}
    source = pages.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def lead(match: re.Match) -> str:
        mark, text, target = match.groups()
        path, anchor = target.partition("#")[::2]
        if re.match(r"[a-z]+:", target) or not path:
            return match[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        place = SAME_AS.get(place, place)
        goal = PAGES.get(place) or place.removeprefix("docs/")
        if place in PAGES or place.startswith("docs/") and files.get_file_from_path(goal):
            relative = posixpath.relpath(goal, posixpath.dirname(page.file.src_uri) or ".")
            return f"{mark}[{text}]({relative}{'#' + anchor if anchor else ''})"
        if not (ROOT / place).exists():
            log.warning(f"{source}: the link to {target} leads nowhere")
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{place})" if config.repo_url else text

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(lead, re.sub(r"^ *<!--.*?-->\n", "", part, flags=re.M | re.S)) for part in parts[::2]]
    return "".join(parts)
