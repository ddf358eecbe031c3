"""Lighthouse's scores of three pages, on a phone and on a desktop: `make lighthouse`. Fails where one is below 95.

Each page is opened three times, and the middle score of each category counts. Lighthouse makes the phone out of this
machine by slowing it down four times; a machine that its own benchmark finds slow is slowed down less. The scores still
depend on what else the machine does meanwhile, so this is no part of `make test`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import chromium
from serving import serving
from toc import SITE, chapter_page

LIGHTHOUSE = Path(__file__).parent / "lighthouse" / "node_modules" / ".bin" / "lighthouse"
PAGES = ("book/welcome.html", chapter_page("gradient-derivation"), chapter_page("simclr-training"))
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
DEVICES = ("phone", "desktop")
DESKTOP = "--preset=desktop"
LOWEST = 95
TIMES = 3
# Where Lighthouse emulates a phone, this holds the first picture back for two seconds, as no phone does.
FLAGS = ("--headless=new", "--no-sandbox", "--disable-features=PaintHolding", *chromium.FLAGS)
BENCHMARK, SLOWDOWN = 1750, 4  # what Lighthouse's phone is made on: the middle of its "high-end desktop"


def report(address: str, *options: str) -> dict:
    """Lighthouse's report on one page."""
    own = ("--quiet", "--output=json", "--no-enable-error-reporting", f"--chrome-flags={' '.join(FLAGS)}")
    environment = os.environ | {"CHROME_PATH": chromium.find() or sys.exit(chromium.MISSING)}
    command = [LIGHTHOUSE, address, *own, *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def benchmark(address: str) -> float:
    """Lighthouse's index of this machine's speed, the middle one of three."""
    return median(report(address, DESKTOP)["environment"]["benchmarkIndex"] for _ in range(TIMES))


def options(device: str, index: float) -> tuple[str, ...]:
    """What makes this machine the device.

    >>> options("phone", 875)
    ('--throttling.cpuSlowdownMultiplier=2.0',)
    """
    slowdown = min(SLOWDOWN, max(1, SLOWDOWN * index / BENCHMARK))
    return (DESKTOP,) if device == "desktop" else (f"--throttling.cpuSlowdownMultiplier={slowdown:.1f}",)


def score(report: dict, category: str) -> int:
    """Score of a category, 0 to 100."""
    return round(100 * (report["categories"][category]["score"] or 0))


def middle(reports: list[dict], category: str) -> dict:
    """The report whose score of a category is the middle one."""
    return sorted(reports, key=lambda report: score(report, category))[len(reports) // 2]


def faults(report: dict, category: str) -> list[str]:
    """Audits that lower a category's score, with what they found."""
    weighed = {entry["id"] for entry in report["categories"][category]["auditRefs"] if entry["weight"]}
    audits = [report["audits"][name] for name in sorted(weighed)]
    lowering = [audit for audit in audits if audit["score"] is not None and audit["score"] < 0.9]
    return [f"    {audit['title']} {audit.get('displayValue', '')}".rstrip() for audit in lowering]


def main() -> None:
    """Print a table, and what is behind each score that is too low."""
    if not (SITE / "index.html").is_file():
        sys.exit("The site is not built: run make book.")
    low = False
    with serving(SITE) as address:
        index = benchmark(f"{address}/{PAGES[0]}")
        print(f"Lighthouse's benchmark of this machine: {index:.0f}; phone: {' '.join(options('phone', index))}")
        print(f"{'page':40}{'device':9}" + "".join(f"{name:>16}" for name in CATEGORIES))
        for page in PAGES:
            for device in DEVICES:
                reports = [report(f"{address}/{page}", *options(device, index)) for _ in range(TIMES)]
                row = {name: middle(reports, name) for name in CATEGORIES}
                print(f"{page:40}{device:9}" + "".join(f"{score(row[name], name):16}" for name in row), flush=True)
                for name in [name for name in row if score(row[name], name) < LOWEST]:
                    low = True
                    print("\n".join([f"  {name} is below {LOWEST}:", *faults(row[name], name)]), flush=True)
    sys.exit(low)


if __name__ == "__main__":
    main()
