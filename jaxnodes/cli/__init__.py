"""The command line: `jaxnodes train`, `evaluate`, `predict`, `generate`, `inspect`, `prune`,
`summary` and `doctor`."""

from jaxnodes.cli.entry import main as main
from jaxnodes.cli.entry import process as process
