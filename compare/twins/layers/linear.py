"""A linear layer over the last of three axes."""

from compare import Array, Twin

Linear = Twin(config={"in_features": 4, "out_features": 3}, inputs={"x": Array((5, 2, 4))})
