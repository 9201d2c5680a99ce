"""Which operation TensorFlow was computing when it crashed."""

from edgeferry.converter.culprit import explained_crash, last_operation
from edgeferry.converter.errors import CrashError

LOG = """I0000 00:00:1.1 1 executor.cc:879] Process node: 2 step 1 {{node x}} = _Arg[T=DT_FLOAT, index=0]() device: CPU
I0000 00:00:1.2 1 executor.cc:879] Process node: 3 step 1 {{node PartitionedCall/net/conv/Conv2D}} = Conv2D[T=1](x)
I0000 00:00:1.3 1 executor.cc:879] Process node: 4 step 1 {{node StatefulPartitionedCall/net/bad/Crash}} = Crash[T=1](x)
I0000 00:00:1.4 1 executor.cc:879] Process node: 5 step 1 {{node identity_RetVal}} = _Retval[T=DT_FLOAT, index=0](add)
"""


def test_the_last_operation_that_is_the_models_own_is_the_one():
    assert last_operation(LOG) == ("net/bad", "Crash")


def test_a_log_without_operations_tells_none():
    assert last_operation("Segmentation fault") is None


def test_a_crash_that_does_not_come_again_is_told_as_it_was(tmp_path):
    err = CrashError("converting cats crashed with SIGSEGV while loading cats", "boom")

    explained = explained_crash(err, "edgeferry.converter.no_such_module", {}, tmp_path / "again")

    assert str(explained) == (
        "converting cats crashed with SIGSEGV while loading cats: boom; "
        "save the model in another format, and convert that"
    )
