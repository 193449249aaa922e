"""How a traced function is read, recorded and changed: what `record` and `intervene` are made of.

Of a function `tracing` makes a `program`: its equations, with the `sites` of its nodes,
named or found (`automatic`). The program is evaluated with values recorded and
`interventions` applied. `control_flow` is the one file that knows the parameters of JAX's
loops, branches and calls.
"""
