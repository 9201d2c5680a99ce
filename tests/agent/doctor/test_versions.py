"""Whether a version is one of those that a profile wants."""

import pytest

from edgeferry.agent.doctor.versions import is_within


@pytest.mark.parametrize(
    ("version", "wanted", "answer"),
    [
        ("2.3.0", ">=2.3,<2.4", True),
        ("2.3", ">=2.3.0, <2.4", True),
        ("2.10.1", ">=2.3,<2.4", False),
        ("2.10.1", ">2.9", True),
        ("2.14.0", "==2.14.0", True),
        ("2.14.0", "!=2.14,<=3", False),
        ("2.4.0rc1", "<2.4", False),
        ("2.3.0", "~=2.3", None),
        ("unknown", ">=2", None),
    ],
)
def test_numbers_are_compared_one_by_one(version: str, wanted: str, answer: bool | None) -> None:
    assert is_within(version, wanted) is answer
