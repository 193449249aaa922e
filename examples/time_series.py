"""Time series: an LSTM forecasts tomorrow's electricity demand, hour by hour.

The series is generated: 40 weeks of a town's demand in megawatts (MW), with mornings and evenings,
weekends, cold spells of a few days, and noise. (The series that come with installed packages are
stock prices and ten seconds of an EEG; there the last value is hard to beat, by anything.) The
network reads two days of demand with the clock and the calendar, and makes the next 24 hours at
once. The last quarter of the series, in the order of time, is never trained on.

Claims: it beats three naive forecasts (the last value, the same hour yesterday, the same hour a
week ago), and has less than three quarters of the error of the best of them; its errors grow with
the hours ahead. It doesn't beat a linear regression on the same windows: the series is a sum.
"""

import math
from pathlib import Path

import jax
import numpy as np
import optax
from _run import run
from sklearn.linear_model import Ridge

import jaxnodes as jn

DAY, WEEK = 24, 168


def demand(weeks, seed):
    """Hourly demand (T,) in MW, and what the calendar says (T, 4): the clock, and the weekend.

    The calendar is that of a day later, so that the last day of a window tells of the next one.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(weeks * WEEK)
    clock = hours % DAY
    weekend = (hours // DAY) % 7 >= 5
    peaks = 60 * np.exp(-(((clock - 8) / 2.5) ** 2)) + 90 * np.exp(-(((clock - 19) / 3) ** 2))
    night = 80 * np.exp(-(((clock - 3.5) / 4) ** 2))
    cold = np.zeros(len(hours))  # warms up or cools down by itself within about three days
    for t in range(1, len(hours)):
        cold[t] = 0.985 * cold[t - 1] + rng.normal(0, 4.5)
    season = 60 * np.sin(2 * np.pi * hours / (52 * WEEK))
    load = 420 + season + cold + np.where(weekend, 0.45, 1) * peaks - night - 35 * weekend
    load += rng.normal(0, 6, len(hours))
    angle = 2 * np.pi * clock / DAY
    tomorrow = ((hours + DAY) // DAY) % 7 >= 5
    return load, np.stack([np.sin(angle), np.cos(angle), weekend, tomorrow], axis=1)


def main(out: Path) -> dict[str, object]:
    load, calendar = demand(weeks=40, seed=0)
    parts = jn.data.split_series(np.column_stack([load, calendar]), test=0.25)
    center, spread = parts.train[:, 0].mean(), parts.train[:, 0].std()

    def samples(part, stride):
        """Windows (N, 48, 5), and the 24 hours after each less its last one, both by `spread`."""
        scaled = np.column_stack([(part[:, 0] - center) / spread, part[:, 1:]])
        x, y = jn.data.windows(scaled, 2 * DAY, horizon=DAY, stride=stride)
        return x, y[..., 0]

    train, (x, y) = samples(parts.train, stride=2), samples(parts.test, stride=1)
    net = jn.models.forecaster(x.shape[1:], DAY, hidden=(32,))
    steps = 25 * math.ceil(len(train[0]) / 64)
    schedule = optax.cosine_decay_schedule(0.01, steps)
    result = jn.fit(
        net,
        train,
        key=jax.random.key(0),
        loss=jn.mse,
        optimizer=jn.adam(schedule),
        epochs=25,
        batch_size=64,
    )
    forecast = center + spread * np.asarray(jn.predict(net, result.variables, x, batch_size=512))
    truth = center + spread * y

    # Window i ends before hour i + 48 of the test part.
    test = parts.test[:, 0]
    after = 2 * DAY + np.arange(len(x))[:, None] + np.arange(DAY)
    naive = {
        "last value": np.broadcast_to(test[after[:, :1] - 1], after.shape),
        "same hour yesterday": test[after - DAY],
    }
    lately = len(parts.train) + after  # a week before the first hours lies in the training part
    naive["same hour a week ago"] = load[lately - WEEK]
    flat = Ridge().fit(train[0].reshape(len(train[0]), -1), train[1])
    linear = center + spread * flat.predict(x.reshape(len(x), -1))
    forecasts = {"LSTM": forecast, "linear regression": linear, **naive}
    errors = {name: np.abs(f - truth).mean(axis=0) for name, f in forecasts.items()}
    print(f"{len(train[0]):,} windows trained on, {len(x):,} later ones forecast")
    print("mean absolute error in MW   1 h   6 h  24 h ahead  all 24 h")
    for name, error in errors.items():
        of_hours = "".join(f"{error[hour - 1]:6.1f}" for hour in (1, 6, 24))
        print(f"{name:25}{of_hours}{error.mean():16.1f}")

    figure, axes = jn.plots.panels(2, columns=2, size=(5.4, 3.4))
    days = np.arange(0, 7 * DAY, DAY) + DAY * 3  # seven forecasts, each made at midnight
    hours = (days[:, None] + np.arange(DAY)).ravel() - days[0]
    axes[0].plot(hours, truth[days].ravel(), "k-", lw=2.2, label="truth")
    axes[0].plot(hours, forecast[days].ravel(), color=jn.plots.ORANGE, label="LSTM, made at 0 h")
    axes[0].set_xticks(np.arange(0, 8 * DAY, DAY))
    axes[0].set(xlabel="time in a week of the test part (hours)", ylabel="demand (MW)")
    colors = (jn.plots.ORANGE, jn.plots.PURPLE, jn.plots.GRAY, jn.plots.BLUE, jn.plots.GREEN)
    styles = ("-", "-", ":", "--", "-.")
    for (name, error), color, style in zip(errors.items(), colors, styles, strict=True):
        axes[1].plot(np.arange(1, DAY + 1), error, style, color=color, lw=2, label=name)
    axes[1].set(xlabel="time ahead (hours)", ylabel="mean absolute error (MW)", ylim=(0, None))
    axes[1].set_xticks([1, 6, 12, 18, 24])
    axes[0].set_ylim(top=560)
    axes[1].set_ylim(top=105)
    for ax in axes:
        ax.legend(frameon=False, fontsize=9, loc="upper center", ncols=2)
    jn.plots.save(figure, out / "time_series.png")
    return {"load": load, "truth": truth, "forecasts": forecasts, "errors": errors}


if __name__ == "__main__":
    run(main, __file__)
