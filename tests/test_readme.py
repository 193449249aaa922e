"""What the README shows is what its code prints."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_pure_function_example_prints_what_is_shown():
    text = README.read_text()
    found = re.search(r"```python\n(import jax.*?)```\n+```text\n(.*?)```", text, re.S)
    assert found
    code, shown = found.groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown


def test_there_are_two_shell_commands_the_main_job_and_the_tests():
    commands = re.findall(r"```sh\n(.*?)\n```", README.read_text(), re.S)
    assert len(commands) == 2
    assert "jaxnodes train" in commands[0]
    assert "pytest" in commands[1]
