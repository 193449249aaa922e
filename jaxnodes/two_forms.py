"""A program that is written in two forms: one to read and to derive, one to run on CPU.

Both compute the same. The plain form is what `jax.grad`, `jaxnodes.transforms` and all other
platforms see. The other one is only what XLA is given on CPU, so that it need not be
differentiable, nor have its nodes where they belong.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun
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
    return _bound(plain, on_cpu, None, (), operands)


def two_linear_forms(
    plain: Callable, on_cpu: Callable, transpose: Callable, constants: Any, operands: Any
) -> Any:
    """`two_forms(plain, on_cpu, constants, operands)`, linear in `operands`.

    Args:
      plain, on_cpu: as in `two_forms`.
      transpose: `(constants, cotangents of the outputs) -> cotangents of the operands`.
      constants: a pytree of arrays.
      operands: a pytree of arrays.
    """

    def flat_transpose(constants_tree, outputs_tree, *flat):
        count = constants_tree.num_leaves
        constants = jax.tree.unflatten(constants_tree, flat[:count])
        cotangents = jax.tree.unflatten(outputs_tree, flat[count:])
        return jax.tree.leaves(transpose(constants, cotangents))

    return _bound(plain, on_cpu, flat_transpose, constants, operands)


def _bound(plain, on_cpu, transpose, constants, operands):
    arguments = operands if transpose is None else (constants, operands)
    flat, tree = jax.tree.flatten(arguments)

    def traced(form):
        def from_flat(*flat):
            return form(*jax.tree.unflatten(tree, flat))

        return jax.make_jaxpr(from_flat, return_shape=True)(*flat)

    jaxpr, shapes = traced(plain)
    outputs_tree = jax.tree.structure(shapes)
    if transpose is not None:
        transpose = functools.partial(transpose, jax.tree.structure(constants), outputs_tree)
        # Compiled, for outside of jit JAX transposes anew at each call what it has traced once.
        transpose = jax.jit(transpose, inline=True)
    outputs = two_forms_p.bind(
        *flat,
        jaxpr=jaxpr,
        on_cpu=traced(on_cpu)[0],
        transpose=transpose,
        constants=len(jax.tree.leaves(constants)),
    )
    return jax.tree.unflatten(outputs_tree, outputs)


def _jvp(primals, tangents, **params):
    varied = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    count = params["constants"]
    if params["transpose"] is not None and min(varied) >= count:
        linear = map(ad.instantiate_zeros, tangents[count:])
        return tuple(
            two_forms_p.bind(*primals[:count], *operands, **params)
            for operands in (primals[count:], linear)
        )

    def of_varied(*values):
        operands = list(primals)
        for i, value in zip(varied, values, strict=True):
            operands[i] = value
        return jaxpr_as_fun(params["jaxpr"])(*operands)

    return jax.jvp(of_varied, [primals[i] for i in varied], [tangents[i] for i in varied])


def _transpose(cotangents, *operands, transpose, constants, **_):
    linear = transpose(*operands[:constants], *map(ad.instantiate_zeros, cotangents))
    cts = [
        ct if ad.is_undefined_primal(operand) else None
        for operand, ct in zip(operands[constants:], linear, strict=True)
    ]
    return [None] * constants + cts


def _batch(operands, dims, *, jaxpr, on_cpu, transpose, constants):
    if transpose is not None:
        # What is transposed has the axis, so that its transpose need not sum over it.
        size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
        linear = [
            jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
            for x, d in zip(operands[constants:], dims[constants:], strict=True)
        ]
        operands = [*operands[:constants], *linear]
        dims = [*dims[:constants], *[0] * len(linear)]
        transpose = _batched_transpose(transpose, dims[:constants])

    def batched(closed):
        return jax.make_jaxpr(jax.vmap(jaxpr_as_fun(closed), tuple(dims)))(*operands)

    outputs = two_forms_p.bind(
        *operands,
        jaxpr=batched(jaxpr),
        on_cpu=batched(on_cpu),
        transpose=transpose,
        constants=constants,
    )
    return outputs, [0] * len(outputs)


def _batched_transpose(transpose, dims):
    def batched(*flat):
        cotangents = [0] * (len(flat) - len(dims))
        return jax.vmap(transpose, (*dims, *cotangents))(*flat)

    return jax.jit(batched, inline=True)


def _lowering(form):
    def lowered(*operands, **params):
        return jaxpr_as_fun(params[form])(*operands)

    return mlir.lower_fun(lowered, multiple_results=True)


def _impl(*operands, jaxpr, on_cpu, **_):
    return jaxpr_as_fun(on_cpu if jax.default_backend() == "cpu" else jaxpr)(*operands)


two_forms_p.def_impl(_impl)
two_forms_p.def_abstract_eval(lambda *_, jaxpr, **__: jaxpr.out_avals)
ad.primitive_jvps[two_forms_p] = _jvp
ad.primitive_transposes[two_forms_p] = _transpose
batching.primitive_batchers[two_forms_p] = _batch
mlir.register_lowering(two_forms_p, _lowering("jaxpr"))
mlir.register_lowering(two_forms_p, _lowering("on_cpu"), platform="cpu")
