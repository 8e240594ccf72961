"""Study: what the lessons are written with.

`lessons` runs the cells of a script and holds the two frameworks' numbers to each other,
`networks.Networks` is one network on both sides from one set of weights, `blocks` writes the page
of building blocks, `demo/` is the small transformer of `diptych demo`.
"""
