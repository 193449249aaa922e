"""Neural networks as pure functions in JAX, with every node in view.

    import jaxnodes as jn

The public names are listed in `__init__.pyi`; each is imported when first used,
so that `import jaxnodes` and the command line's `--help` start at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
