"""`python -m jaxnodes` is the command line."""

import sys

from jaxnodes.cli import process

if __name__ == "__main__":
    sys.exit(process())
