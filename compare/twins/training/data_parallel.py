"""What one device does: the mean by weights, and batch norm of a whole batch.

A Twin runs on one device; tests/training/test_data_parallel.py gives them two.
"""

from compare import Array, Image, Twin
from compare.twins import functions

GlobalBatchNorm = Twin(config={"num_features": 3, "momentum": 0.3}, inputs={"x": Image(5, 3, 4, 2)})


@functions("training/data_parallel", losses=Array((5,)), weight=Array((5,)))
def mean_loss(module, losses, weight):
    return {"mean": module.mean_loss(losses, weight)}
