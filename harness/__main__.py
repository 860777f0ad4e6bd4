"""Makes pages and pictures anew from the raw results of runs.

$ python -m harness pages reports
$ python -m harness picture reports/NAME/results.jsonl docs/restarts.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import figures, store


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m harness", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pages = commands.add_parser("pages", help="write each run's page, and the index, anew")
    pages.add_argument("reports", type=Path)
    picture = commands.add_parser("picture", help="draw one run into a .svg")
    picture.add_argument("results", type=Path)
    picture.add_argument("picture", type=Path)
    asked = parser.parse_args()
    if asked.command == "pages":
        for results in sorted(asked.reports.glob(f"*/{store.RESULTS}")):
            print(store.write(asked.reports, store.load(results)))
    else:
        asked.picture.write_text(figures.draw(store.load(asked.results)), encoding="utf-8")


if __name__ == "__main__":
    main()
