# SPDX-License-Identifier: MIT
"""The site of the docs: it builds without a warning, has all public names, asks nobody for anything; links hold."""

import inspect
import logging
import os
import posixpath
import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from code_blocks import ROOT
from markdown_it import MarkdownIt
from scripts import load_script

import facetalk_hf
from facetalk_hf import paths
from facetalk_hf.motion.controls import MotionControls
from facetalk_hf.motion.options import options_of


CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
MARKDOWN = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
os.environ["NO_MKDOCS_2_WARNING"] = "1"  # advertisement of the theme


def needs_mkdocs() -> None:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason='needs pip install -e ".[docs]" to build the site')


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does: with --strict a warning is an error."""
    needs_mkdocs()
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(CONFIG), site_dir=str(folder), strict=True))
    return folder


def test_every_public_name_has_its_place(site):
    from mkdocstrings import Inventory

    with open(site / "objects.inv", "rb") as file:
        entries = Inventory.parse_sphinx(file)
    for name in facetalk_hf.__all__:
        value = getattr(facetalk_hf, name)
        place = inspect.getsourcefile(value) if inspect.isclass(value) or inspect.isfunction(value) else paths.__file__
        module = ".".join(Path(place).relative_to(ROOT).with_suffix("").parts)
        assert f"{module}.{name}" in entries, name
    # Public classes of every module, also of those that no page of the reference names.
    for path in sorted((ROOT / "facetalk_hf").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.parent.name != "cli" and not path.stem.startswith("__"):
            for name in re.findall(r"^class ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.M):
                assert f"{module}.{name}" in entries, f"{module}.{name}"


def test_a_method_that_takes_the_controls_has_all_of_them(site):
    (path,) = [path for path in site.rglob("*.html") if path.match("reference/pipeline*")]
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))))
    for item in options_of(MotionControls):
        assert text.count(item.sentence) == (3 if item.live else 1), item.name  # call, stream, open_stream


def test_pages_ask_no_other_server(site):
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source|video)[^>]* src=\"?(\S+?)[\" >]", html)
        fetched += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|icon|preconnect)\"?[^>]* href=\"?(\S+?)[\" >]", html)
        assert not [url for url in fetched if re.match(r"(https?:)?//", url)], path.name


def test_the_first_page_is_the_readme_and_marks_are_not_seen(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert "Speech in, a moving 3D head out" in html and 'src="images/' in html
    marks = re.compile("<!-- (checked, not run|not run|file): ")
    assert not [path for path in site.rglob("*.html") if marks.search(path.read_text(encoding="utf-8"))]
    assert 'href="faq.html' in html and "docs/faq" not in html


def test_a_link_to_nowhere_is_a_warning(caplog):
    needs_mkdocs()
    hooks = load_script("docs/site/hooks.py")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="reference/models.md"))
    files = SimpleNamespace(get_file_from_path=lambda path: path == "faq.md")
    config = SimpleNamespace(repo_url="")
    text = "[a](../faq.md#b), [c](../../README.md), [d](../../Makefile)\n```\n[e](x.md)\n```\n"
    lead = hooks.on_page_markdown(text, page, config, files)
    assert lead == "[a](../faq.md#b), [c](../index.md), d\n```\n[e](x.md)\n```\n" and not caplog.records
    config.repo_url = "https://example.org/r"
    assert "[d](https://example.org/r/blob/main/Makefile)" in hooks.on_page_markdown(text, page, config, files)
    hooks.on_page_markdown("[f](no-such-page.md)", page, config, files)
    assert "leads nowhere" in caplog.text


def test_strict_looks_at_links_anchors_and_forgotten_pages():
    needs_mkdocs()
    from mkdocs.config import load_config

    rules = load_config(str(CONFIG)).validation
    assert {rules.links.not_found, rules.links.anchors, rules.nav.omitted_files, rules.nav.not_found} == {
        logging.WARNING
    }


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings as GitHub makes them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    for before, token in zip(tokens, tokens[1:], strict=False):
        if before.type == "heading_open":
            text = "".join(child.content for child in token.children if child.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found[name] = found.get(name, -1) + 1
    return {name if not i else f"{name}-{i}" for name, count in found.items() for i in range(count + 1)}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_hold_on_github(path):
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src") or ""
            if target and not re.match(r"[a-z]+:", target):
                name, _, anchor = target.partition("#")
                goal = Path(posixpath.normpath(path.parent / name)) if name else path
                assert goal.exists(), target
                if anchor:
                    assert anchor in anchors(goal), target
