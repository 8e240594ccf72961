"""The ladder: weights, forward, gradients, step, trajectory, each rung judged.

`pair.Pair` makes a twin ready and hands out its runs; `ladder.Ladder` climbs and gives a
`result.Result`. `judge.Judge` says what is compared with what, `verdict` when a tensor is the same.
`captures` does the same across machines, with runs that were kept as a `bundle.Bundle`.
"""
