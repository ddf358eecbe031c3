"""Where Chromium is. As a program it prints the place, or says how to get it and fails."""

import os
import shutil
import sys

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
MISSING = "Chromium is not installed: apt-get install chromium, or name it: NORMLIB_CHROMIUM=/path/to/chromium"
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """Path of the browser that NORMLIB_CHROMIUM names, else of the first one on PATH, else None."""
    named = os.environ.get("NORMLIB_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


if __name__ == "__main__":
    print(find() or sys.exit(MISSING))
