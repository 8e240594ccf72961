"""What things cost, as ratios against what a user would run instead; how often the harness errs.

`ratios` measures processes, `by_hand` is what they run, with the training `steps`; `alarms` counts
false alarms of clean runs.
"""
