"""What the tables say of the runtime that is installed is what it does. Run in the process: thousands take a moment."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgeferry.converter.kernel_types import MEASURED_TYPES, TYPES
from edgeferry.converter.kernel_versions import VERSIONS
from edgeferry.inference.runtime import PACKAGE, runtime_version
from tests.converter.inspection.kernel_probes import Probe, type_probes, version_probe

pytestmark = pytest.mark.skipif(
    PACKAGE != "ai-edge-litert" or not runtime_version().startswith("2.3."),
    reason="the table was measured on ai-edge-litert 2.3",
)

LITERT = 1  # column of the tables


def is_known(operator: str, version: int) -> bool:
    try:
        Interpreter(model_content=version_probe(operator, version))
    except (RuntimeError, ValueError):
        return False
    return True


def is_run(probe: Probe) -> bool:
    try:
        interpreter = Interpreter(model_content=probe.model())
        interpreter.allocate_tensors()
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], np.ones(details["shape"], details["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return False
    return True


def test_each_operator_is_known_up_to_the_version_in_the_table():
    wrong = [
        operator
        for operator, versions in VERSIONS.items()
        if not is_known(operator, versions[LITERT]) or is_known(operator, versions[LITERT] + 1)
    ]

    assert len(VERSIONS) > 150
    assert wrong == []


def test_each_operator_computes_on_the_types_in_the_table():
    measured: dict[str, set[str]] = {}
    for operator, kind, probe in type_probes():
        measured.setdefault(operator, set()).update({kind} if is_run(probe) else ())

    told = {operator: {MEASURED_TYPES[one] for one in columns[LITERT].split()} for operator, columns in TYPES.items()}
    assert len(measured) > 80
    assert measured == told
