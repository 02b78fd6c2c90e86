"""`python -m sluicegate`: one real program and every operation, head to head with the standard library."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from sluicegate import bench


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what would make the work useless is refused before it starts."""
    parser = argparse.ArgumentParser(prog="python -m sluicegate", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of half a minute; rough figures"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to FILE as JSON")
    parser.add_argument(
        "--plot", metavar="FILE.svg", type=Path, help="draw the ratios; needs sluicegate[bench]"
    )
    options = parser.parse_args(arguments)
    for flag, file in (("--json", options.json), ("--plot", options.plot)):
        if file and not file.parent.is_dir():
            parser.error(f"{flag} {file}: there is no directory {file.parent}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib, which is not installed: pip install 'sluicegate[bench]'")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return bench.run(quick=options.quick, json_file=options.json, plot_file=options.plot)
    except bench.NoSources as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
