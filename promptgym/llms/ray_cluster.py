"""Ray itself: options, the cluster, and what its errors say."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from promptgym.errors import ExtraMissingError, ModelError, PromptGymError
from promptgym.types import JSON

_own = ""  # address of the cluster that this process started


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Options of `load_model("ray:...")`; all others go to the model that is replicated.

    Attributes:
        replicas: actors, each with a copy of the model.
        gpus_per_replica: GPUs of each; a fraction shares one, 0 keeps replicas off them.
        cpus_per_replica: CPU cores of each, rounded up its threads.
        batch: texts sent to a replica at once; None sends ever smaller batches in a call, of at
            least 16 and at most 2,048 texts.
        retries: how often a batch is asked anew when the replica that had it died.
        start_timeout: seconds in which a replica must have loaded its model.
        address: of a Ray cluster ("auto" for one that runs on this machine); None takes
            `RAY_ADDRESS`, or else starts one of this process's own, in which cores are not
            rationed: as many replicas start as are asked for.
    """

    replicas: int = 1
    gpus_per_replica: float = 0.0
    cpus_per_replica: float = 1.0
    batch: int | None = None
    retries: int = 2
    start_timeout: float = 600.0
    address: str | None = None

    @classmethod
    def split(cls, spec: str, options: JSON) -> tuple[RayOptions, JSON]:
        """Return the options of Ray, and those of the model.

        Raises:
            ModelError: for values that mean nothing.
        """
        known = {f.name for f in fields(cls)}
        out = cls(**{k: v for k, v in options.items() if k in known})
        least = {"replicas": 1, "gpus_per_replica": 0, "cpus_per_replica": 0, "retries": 0}
        for name, bound in {**least, "batch": 1, "start_timeout": 0}.items():
            value = getattr(out, name)
            if name == "batch" and value is None:
                continue
            whole = name in ("replicas", "batch", "retries")
            good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not good or value < bound:
                what = "a whole number" if whole else "a number"
                raise ModelError(
                    f"model {spec!r}: {name} must be {what} of at least {bound}, got {value!r}"
                )
        return out, {k: v for k, v in options.items() if k not in known}


def connect(options: RayOptions) -> Any:
    """Return the ray module, connected to a cluster: a running one, or one of its own.

    A cluster of its own has no dashboard, reports no usage and gives its workers the priority of
    this process (Ray's default is the lowest but four), unless the environment says otherwise.

    Raises:
        ExtraMissingError: ray is not installed.
    """
    global _own
    try:
        import ray
    except ImportError as error:
        raise ExtraMissingError(
            "models behind ray: need Ray: pip install 'promptgym[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    address = options.address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "warning"}
    if address:
        ray.init(address=address, **quiet)
        return ray
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
        os.environ.setdefault(name, "0")
    ray.init(address="local", include_dashboard=False, **quiet)
    _own = ray.get_runtime_context().gcs_address
    return ray


def is_own(ray: Any) -> bool:
    """Return whether the cluster that this process is connected to is one of its own."""
    return bool(ray.get_runtime_context().gcs_address == _own)


def cause_of(error: Any) -> Exception:
    """Return what was raised in an actor; what is not ours is wrapped with its name."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PromptGymError):
        return cause
    return ModelError(f"a replica raised {type(cause).__name__}: {cause}")


def first_line(error: Exception) -> str:
    """Return the name of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
