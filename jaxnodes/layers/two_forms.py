"""A program that is written in two forms: one to read and to derive, one to run on CPU.

Both compute the same. The plain form is what `jax.grad`, `jaxnodes.transforms` and all other
platforms see. The other one is only what XLA is given on CPU, so that it need not be
differentiable, nor have its nodes where they belong.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

two_forms_p = Primitive("two_forms")
two_forms_p.multiple_results = True


def two_forms(plain: Callable, on_cpu: Callable, *operands: Any) -> Any:
    """`plain(*operands)`, as one equation of a jaxpr; on CPU XLA compiles `on_cpu(*operands)`.

    Args:
      plain: a function of pytrees of arrays, with outputs of the same kind.
      on_cpu: the same function, written another way.
      operands: what both take.
    """
    flat, tree = jax.tree.flatten(operands)

    def traced(form):
        def from_flat(*flat):
            return form(*jax.tree.unflatten(tree, flat))

        return jax.make_jaxpr(from_flat, return_shape=True)(*flat)

    jaxpr, shapes = traced(plain)
    outputs = two_forms_p.bind(*flat, jaxpr=jaxpr, on_cpu=traced(on_cpu)[0])
    return jax.tree.unflatten(jax.tree.structure(shapes), outputs)


def _evaluated(closed: Any) -> Callable:
    return lambda *operands: eval_jaxpr(closed.jaxpr, closed.consts, *operands)


def _jvp(primals, tangents, *, jaxpr, on_cpu):
    varied = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of_varied(*values):
        operands = list(primals)
        for i, value in zip(varied, values, strict=True):
            operands[i] = value
        return _evaluated(jaxpr)(*operands)

    return jax.jvp(of_varied, [primals[i] for i in varied], [tangents[i] for i in varied])


def _batch(operands, dims, *, jaxpr, on_cpu):
    def batched(closed):
        return jax.make_jaxpr(jax.vmap(_evaluated(closed), tuple(dims)))(*operands)

    outputs = two_forms_p.bind(*operands, jaxpr=batched(jaxpr), on_cpu=batched(on_cpu))
    return outputs, [0] * len(outputs)


def _lowering(form):
    def lowered(*operands, **params):
        return _evaluated(params[form])(*operands)

    return mlir.lower_fun(lowered, multiple_results=True)


def _impl(*operands, **params):
    return jax.jit(lambda *operands: two_forms_p.bind(*operands, **params))(*operands)


two_forms_p.def_impl(_impl)
two_forms_p.def_abstract_eval(lambda *_, jaxpr, on_cpu: jaxpr.out_avals)
ad.primitive_jvps[two_forms_p] = _jvp
batching.primitive_batchers[two_forms_p] = _batch
mlir.register_lowering(two_forms_p, _lowering("jaxpr"))
mlir.register_lowering(two_forms_p, _lowering("on_cpu"), platform="cpu")
