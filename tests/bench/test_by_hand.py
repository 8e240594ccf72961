"""Steps without the harness: timed, and of the sizes that are meant."""

from compare.bench import by_hand, steps


def test_steps_are_timed(capsys):
    for side in (by_hand.torch_steps, by_hand.jax_steps):
        side("foundations/mlp:MLP")
        assert float(capsys.readouterr().out) > 0


def test_the_step_of_resnet18_is_a_small_one():
    twin = steps.sized("cnn/resnet:resnet18")
    assert twin.inputs["x"].shape == (16, 3, 64, 64)
    assert twin.targets["labels"].shape == (16,)
    assert twin.config["width"] == 64
