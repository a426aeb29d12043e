"""Ray, loaded and started when something asks for it."""

from __future__ import annotations

import logging
import os
from typing import Any

from metagym.errors import InvalidArgumentError

INSTALL = "pip install -e '.[ray]' in a checkout of metagym"


def start_ray(address: str | None = None, cpus: int = 1) -> Any:
    """The module ``ray``, connected; a Ray that runs in this process already is used as it is.

    Args:
        address: of a cluster, such as "auto"; None: the one that the variable RAY_ADDRESS names,
            or else a Ray of our own on this machine, which ends with this process.
        cpus: what a Ray of our own has at least, whatever the machine has.

    Raises:
        InvalidArgumentError: Ray is not installed, or there is no cluster at ``address``.
    """
    try:
        import ray
    except ImportError:
        raise InvalidArgumentError(f"Ray is not installed: {INSTALL}.") from None
    if ray.is_initialized():
        return ray
    own = address in (None, "local") and "RAY_ADDRESS" not in os.environ
    machine: dict[str, Any] = {
        "num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False,
    }  # fmt: skip
    try:
        ray.init(
            address, log_to_driver=False, logging_level=logging.ERROR, **(machine if own else {})
        )
    except (ConnectionError, ValueError) as error:
        raise InvalidArgumentError(
            f"There is no Ray cluster to be reached at address={address!r} ({error}); start one "
            "with `ray start --head`, or leave the address out."
        ) from None
    return ray


def check_cpus(ray: Any, wanted: float, what: str) -> None:
    """Refuse what would wait for ever: more CPUs than the Ray that runs has.

    Raises:
        InvalidArgumentError: with ``what`` needs so many.
    """
    there = ray.cluster_resources().get("CPU", 0.0)
    if wanted > there:
        raise InvalidArgumentError(f"{what} needs {wanted:g} CPUs, Ray has {there:g}: use fewer.")
