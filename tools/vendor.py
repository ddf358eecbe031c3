"""What the site takes from npm and serves itself: fetched, and held to recorded checksums.

    python tools/vendor.py refresh    fetch the versions that the manifest names; record their files' checksums
    python tools/vendor.py check      exit 1 and name each file that is not as the manifest records it

The manifest, book/public/vendor/vendor.json, lists for each package its version, licence, source, and the files that
are taken. For another version, change `version` there and empty `integrity`; for another file, add it with an empty
`sha256`.
"""

import argparse
import base64
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

FOLDER = Path(__file__).resolve().parents[1] / "book" / "public" / "vendor"
MANIFEST = "vendor.json"


class VendorError(Exception):
    """What is wrong with a package or the manifest, and what to do."""


def sha256(content: bytes) -> str:
    """Checksum of a file, as the manifest records it."""
    return hashlib.sha256(content).hexdigest()


def integrity(archive: bytes) -> str:
    """Checksum of a package's archive, in the form that npm publishes."""
    return f"sha512-{base64.b64encode(hashlib.sha512(archive).digest()).decode()}"


def read_manifest(folder: Path) -> dict:
    """The manifest of a folder.

    Raises:
        VendorError: It is no manifest, or has a file that would lie outside the folder.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for package in manifest["packages"]:
            words = [package[key] for key in ("name", "version", "integrity", "folder")]
            for name, entry in package["files"].items():
                words += [entry["from"], entry["sha256"]]
                place = PurePosixPath(package["folder"], name)
                if place.is_absolute() or ".." in place.parts:
                    raise ValueError(f"{place} is outside")
            if not all(isinstance(word, str) for word in words):
                raise ValueError(f"a value of {package['name']!r} is no text")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise VendorError(f"{folder / MANIFEST} is no manifest: {type(error).__name__}: {error}") from error
    return manifest


def differences(folder: Path) -> list[str]:
    """Files of a folder that are missing, changed or not in its manifest."""
    recorded = {
        f"{package['folder']}/{name}": entry["sha256"]
        for package in read_manifest(folder)["packages"]
        for name, entry in package["files"].items()
    }
    present = {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST
    }
    return [
        *[f"{name} is missing" for name in sorted(recorded.keys() - present.keys())],
        *[f"{name} is not in {MANIFEST}" for name in sorted(present.keys() - recorded.keys())],
        *[f"{name} was changed" for name in sorted(present.keys() & recorded) if present[name] != recorded[name]],
    ]


def pack(wanted: str, scratch: Path) -> bytes:
    """The archive of NAME@VERSION, as npm publishes it."""
    command = ["npm", "pack", wanted, "--json", "--pack-destination", str(scratch)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise VendorError("npm is not installed: install Node.js, which brings it") from error
    except subprocess.CalledProcessError as error:
        raise VendorError(f"npm does not give {wanted}: {error.stderr.strip()}") from error
    try:
        return (scratch / json.loads(answer.stdout)[0]["filename"]).read_bytes()
    except (ValueError, LookupError, TypeError) as error:
        raise VendorError(f"npm's answer for {wanted} names no archive: {error}") from error


def fetch(package: dict, scratch: Path, target: Path) -> None:
    """Write a package's listed files below `target` and record all checksums."""
    wanted = f"{package['name']}@{package['version']}"
    archive = pack(wanted, scratch)
    if package["integrity"] not in ("", integrity(archive)):
        raise VendorError(
            f"{wanted} has the checksum {integrity(archive)}, expected {package['integrity']}: "
            f"if you changed the version in {MANIFEST}, empty its `integrity` and run refresh again"
        )
    package["integrity"] = integrity(archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:  # nothing is written where an archive says
            found = {member.name: members.extractfile(member).read() for member in members if member.isreg()}
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise VendorError(f"what npm gives for {wanted} is no archive: {error}") from error
    for name, entry in package["files"].items():
        if (content := found.get(f"package/{entry['from']}")) is None:
            raise VendorError(f"{package['name']} has no file {entry['from']!r}: correct {MANIFEST}")
        path = target / package["folder"] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entry["sha256"] = sha256(content)


def refresh(folder: Path) -> None:
    """Put a freshly fetched folder in the place of this one: wholly or, after an error, not at all."""
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".vendor-") as scratch:
        fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
        for package in manifest["packages"]:
            fetch(package, Path(scratch), fresh)
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        (fresh / MANIFEST).write_text(text, encoding="utf-8")
        try:
            os.replace(folder, old)
            os.replace(fresh, folder)
        except BaseException:
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            raise


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["refresh", "check"])
    try:
        if parser.parse_args(arguments).command == "refresh":
            refresh(FOLDER)
        found = differences(FOLDER)
    except (VendorError, OSError) as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 2
    for line in found:
        print(f"{FOLDER.name}/{line}; run python tools/vendor.py refresh")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
