"""Numbers on the command line are refused before anything is done when they cannot be."""

import pytest
from tests.fleet.conftest import Run


@pytest.mark.parametrize(
    ("command", "number"),
    [
        *(("infer pi-1 digits --input /dev/null --timeout", text) for text in ("-1", "0", "nan", "inf", "1e9", "soon")),
        *(("push . --timeout", text) for text in ("-1", "0", "nan", "inf")),
        *(("rollback digits --timeout", text) for text in ("-1", "0", "nan", "inf")),
        *(("origin --rate", text) for text in ("-1", "nan", "inf")),
    ],
)
def test_a_number_that_cannot_be_is_an_error_of_usage(run_edgeferry: Run, command: str, number: str) -> None:
    done = run_edgeferry(*command.split(), number)

    option = command.rsplit(maxsplit=1)[-1]
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.stderr
