"""How an example runs: `python examples/NAME.py [--out FOLDER]`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(main: Callable[[Path], Any], file: str) -> None:
    """Calls `main` with the folder that its figure goes to.

    Args:
      main: `main(out)`.
      file: the example's `__file__`.
    """
    parser = argparse.ArgumentParser(description=f"The example {Path(file).stem}.")
    figures = Path(file).parent / "figures"
    parser.add_argument("--out", type=Path, default=figures, help="folder of the figure")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    main(out)
