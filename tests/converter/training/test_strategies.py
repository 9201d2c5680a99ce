"""Which strategy is taken, and why."""

import json

import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.training.strategies import Cluster, Strategy, chosen, cluster_from, explained

TWO = Cluster(("a:9000", "b:9000"), 1)


def config(**changes: object) -> dict[str, str]:
    told = {"cluster": {"worker": ["a:9000", "b:9000"]}, "task": {"type": "worker", "index": 1}} | changes
    return {"TF_CONFIG": json.dumps(told)}


def test_options_and_the_environment_tell_the_same_cluster():
    assert cluster_from("a:9000,b:9000", 1, {}) == cluster_from(None, None, config()) == TWO
    assert json.loads(TWO.tf_config) == json.loads(config()["TF_CONFIG"])
    assert not TWO.is_chief
    assert Cluster(TWO.workers, 0).is_chief


def test_without_either_there_is_one_machine():
    assert cluster_from(None, None, {}) is None


@pytest.mark.parametrize(
    ("workers", "index", "environment", "message"),
    [
        ("a:1", 0, {}, "--workers: wanted two workers or more"),
        ("a:1,a:1", 0, {}, "--workers: wanted two workers or more, each once"),
        ("a:1,b", 0, {}, "--workers: 'b' is no address; wanted host:port"),
        ("a:1,b:1", None, {}, "--workers: wanted a --worker-index from 0 to 1, found None"),
        ("a:1,b:1", 2, {}, "--workers: wanted a --worker-index from 0 to 1, found 2"),
        (None, 0, {}, "--worker-index needs --workers"),
        (None, None, {"TF_CONFIG": "{"}, "TF_CONFIG: wanted"),
        (None, None, config(task={"type": "ps", "index": 0}), "TF_CONFIG: wanted workers alone"),
        (None, None, config(task={"type": "worker", "index": 5}), "TF_CONFIG: wanted a --worker-index from 0 to 1"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(workers, index, environment, message):
    with pytest.raises(RequestError) as caught:
        cluster_from(workers, index, environment)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("wanted", "cluster", "gpus", "found"),
    [
        (Strategy.AUTO, None, 0, Strategy.NONE),
        (Strategy.AUTO, None, 1, Strategy.NONE),
        (Strategy.AUTO, None, 2, Strategy.MIRRORED),
        (Strategy.AUTO, TWO, 0, Strategy.MULTI_WORKER),
        (Strategy.MIRRORED, None, 0, Strategy.MIRRORED),
        (Strategy.NONE, None, 4, Strategy.NONE),
    ],
)
def test_the_strategy_follows_from_machines_and_gpus(wanted, cluster, gpus, found):
    assert chosen(wanted, cluster, gpus) is found


@pytest.mark.parametrize(("wanted", "cluster"), [(Strategy.MULTI_WORKER, None), (Strategy.MIRRORED, TWO)])
def test_a_strategy_that_does_not_suit_the_machines_is_refused(wanted, cluster):
    with pytest.raises(RequestError, match=f"--strategy {wanted}"):
        chosen(wanted, cluster, 0)


def test_it_is_explained_with_the_traffic_that_it_costs():
    text = explained(Strategy.AUTO, TWO, 0, 1_000_000)

    assert text.startswith("strategy multi-worker: 2 machines: each has the whole model and a share of each batch")
    assert "Each worker sends 3.81 MiB for each step, which takes 0.032 s at 1 Gbit/s" in text
    assert "no need to split the model itself (model parallelism)" in text


def test_one_machine_sends_nothing_and_a_huge_model_is_told():
    text = explained(Strategy.AUTO, None, 0, 10**9)

    assert text.startswith("strategy none: one machine with no GPU")
    assert "sends" not in text
    assert "no model for a small device" in text
