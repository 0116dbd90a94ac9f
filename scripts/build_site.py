"""build_site: README, docs and the other pages of this repository in, a site to read in a browser out.

    python scripts/build_site.py                  # into site/; open site/index.html
    python scripts/build_site.py --to FOLDER

Pages are written once, for a git host and for the site: README is the start page, and links such as
`../CONTRIBUTING.md` or `../recipes/tonight.toml` are turned to where the site has them. Nothing is loaded from
elsewhere, so the site works from the disk, too. Zensical builds it; a warning ends the command.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SETTINGS = REPOSITORY / "zensical.toml"
START = "README.md"
OTHERS = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")  # pages beside README; those of docs/ are found
SCRIPT = REPOSITORY / "docs" / "site" / "iframe-worker.js"
SHIM = "https://unpkg.com/iframe-worker/shim"
DESCRIBED = re.compile(r"^::: (cellssl\S+)", re.MULTILINE)
LINK = re.compile(r"(\[[\w/.-]+\.md)?\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")  # its text where that is a file name
COMMENT = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Build the site and print its start page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=REPOSITORY / "site", help="folder of the site")
    folder = parser.parse_args().to.resolve()
    build(folder)
    print(folder / "index.html")


def build(folder: Path) -> None:
    """Write the site into a folder, in place of a former site."""
    check_is_site(folder)
    with tempfile.TemporaryDirectory(prefix="cellssl-site-") as made:
        work = Path(made)
        write_sources(work / "pages")
        (work / "zensical.toml").write_text(SETTINGS.read_text(encoding="utf-8"), encoding="utf-8")
        copy_described_code(work)
        run_zensical(work)
        load_from_site(work / "site")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "site", folder)


def check_is_site(folder: Path) -> None:
    """Exit where a folder holds anything but a former site, which would be removed."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "site" / SCRIPT.name).is_file():
        sys.exit(f"{folder} holds other files than a site: name another folder")


def run_zensical(work: Path) -> None:
    """Build the site of a folder that holds the settings and the sources; exit with its words where it warns."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=work, env=plain, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode or "warning" in said.lower():
        sys.exit(f"{said}\nthe site was not built: correct these lines of the pages")


def copy_described_code(work: Path) -> None:
    """Copy the files of the package whose docstrings a page asks for; reading all files would take four seconds."""
    shutil.copytree(REPOSITORY / "cellssl", work / "cellssl", ignore=_all_but_packages)
    for page in (work / "pages").glob("*.md"):
        for name in DESCRIBED.findall(page.read_text(encoding="utf-8")):
            module = Path(*name.split(".")[:-1]).with_suffix(".py")
            shutil.copyfile(REPOSITORY / module, work / module)


def _all_but_packages(_: str, names: list[str]) -> set[str]:
    return {name for name in names if "." in name and name != "__init__.py"}


def write_sources(folder: Path) -> None:
    """Write the pages as the site has them, with the files that they link to and the pictures."""
    pages = {file: name_on_site(file) for file in page_files()}
    for file, name in pages.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        target.write_text(text_on_site(text, file), encoding="utf-8")
        for linked in linked_files(text, file):
            if linked not in pages and linked.is_file():
                (folder / name_on_site(linked)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(linked, folder / name_on_site(linked))
    shutil.copytree(REPOSITORY / "docs" / "site", folder / "site")


def load_from_site(folder: Path) -> None:
    """Load the one script that Zensical takes from another server from the site itself.

    Its page for missing pages is given up: it needs a site that lies at the top of a server.
    """
    (folder / "404.html").unlink()
    for page in folder.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM, f"site/{SCRIPT.name}"), encoding="utf-8")


def page_files() -> list[Path]:
    """Return the files of all pages."""
    return [REPOSITORY / START, *(REPOSITORY / name for name in OTHERS), *sorted((REPOSITORY / "docs").glob("*.md"))]


def name_on_site(file: Path) -> str:
    """Return where the site has a file of the repository: pages and pictures of docs/ lie at its top."""
    path = file.relative_to(REPOSITORY)
    if path == Path(START):
        return "index.md"
    if path.parts[0] == "docs":
        return path.relative_to("docs").as_posix()
    return path.as_posix().lower() if path.suffix == ".md" and len(path.parts) == 1 else path.as_posix()


def text_on_site(text: str, file: Path) -> str:
    """Return a page with its links turned to the site and without comments; code is left as it is."""
    parts = FENCE.split(text)
    parts[::2] = [COMMENT.sub("\n", LINK.sub(lambda link: turned(link, file), part)) for part in parts[::2]]
    return "".join(parts)


def turned(link: re.Match[str], file: Path) -> str:
    """Return a relative link as it must be written on the site; where its text is a file name, that of the page."""
    target = (file.parent / link[2]).resolve()
    if not target.is_relative_to(REPOSITORY):
        return link[0]
    text = f"[{title_of(target)}" if link[1] and target.is_file() else link[1] or ""
    return f"{text}]({name_on_site(target)}{link[3] or ''})"


def title_of(page: Path) -> str:
    """Return the first heading of a page."""
    return page.read_text(encoding="utf-8").split("# ", 1)[1].split("\n", 1)[0]


def linked_files(text: str, file: Path) -> Iterator[Path]:
    """Yield the files of the repository that a page links to or shows."""
    for part in FENCE.split(text)[::2]:
        for link in LINK.finditer(part):
            target = (file.parent / link[2]).resolve()
            if target.is_relative_to(REPOSITORY):
                yield target


if __name__ == "__main__":
    main()
