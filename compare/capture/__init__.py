"""Capture: one side is run on one backend and recorded from inside, the model untouched.

`torch_run.TorchRun` and `jax_run.JaxRun` yield a run's sections: named tensors of the forward pass,
the gradients, the step, the trajectory. PyTorch's side is seen by hooks (`torch_recorder`), JAX's
by walking its jaxpr (`jaxpr`). Dropout's masks are given to both (`masks`); what is compiled here
is compiled so that it is right (`compiler`).
"""
