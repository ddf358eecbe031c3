"""Address and tag of the course's repository: kept in pyproject.toml, copied from there to every place that needs them.

    python tools/repository.py set https://github.com/OWNER/NAME    what `make set-repository URL=...` runs
    python tools/repository.py pin TAG                              what `make release-links TAG=...` runs
    python tools/repository.py sync                                 rewrite the derived places, the set-up cell in
                                                                    every notebook included
    python tools/repository.py check                                exit 1 and name the places that differ
    python tools/repository.py verify OWNER/NAME                    print the tag of all links; exit 1 where another
                                                                    address is set (run before the site is published)

Derived places: the site's launch buttons and base address in _config.yml, book/setup_cell.py and the same cell in every
notebook and assignment, CITATION.cff, and the links in README.md. Until an address is set, there are no launch buttons
and no links. They lead to the tag of the version (v0.1.0 for version 0.1.0) unless another one is pinned, for an
edition of its own.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from atomic_write import write_whole

ROOT = Path(__file__).resolve().parents[1]
SETUP_TAG = "setup"  # marks the set-up cell in a notebook
GITHUB = "https://github.com/"


class Address(NamedTuple):
    """Where the course is published: the repository's URL (empty: not yet) and the tag that readers get."""

    url: str
    tag: str

    @property
    def name(self) -> str:
        """OWNER/NAME."""
        return self.url.removeprefix(GITHUB)

    @property
    def pages(self) -> str:
        """The site on GitHub Pages."""
        owner, name = self.name.split("/")
        site = f"{owner.lower()}.github.io"
        return f"https://{site}/" if name.lower() == site else f"https://{site}/{name}/"


def normalise(url: str) -> str:
    """The address as https://github.com/OWNER/NAME, or a ValueError that says what is wrong with it."""
    bare = url.removesuffix("/").removesuffix(".git")
    match = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+)", bare)
    if not match:
        raise ValueError(
            f"the address is {url!r}, expected https://github.com/OWNER/NAME "
            "(https and github.com, from where Colab and Binder open notebooks)"
        )
    owner, name = match.groups()
    if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,38}", owner):
        raise ValueError(f"the owner in {url!r} is {owner!r}, which cannot be a GitHub account")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name) or name in (".", ".."):
        raise ValueError(f"the name in {url!r} is {name!r}, which cannot be a GitHub repository")
    return bare


def checked_tag(tag: str) -> str:
    """The tag, or a ValueError where git refuses it or a link would have to escape it."""
    word = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", tag)
    if not word or ".." in tag or tag.endswith((".", ".lock")):
        raise ValueError(
            f"the tag is {tag!r}, expected a word such as v2026.1: letters, digits, '.', '_' and '-', "
            "no '..' in it, no '.' or '.lock' at its end"
        )
    return tag


def read_address(pyproject: str) -> Address:
    """The address that the text of pyproject.toml holds."""
    content = tomllib.loads(pyproject)
    try:
        url = content["project"].get("urls", {}).get("Repository", "")
        pinned = content.get("tool", {}).get("embedding-norms", {}).get("tag")
        return Address(normalise(url) if url else "", checked_tag(pinned or f"v{content['project']['version']}"))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"pyproject.toml has another shape than expected: {type(error).__name__}: {error}") from error


def write_address(pyproject: str, url: str) -> str:
    """The text of pyproject.toml with another address and no other change."""
    return _write_value(pyproject, "project", "urls", "Repository", url)


def write_tag(pyproject: str, tag: str) -> str:
    """The text of pyproject.toml with this tag pinned; the version's own tag is not, so that it follows the version."""
    unpinned = re.sub(_line_pattern("tool", "embedding-norms", "tag"), r"\1", pyproject)
    if read_address(unpinned).tag == tag:
        return unpinned
    return _write_value(unpinned, "tool", "embedding-norms", "tag", tag)


def _line_pattern(family: str, name: str, key: str) -> str:
    """Matches the table [family.name] down to its line `key = …`; the first group is what stands above that line."""
    return rf"(?m)^(\[{family}\.{name}\]\n(?:[^\[\n].*\n)*?){key}\s*=.*\n"


def _write_value(pyproject: str, family: str, name: str, key: str, value: str) -> str:
    """The text with `key = "value"` in its table [family.name], which is added at the end where there is none."""
    line = f'{key} = "{value}"\n'
    changed, found = re.subn(_line_pattern(family, name, key), rf"\g<1>{line}", pyproject)
    if not found:
        changed, found = re.subn(rf"(?m)^\[{family}\.{name}\]\n", rf"\g<0>{line}", pyproject)
    if not found:
        changed = f"{pyproject.rstrip()}\n\n[{family}.{name}]\n{line}"
    expected = tomllib.loads(pyproject)
    expected.setdefault(family, {}).setdefault(name, {})[key] = value
    try:
        as_expected = tomllib.loads(changed) == expected
    except tomllib.TOMLDecodeError:
        as_expected = False
    if not as_expected:
        raise ValueError(f"pyproject.toml has another shape than expected: write {line.strip()} there by hand")
    return changed


def config_block(address: Address) -> str:
    """Launch buttons and base address in _config.yml (its block begins inside `html:`)."""
    colab, binder = ("https://colab.research.google.com", "https://mybinder.org") if address.url else ("", "")
    return f"""\
  baseurl: "{address.pages if address.url else ""}"
  use_repository_button: {str(bool(address.url)).lower()}
  use_issues_button: {str(bool(address.url)).lower()}
launch_buttons:
  notebook_interface: jupyterlab
  colab_url: "{colab}"
  binderhub_url: "{binder}"
repository:
  url: "{address.url}"
  branch: "{address.tag}"
"""


def citation_block(address: Address) -> str:
    """The two addresses in CITATION.cff."""
    return f'repository-code: "{address.url}"\nurl: "{address.pages}"\n' if address.url else ""


def readme_block(address: Address, chapter: str) -> str:
    """The links at the top of README.md; Colab opens the chapter of this file name."""
    if not address.url:
        return ""
    tests = f"{address.url}/actions/workflows/tests.yml"
    return (
        f"[![tests]({tests}/badge.svg)]({tests})\n"
        f"[Read the book]({address.pages}) ·\n"
        f"[Open the first chapter in Colab]"
        f"(https://colab.research.google.com/github/{address.name}/blob/{address.tag}/notebooks/{chapter}) ·\n"
        f"[Open it in Binder](https://mybinder.org/v2/gh/{address.name}/{address.tag})\n"
    )


def fill_block(text: str, begin: str, end: str, content: str) -> str:
    """The text with the lines between the lines `begin` and `end` replaced."""
    pattern = rf"(?ms)^({re.escape(begin)}\n).*?^(?={re.escape(end)}$)"
    filled, found = re.subn(pattern, lambda match: match[1] + content, text)
    if found != 1:
        raise ValueError(f"expected one line {begin!r} with a line {end!r} after it, found {found}")
    return filled


def fill_readme(text: str, address: Address, chapter: str) -> str:
    """README.md with its links rewritten; Colab opens the chapter of this file name."""
    return fill_block(text, "<!-- repository -->", "<!-- /repository -->", readme_block(address, chapter))


def fill_cell(cell: str, address: Address) -> str:
    """The set-up cell with its two assignments rewritten."""
    for name, value in [("REPOSITORY", address.url), ("TAG", address.tag)]:
        cell, found = re.subn(rf'(?m)^{name} = ".*"$', f'{name} = "{value}"', cell)
        if found != 1:
            raise ValueError(f'expected one line {name} = "...", found {found}')
    return cell


def fill_notebook(text: str, cell: str) -> str:
    """The notebook with this set-up cell; where it has none, it gets one below its first text."""
    notebook = json.loads(text)
    cells = notebook["cells"]
    source = cell.removesuffix("\n").splitlines(keepends=True)
    marked = [entry for entry in cells if SETUP_TAG in entry["metadata"].get("tags", [])]
    if not marked:
        below = next((i + 1 for i, entry in enumerate(cells) if entry["cell_type"] == "markdown"), 0)
        metadata = {"tags": [SETUP_TAG, "hide-input"]}
        new = {"cell_type": "code", "execution_count": None, "id": SETUP_TAG, "metadata": metadata, "outputs": []}
        cells.insert(below, {**new, "source": source})
    elif len(marked) > 1:
        raise ValueError(f"expected one cell with the tag {SETUP_TAG!r}, found {len(marked)}")
    elif "".join(marked[0]["source"]) == "".join(source):
        return text
    else:
        marked[0]["source"] = source
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def plan(root: Path, pyproject: str) -> dict[Path, str]:
    """What every place, pyproject.toml included, should hold, given the text of pyproject.toml."""
    address = read_address(pyproject)
    comment = ("# repository", "# /repository")
    planned = {root / "pyproject.toml": pyproject}
    notebooks = sorted(root.glob("notebooks/*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"there is no chapter in {root / 'notebooks'}")

    def fill(path: Path, rewrite: Callable[[str], str]) -> str:
        try:
            planned[path] = rewrite(_read(path))
        except ValueError as error:
            raise ValueError(f"{path.relative_to(root)}: {error}") from error
        except (LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path.relative_to(root)}: another shape, {type(error).__name__}: {error}") from error
        return planned[path]

    fill(root / "_config.yml", lambda text: fill_block(text, *comment, config_block(address)))
    fill(root / "CITATION.cff", lambda text: fill_block(text, *comment, citation_block(address)))
    fill(root / "README.md", lambda text: fill_readme(text, address, notebooks[0].name))
    cell = fill(root / "book" / "setup_cell.py", lambda text: fill_cell(text, address))
    for path in [*notebooks, *sorted(root.glob("assignments/*.ipynb"))]:
        fill(path, lambda text: fill_notebook(text, cell))
    return planned


def differing(planned: dict[Path, str]) -> list[Path]:
    """The places that do not hold what they should."""
    return [path for path, text in planned.items() if _read(path) != text]


def write(planned: dict[Path, str]) -> list[Path]:
    """Write the places that differ, each of them whole or not at all."""
    changed = differing(planned)
    for path in changed:
        write_whole(path, planned[path])
    return changed


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def differs_from(address: Address, name: str) -> str:
    """Why OWNER/NAME is not the repository that the address names; empty when it is."""
    if not address.url:
        return f"No address is set: run make set-repository URL={GITHUB}{name}, commit, and push again."
    if address.name.lower() != name.lower():  # as GitHub compares them
        return (
            f"Links and launch buttons point to {address.url}, but this is {GITHUB}{name}: "
            f"run make set-repository URL={GITHUB}{name}, commit, and push again."
        )
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("set").add_argument("url", metavar=f"{GITHUB}OWNER/NAME")
    commands.add_parser("pin").add_argument("tag", metavar="TAG")
    commands.add_parser("sync")
    commands.add_parser("check")
    commands.add_parser("verify").add_argument("name", metavar="OWNER/NAME")
    chosen = parser.parse_args(arguments)
    try:
        pyproject = _read(ROOT / "pyproject.toml")
        address = read_address(pyproject)  # refuses a file of another shape, whatever is to be done
        if chosen.command == "verify":
            fault = differs_from(address, normalise(GITHUB + chosen.name).removeprefix(GITHUB))
            print(fault or address.tag, file=sys.stderr if fault else sys.stdout)
            return int(bool(fault))
        if chosen.command == "set":
            pyproject = write_address(pyproject, normalise(chosen.url))
        if chosen.command == "pin":
            pyproject = write_tag(pyproject, checked_tag(chosen.tag))
        planned = plan(ROOT, pyproject)
    except (OSError, ValueError) as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 2
    if chosen.command == "check":
        for path in differing(planned):
            print(f"{path.relative_to(ROOT)} differs from pyproject.toml; run python tools/repository.py sync")
        return int(bool(differing(planned)))
    try:
        for path in write(planned):
            print(f"rewrote {path.relative_to(ROOT)}")
    except OSError as error:
        print(f"Not all was written, run the same again: {error}", file=sys.stderr)
        return 2
    if chosen.command in ("set", "pin"):
        tag = read_address(pyproject).tag
        print(f"Now commit, and publish the tag that Colab clones: git tag {tag}; git push origin HEAD {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
