"""One contestant in this process: `python -m benchmarks.one PLACE NAME REPEATS ANSWER`."""

import json
import sys
from pathlib import Path

from benchmarks.harness import run_one

if __name__ == "__main__":
    place, name, repeats, answer = sys.argv[1:]
    print(json.dumps(run_one(place, name, int(repeats), Path(answer))))
