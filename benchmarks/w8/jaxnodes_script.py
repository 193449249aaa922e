"""64-256-128-10 on the digits: jaxnodes."""

import jax

import jaxnodes as jn

parts = jn.data.split(jn.data.digits(), test=0.2)
net = jn.fully_connected([64, 256, 128, 10])
result = jn.fit(
    net,
    parts.train,
    key=jax.random.key(0),
    loss=jn.cross_entropy,
    optimizer=jn.adam(1e-3),
    epochs=30,
    batch_size=64,
)
x, y = parts.test[:2]
print(float(jn.accuracy(jn.predict(net, result.variables, x), y)))
