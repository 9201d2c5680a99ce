"""A recipe says what a training does; what is wrong in it is told with its line."""

import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.training.recipe import (
    Distillation,
    OptimizerName,
    Pattern,
    Pruning,
    Ranges,
    Recipe,
    Technique,
    checked,
    parse_recipe,
)

FULL = b"""\
techniques: [qat, pruning, qat]
data: train.npz
evaluation: test.npz
epochs: 12
batch_size: 64
seed: 7
held_back: 0.2
minutes: 1.5
optimizer:
  name: sgd
  learning_rate: 0.01
  momentum: 0.8
pruning:
  sparsity: 0.75
  pattern: "2:4"
  initial_sparsity: 0.1
  skip: [first, last]
clustering: {clusters: 8}
distillation:
  teacher: large.keras
  temperature: 2
  weight: 0.25
  width: 0.75
  features: [one=other]
  features_weight: 5
qat:
  ranges: moving_average
  delay: 0.25
  calibration: 100
"""


def test_every_key_is_read():
    recipe = parse_recipe(FULL, "recipe.yaml")

    assert recipe.techniques == (Technique.QAT, Technique.PRUNING, Technique.QAT)
    assert (recipe.data, recipe.evaluation, recipe.epochs, recipe.batch_size) == ("train.npz", "test.npz", 12, 64)
    assert (recipe.seed, recipe.held_back, recipe.minutes) == (7, 0.2, 1.5)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.momentum) == (
        OptimizerName.SGD,
        0.01,
        0.8,
    )
    assert recipe.pruning == Pruning(0.75, Pattern.TWO_OF_FOUR, 0.1, ("first", "last"))
    assert recipe.clustering.clusters == 8
    assert recipe.distillation == Distillation("large.keras", 2, 0.25, 0.75, ("one=other",), 5)
    assert (recipe.qat.ranges, recipe.qat.delay, recipe.qat.calibration) == (Ranges.MOVING_AVERAGE, 0.25, 100)


def test_one_technique_is_enough():
    assert checked(parse_recipe(b"techniques: [qat]", "recipe.yaml")) == Recipe(techniques=(Technique.QAT,))


def test_techniques_are_done_in_their_order_and_once():
    assert checked(parse_recipe(FULL, "recipe.yaml")).techniques == (Technique.PRUNING, Technique.QAT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("techniques: [qat]\nepoch: 3", 'recipe.yaml:2: epoch is not a known key; did you mean "epochs"?'),
        ("techniques: [qad]", "recipe.yaml:1: techniques[0]: found 'qad'; did you mean \"qat\"?"),
        ("pruning:\n  sparsity: 2", "recipe.yaml:2: pruning.sparsity: found '2', wanted a number from 0 to 1"),
        ("pruning:\n  pattern: 4:2", "recipe.yaml:2: pruning.pattern: found '4:2'"),
        ("distillation:\n  features: [one]", "recipe.yaml:2: distillation.features[0]: found 'one', wanted two layers"),
        ("epochs: many", "recipe.yaml:1: epochs: found 'many', wanted a whole number from 0 to 10000"),
        ("epochs: [", "recipe.yaml:2: not YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, message):
    with pytest.raises(RequestError) as caught:
        parse_recipe(text.encode(), "recipe.yaml")

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3", "no technique is asked for"),
        ("techniques: [qat]\noptimizer: {learning_rate: 0}", "learning_rate 0 changes nothing"),
        ("techniques: [pruning]\npruning: {sparsity: 1}", "sparsity 1 leaves no weights"),
        ("techniques: [qat]\nheld_back: 0", "held_back 0: wanted a share"),
        ("techniques: [distillation]\ndistillation: {width: 0}", "width 0 leaves no channels"),
        ("techniques: [qat]\nheld_back: 1", "held_back 1: wanted a share"),
    ],
)
def test_what_makes_no_sense_is_refused(text, message):
    with pytest.raises(RequestError) as caught:
        checked(parse_recipe(text.encode(), "recipe.yaml"))

    assert str(caught.value).startswith(message)
