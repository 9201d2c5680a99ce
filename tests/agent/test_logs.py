"""The log says in the journal how grave each line is, and to a person when it was."""

import os
import re
import subprocess
import sys

PROGRAM = """
import logging
from edgeferry.agent.logs import log_to_stderr
log_to_stderr(verbose=True)
log = logging.getLogger("edgeferry.test")
log.debug("small"); log.info("change"); log.warning("odd"); log.error("bad\\nworse"); log.critical("over")
"""


def said(**environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_each_line_in_the_journal_has_its_priority() -> None:
    assert said(JOURNAL_STREAM="9:1234") == ["<7>small", "<6>change", "<4>odd", "<3>bad", "<3>worse", "<3>over"]


def test_a_person_gets_the_time_and_the_level() -> None:
    lines = said()

    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING odd", lines[2])
    assert not any(line.startswith("<") for line in lines)
