"""64-256-128-10 on the digits: keras. The backend is set by KERAS_BACKEND."""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(
    (x / 16).astype("float32"), y, test_size=0.2, random_state=0, stratify=y
)
layers = keras.layers
model = keras.Sequential(
    [
        keras.Input((64,)),
        layers.Dense(256, "relu"),
        layers.Dense(128, "relu"),
        layers.Dense(10),
    ]
)
model.compile(
    keras.optimizers.Adam(1e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(x, y, batch_size=64, epochs=30, verbose=0)
print(model.evaluate(x_test, y_test, verbose=0)[1])
