"""Lighthouse's scores of three pages, on a phone and on a desktop: `make lighthouse`. Fails where one is below 95.

Performance depends on what else the machine does meanwhile, so this is no part of `make test`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import chromium
from serving import serving
from toc import SITE

LIGHTHOUSE = Path(__file__).parent / "lighthouse" / "node_modules" / ".bin" / "lighthouse"
PAGES = ("book/welcome", "notebooks/02_gradient_derivation", "notebooks/07_simclr_training")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
DEVICES = {"phone": (), "desktop": ("--preset=desktop",)}
LOWEST = 95


def report(address: str, *options: str) -> dict:
    """Lighthouse's report on one page."""
    flags = " ".join(("--headless=new", "--no-sandbox", *chromium.FLAGS))
    own = ("--quiet", "--output=json", "--no-enable-error-reporting", f"--chrome-flags={flags}")
    environment = os.environ | {"CHROME_PATH": chromium.find() or sys.exit(chromium.MISSING)}
    command = [LIGHTHOUSE, address, *own, *options]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def scores(report: dict) -> dict[str, int]:
    """Score of each category, 0 to 100."""
    return {name: round(100 * (report["categories"][name]["score"] or 0)) for name in CATEGORIES}


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
    print(f"{'page':36}{'device':9}" + "".join(f"{name:>16}" for name in CATEGORIES))
    low = False
    with serving(SITE) as address:
        for page in PAGES:
            for device, options in DEVICES.items():
                found = report(f"{address}/{page}.html", *options)
                row = scores(found)
                print(f"{page:36}{device:9}" + "".join(f"{score:16}" for score in row.values()), flush=True)
                for name in [name for name, score in row.items() if score < LOWEST]:
                    low = True
                    print("\n".join([f"  {name} is below {LOWEST}:", *faults(found, name)]), flush=True)
    sys.exit(low)


if __name__ == "__main__":
    main()
