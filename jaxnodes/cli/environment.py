"""The machine: devices, versions, memory, and where compiled programs are kept."""

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnodes.cli.options import Doctor
from jaxnodes.training.saving import library_version


def keep_compiled_programs() -> Path | None:
    """Turns JAX's persistent compilation cache on, and says where it is; `None` if it is off.

    A folder that was chosen already (JAX_COMPILATION_CACHE_DIR) stays. Otherwise it is the
    one that JAXNODES_COMPILE_CACHE names, by default one below the user's cache; where that
    can't be written to, or is said to be "off", nothing is kept.
    """
    chosen = getattr(jax.config, "jax_compilation_cache_dir", None)
    if chosen:
        return Path(chosen)
    setting = os.environ.get("JAXNODES_COMPILE_CACHE", "")
    if setting.lower() in ("off", "no", "false", "0"):
        return None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        folder = Path(setting or Path(home) / "jaxnodes") / _machine()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter where there is no home
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result depends on."""
    from importlib.metadata import version

    packages = ("jax", "jaxlib", "numpy", "optax")
    return {
        "jaxnodes": library_version(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def devices() -> list[str]:
    """The devices that JAX computes on, in words."""
    return [
        device.platform
        if device.device_kind == device.platform
        else f"{device.platform} ({device.device_kind})"
        for device in jax.devices()
    ]


def device_line() -> str:
    """Device and versions in one line."""
    names = devices()
    device = names[0] if len(names) == 1 else f"{len(names)} x {names[0]}"
    shown = {name: v for name, v in versions().items() if name in ("jaxnodes", "python", "jax")}
    return "  ".join([device, *(f"{name} {version}" for name, version in shown.items())])


def run_doctor(options: Doctor) -> int:
    """Shows all of this, and tries a compiled matrix product."""
    cache = keep_compiled_programs()
    error, seconds = _product()
    fine = bool(error < 1e-3)
    report: dict[str, Any] = {
        "devices": devices(),
        "versions": versions(),
        "memory_gib": _memory(),
        "x64": jax.dtypes.canonicalize_dtype("float64") == "float64",
        "compile_cache": None if cache is None else str(cache),
        "matmul": {"works": fine, "largest_error": error, "seconds": seconds},
    }
    if options.json:
        print(json.dumps(report))
        return 0 if fine else 1
    lines = {
        "devices": ", ".join(report["devices"]),
        **report["versions"],
        "memory": ", ".join(f"{name} {gib:.1f} GiB" for name, gib in report["memory_gib"].items()),
        "x64": "on" if report["x64"] else "off",
        "compiled": f"kept in {cache}" if cache else "not kept",
        "matmul": f"{'works' if fine else 'is wrong'}: 512 x 512, compiled and run in "
        f"{seconds:.2f} s, largest difference to NumPy {error:.1e}",
    }
    for name, text in lines.items():
        print(f"{name:<10}{text}")
    return 0 if fine else 1


def _product() -> tuple[float, float]:
    """A jitted product against NumPy's in float64: the largest difference, and the seconds."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 512, 512)).astype(np.float32)
    began = time.perf_counter()
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))(a, b)
    came = np.asarray(product, np.float64)
    seconds = time.perf_counter() - began
    return float(np.abs(came - a.astype(np.float64) @ b.astype(np.float64)).max()), seconds


def _memory() -> dict[str, float]:
    """Memory of the host and of each device that tells, in GiB."""
    memory = {}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory["host"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for device in jax.local_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if limit:
            memory[str(device)] = limit / 2**30
    return memory


def _machine() -> str:
    """A name for this kind of processor: programs compiled for one may not run on another."""
    flags = ""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    text = f"{platform.machine()} {platform.processor()} {flags}"
    return f"{platform.machine() or 'any'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
