"""JAX's side of a capture: two runs may be under way at once."""

from compare.ladder.ladder import Ladder
from compare.ladder.pair import Pair
from tests.toys import CASES, trouble


def test_two_runs_of_jax_side_by_side():
    """Each is suspended between its sections, with nothing of its own left in force."""
    case = next(c for c in CASES if c.name == "functions")
    results = Ladder(Pair(case.twin, steps=2), ["xla:cpu", "xla:cpu+eager"]).run(())
    assert [result.verdict for result in results] == ["SAME", "SAME"], trouble(results[0])
