"""How a kernel slides, as people write it: sizes and padding brought to one form."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxnodes.errors import JaxNodesError, check, check_count

Size = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]


def kernel_sizes(kernel_size: Size, where: str) -> tuple[int, ...]:
    kernel = each_of(kernel_size, 2)
    check(1 <= len(kernel) <= 3, f"expected 1 to 3 kernel sizes, got {kernel_size!r}", where)
    for size in kernel:
        check_count(size, "kernel_size", where)
    return tuple(map(int, kernel))


def sizes_for(value: Size, rank: int, name: str, where: str) -> tuple[int, ...]:
    sizes = each_of(value, rank)
    check(len(sizes) == rank, f"expected {name} for {rank} spatial axes, got {value!r}", where)
    for size in sizes:
        check_count(size, name, where)
    return tuple(map(int, sizes))


def padding_for(
    padding: Padding,
    inputs: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    where: str,
) -> tuple[tuple[int, int], ...]:
    """Low and high padding for each spatial axis."""
    rank = len(kernel)
    if padding == "VALID":
        return ((0, 0),) * rank
    if padding == "SAME":
        pads = []
        for size, k, stride, dilation in zip(inputs, kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)
    if isinstance(padding, str):
        raise JaxNodesError(
            f"expected padding 'SAME', 'VALID', an int, or one int or pair for each axis, "
            f"got {padding!r}",
            where,
        )
    each = each_of(padding, rank)
    check(len(each) == rank, f"expected padding for {rank} spatial axes, got {padding!r}", where)
    pads = [each_of(pair, 2) for pair in each]
    for pair in pads:
        check(len(pair) == 2, f"expected pairs (low, high) of padding, got {pair!r}", where)
        for size in pair:
            check_count(size, "padding", where, least=0)
    return tuple((int(low), int(high)) for low, high in pads)


def each_of(value: Any, rank: int) -> tuple[Any, ...]:
    """What is given for each axis, or one thing for all of them."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank


def shortest(sizes: Iterable[Any]) -> Any:
    """Sizes that `each_of` spells out in full: one number if all are that number."""
    first, *others = sizes = tuple(sizes)
    return first if isinstance(first, int) and others.count(first) == len(others) else sizes


def as_tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: hashable."""
    return tuple(as_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value
