"""From the arguments to a command, and from what goes wrong to one line and an exit code.

JAX and all that needs it is imported by the commands themselves, when they run: help
and mistyped options are answered at once.
"""

import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Sequence

import tyro

from jaxnodes.cli.options import (
    BAD_INPUT,
    INTERRUPTED,
    Doctor,
    Evaluate,
    Generate,
    Inspect,
    Predict,
    Prune,
    Summary,
    Train,
)

COMMANDS = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "generate": Generate,
    "inspect": Inspect,
    "prune": Prune,
    "summary": Summary,
    "doctor": Doctor,
}
DESCRIPTION = """Neural networks as pure functions in JAX, with every node in view.

`jaxnodes train` trains a network on handwritten digits, or with `--model gpt` or `--model bert`
on a text. Compiled programs are kept in ~/.cache/jaxnodes, or where JAXNODES_COMPILE_CACHE says
("off" keeps none)."""


def process() -> int:
    """`main` as all that a process does.

    JAX's and matplotlib's modules are 150,000 objects that live to the end. Python would look
    for garbage at every few hundred new ones, and among them all once more when it ends:
    together a quarter of the time of a short training.
    """
    gc.set_threshold(5_000, 10, 10)
    try:
        return main()
    finally:
        gc.freeze()


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      args: what follows `jaxnodes` on the command line; by default that of this process.

    Returns:
      The exit code: 0; 1 if `doctor` finds something wrong, or nobody reads the output any
      more; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"jaxnodes {version('jaxnodes')}")
        return 0
    problem = io.StringIO()
    try:
        with contextlib.redirect_stderr(problem):
            command = tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="jaxnodes",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return 0
        return _refuse(_sentence(problem.getvalue()))
    try:
        code = command()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("jaxnodes: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has closed it; what is left must not be flushed into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        from jaxnodes.errors import JaxNodesError

        # Any other ValueError is a mistake of ours, to be seen with its traceback.
        if not isinstance(error, (JaxNodesError, OSError)):
            raise
        return _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error) or "out of memory"
        return _refuse(f"expected what fits into memory: a smaller network or batch ({reason})")


def _refuse(problem: str) -> int:
    print(f"jaxnodes: {' '.join(problem.split())}", file=sys.stderr)
    return BAD_INPUT


def _sentence(box: str) -> str:
    """What tyro says in a box: without its frame, its title and the hints below the rule."""
    lines = [line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(lines) if re.fullmatch("─+", line)), len(lines))
    return " ".join(lines[:rule]) + " (see --help)"
