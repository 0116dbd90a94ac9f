"""The documentation site is built without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import browsing, needs_chromium
from chain import Chain
from conftest import REPOSITORY
from playwright.sync_api import Page as Tab

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "srcset"), ("use", "href")}


@dataclass
class Page(HTMLParser):
    """What a page of the site links to and loads, the names that can be linked to, and the text of its paragraphs."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    inside: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.loaded += [value for name, value in given.items() if (tag, name) in LOADS]
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        if tag == "p":
            self.paragraphs.append("")
        self.inside = tag == "p" or (self.inside and tag in {"a", "em", "strong", "code", "img", "br"})

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.paragraphs[-1] += data


@cache
def parsed(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, REPOSITORY / "scripts" / "build_site.py", "--to", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder / 'index.html'}\n", "")
    return folder


def pages_of(site: Path) -> list[Path]:
    return sorted(site.glob("*.html"))


def nav_pages(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for below in entry.values() if isinstance(entry, dict) else entry:  # type: ignore[attr-defined]
            yield from nav_pages(below)


def test_every_link_picture_and_script_of_the_site_is_there(site: Path) -> None:
    assert len(pages_of(site)) > 30
    for file in pages_of(site):
        page = parsed(file)
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), f"{file.name}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in parsed(target).ids, f"{file.name}: {link}"


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    for file in pages_of(site):
        assert not [name for name in parsed(file).loaded if urlsplit(name).scheme not in {"", "data"}], file.name
    for file in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", file.read_text(encoding="utf-8")), file.name


def test_links_to_other_servers_are_whole_addresses(site: Path) -> None:
    links = {link for file in pages_of(site) for link in parsed(file).links if urlsplit(link).scheme}
    for link in links:
        assert re.fullmatch(r"https?://[\w.-]+\.[a-z]{2,}(/[\w.~/%#?=&+:-]*)?", link), link


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))
    listed = list(nav_pages(settings["project"]["nav"]))
    docs = {file.name for file in (REPOSITORY / "docs").glob("*.md")}
    assert sorted(listed) == sorted({*docs, "index.md", "contributing.md", "changelog.md", "security.md"})


def test_no_list_table_or_comment_of_a_page_is_shown_as_text(site: Path) -> None:
    for file in pages_of(site):
        for paragraph in parsed(file).paragraphs:
            assert not re.search(r"^\s*(- |\* |1\. |\||#+ )|<!--|```", paragraph, re.MULTILINE), file.name + paragraph


def test_the_search_index_holds_the_words_of_all_pages(site: Path) -> None:
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    text = {
        page: " ".join(item["title"] + " " + item["text"] for item in items if item["location"].startswith(page))
        for page in ("index.html", "hits.html", "own-plates.html", "changelog.html", "api.html")
    }
    words = ("microscopy", "q-value", "plate map", "Added", "fingerprint")
    for (page, found), word in zip(text.items(), words, strict=True):
        assert word in found, page
    assert "numbers:" not in " ".join(text.values())


def test_the_python_examples_run_as_they_are_shown(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    page = page.replace("FINGERPRINT", chain.made("cluster").fingerprint)
    (tmp_path / "mine.toml").write_bytes(chain.recipe.read_bytes())
    (tmp_path / "artifacts").symlink_to(chain.root)
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, known)
    assert known["seen"].shape == (1, 3, 48, 48)  # type: ignore[attr-defined]
    assert known["area_px"] == known["cell"]["area_px"]  # type: ignore[index]
    assert len(known["profiles"]) == len(set(known["cells"]["well"]))  # type: ignore[index,arg-type]
    assert "0.75" in capsys.readouterr().out


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain web server on a folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def search(page: Tab) -> None:
    """Find a page by a word on it, and open it."""
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("combobox").fill("snakemake")
    page.get_by_role("option", name="Unattended").first.click()
    page.wait_for_url("**/unattended.html?h=snakemake")


@pytest.mark.soak  # 5 s
@needs_chromium
def test_the_search_on_a_disk_finds_a_page_and_opens_it(site: Path) -> None:
    with browsing() as browser, browser.opened(site / "views.html") as page:
        search(page)


@pytest.mark.soak  # 5 s
@needs_chromium
def test_the_search_on_a_server_finds_a_page_and_asks_no_other_server(site: Path) -> None:
    """Chromium says of the script of a worker, which ends when its page is left, that its request has failed."""
    with served(site) as address, browsing() as browser:
        page, asked, said = browser.chromium.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{address}/views.html")
        search(page)
        page.close()
    assert not said and any(url.endswith("search.json") for url in asked)
    assert all(url.startswith((f"{address}/", "data:", "blob:")) for url in asked), asked
