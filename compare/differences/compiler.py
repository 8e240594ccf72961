"""What is no habit of a framework but a mistake of its compiler."""

from __future__ import annotations

from compare.differences.catalogue import Difference


def _fused() -> tuple[float, float]:
    from compare.capture.compiler import CANARIES, REMEDY

    return CANARIES[0].apart("float64"), CANARIES[0].apart("float64", REMEDY)


fused = Difference(
    code="XLA-01",
    title="compiled, JAX gives something else than operation by operation",
    torch="torch.compile and eager agree",
    jax="jax.jit on the CPU makes some programs wrong: in jaxlib 0.10.2 sums of (matrix @ row)^2",
    fix_torch="nothing: its values are right",
    fix_jax='jax.jit(f, compiler_options={"xla_cpu_experimental_ynn_fusion_type": ""})',
    kinds="",  # not a layer's: `find` compiles the whole forward pass, with the option and without
    measure=_fused,
    gone="jaxlib 0.11.0",
)
