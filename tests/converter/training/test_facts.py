"""What the rewriter, the techniques and the export do to models, as a process with TensorFlow has seen it."""

import pytest

NAMES = ("picture", "residual", "series")  # of `nets`

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("training"), pytest.mark.timeout(300)]


@pytest.mark.parametrize("net", NAMES)
def test_the_plain_form_answers_as_the_model_does(facts, net):
    assert facts["rewritten"][net]["plain"] < 1e-5


@pytest.mark.parametrize("net", NAMES)
def test_batch_normalization_and_separable_layers_are_gone_from_it(facts, net):
    kinds = facts["rewritten"][net]["kinds"]

    assert not {
        kind for kind in kinds if kind.startswith(("BatchNormalization", "Separable", "Rescaling", "Sequential"))
    }


@pytest.mark.parametrize("net", NAMES)
def test_the_integer_model_answers_as_the_rounded_one_does(facts, net):
    assert facts["rewritten"][net]["apart"] < 0.01


@pytest.mark.parametrize("net", NAMES)
def test_it_stores_the_integers_that_were_trained(facts, net):
    assert all(facts["rewritten"][net]["integers"])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("unknown layer", "norm.keras: quantization-aware training knows no integer form of norm (LayerNormalization)"),
        ("subclassed", "subclassed.keras has layers of a class of its own, called by Python code"),
        ("labels", "y has label 6, but the model tells 4 classes apart"),
        ("shape", "has shape (9, 8), wanted (samples, 8, 8, 1)"),
        ("layer", "distillation.features: the teacher has no layer 'third'; it has"),
        ("teacher", "norm.keras: as a teacher it needs inputs of shape [(None, 8, 8, 1)], and has [(None, 8)]"),
        ("saving", "sparsity 0.99: removing channels saves 0.9"),
        ("nan", "the loss is nan in epoch 1 of quantization-aware training; give a smaller --learning-rate"),
    ],
)
def test_what_cannot_be_trained_is_told(facts, what, message):
    assert message in facts["refused"][what]


def test_pruned_clustered_and_quantized_weights_are_all_three_at_once(facts):
    trained = facts["trained"]["all"]

    assert [phase for phase, _ in trained["epochs"]] == [
        "pruning",
        "clustering",
        "quantization-aware training",
    ]
    for name, sparsity, values in trained["layers"]:
        assert sparsity == pytest.approx(0.5, abs=0.01), name
        assert values <= 9, name  # eight clusters, and 0
    assert trained["types"] == ["int32", "int8"]
    assert trained["accuracy"] > 0.8


def test_the_same_seed_gives_the_same_weights_bit_for_bit(facts):
    assert facts["trained"]["all"]["weights"] == facts["trained"]["again"]["weights"]


def test_without_quantization_weights_are_few_real_numbers_in_their_pattern_after_one_step_of_each(facts):
    trained = facts["trained"]["float"]

    assert {name: sparsity for name, sparsity, _ in trained["layers"]} == {"first": 0, "second": 0.5, "quarter": 0.5}
    assert all(values <= 9 for _, _, values in trained["layers"])
    assert "float32" in trained["types"]
    assert "int8" not in trained["types"]


def test_without_labels_a_model_learns_to_answer_as_it_did_and_rounding_may_begin_late(facts):
    trained = facts["trained"]["delayed"]

    assert trained["complete"]
    assert trained["types"] == ["int32", "int8"]
    assert trained["accuracy"] > 0.8


@pytest.mark.parametrize("net", NAMES)
def test_removing_channels_is_the_same_as_making_them_zero(facts, net):
    cut = facts["narrowed"][net]

    assert cut["apart"] < 1e-5
    assert cut["groups"]
    assert all(left < size for size, left in cut["groups"])
    assert cut["work"][1] <= (1 - cut["saving"]) * cut["work"][0]


def test_pruned_channels_are_really_gone(facts):
    trained = facts["trained"]["channels"]

    before, after = trained["work"]
    assert 0.2 * before < after <= 0.5 * before
    assert all(sparsity == 0 for _, sparsity, _ in trained["layers"])
    assert trained["accuracy"] > 0.7


def test_a_student_has_half_of_the_channels_and_learns_from_the_model_as_it_was(facts):
    trained = facts["trained"]["student"]

    before, after = trained["work"]
    assert after < 0.5 * before
    assert [phase for phase, _ in trained["epochs"]] == ["distillation"] * 3
    assert trained["accuracy"] > 0.7


def test_epochs_are_written_for_tensorboard_where_that_is_asked_for(facts):
    assert facts["trained"]["delayed"]["board"]
    assert not facts["trained"]["all"]["board"]


def test_a_training_that_is_stopped_at_once_still_gives_what_was_asked_for(facts):
    trained = facts["trained"]["stopped"]

    assert not trained["complete"]
    assert trained["epochs"] == []
    assert all(sparsity == pytest.approx(0.5, abs=0.01) and values <= 17 for _, sparsity, values in trained["layers"])
    assert trained["types"] == ["int32", "int8"]
