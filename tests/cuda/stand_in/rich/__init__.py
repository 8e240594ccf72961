"""Nothing of rich: where it is missing, flax imports these names and uses none to run a model."""
