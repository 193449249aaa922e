"""What XLA made of loops that are to run side by side."""

import re


def assert_no_memory_is_shared(text: str, count: int) -> None:
    """In a compiled program's text each of `count` loops carries all that its body makes.

    Whatever isn't carried may lie in the same memory as another loop's, for which one of them
    would wait.
    """
    found = [line for line in text.splitlines() if " while(" in line and "u32[]" in line]
    assert len(found) == count
    for line in found:
        body = line.split("body=")[1].split(",")[0]
        *lines, root = text.split(f"\n{body} (")[1].split("\n}")[0].splitlines()[1:]
        carried = set(re.findall(r"%[\w.-]+", root.split(" tuple(")[1].split(")")[0]))
        for line in reversed(lines):
            if line.split()[0] in carried and " bitcast(" in line:
                carried.add(line.split(" bitcast(")[1].split(")")[0])
        views = ("get-tuple-element(", "parameter(", "constant(", "bitcast(")
        made = [line.split()[0] for line in lines if not any(view in line for view in views)]
        assert len(made) > 6
        assert set(made) <= carried
