"""`Replicas`: copies of one model in Ray actors, batches to the least busy, deaths survived.

An actor has one batch at a time, so a death costs that batch and says which one it was. The batch
is asked anew of another actor, at most `retries` times: a batch that kills whoever reads it is
given up, and a run goes on without it. The dead actor is replaced; the new one joins when it has
loaded its model, and the others work on meanwhile.

Only `promptgym.llms.ray_cluster.connect` imports ray.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from promptgym.errors import ModelError
from promptgym.llms.base import LanguageModel
from promptgym.llms.ray_cluster import RayOptions, cause_of, connect, first_line, is_own
from promptgym.llms.registry import load_model
from promptgym.types import JSON

POLL = 1.0
"""Seconds after which a waiting thread looks around; what it waits for wakes it sooner."""


class Worker:
    """What lives in an actor: one copy of the model."""

    model: LanguageModel

    def start(self, spec: str, options: JSON, gpus: float, threads: int) -> JSON:
        """Load the model; return what it is, and the process it lives in.

        Not in `__init__`: what a constructor raises reaches the driver as the death of the actor.
        """
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        for library in ("OMP", "RAYON"):  # torch, tokenizers
            os.environ[f"{library}_NUM_THREADS"] = str(threads)
        self.model = model = load_model(spec, **options)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(threads)
        return {
            "name": model.name,
            "kind": model.kind,
            "mask_token": model.mask_token,
            "gap_token": getattr(model, "gap_token", ""),
            "pid": os.getpid(),
        }

    def call(self, method: str, arguments: Sequence[Any]) -> Any:
        """Call a method of the model."""
        return getattr(self.model, method)(*arguments)


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of a result: the batch outlived no replica; `reason` says so."""

    reason: str


@dataclass(eq=False, slots=True)
class Replica:
    """One actor.

    Attributes:
        actor: its handle.
        born: the reference to its description, ready when the model is loaded.
        state: starting, idle, busy or dead.
        since: when it was started, monotonic seconds.
        worked: seconds it has been busy.
        about: its description, once it is there.
    """

    actor: Any
    born: Any
    state: Literal["starting", "idle", "busy", "dead"] = "starting"
    since: float = 0.0
    worked: float = 0.0
    about: JSON | None = None


@dataclass(slots=True)
class _Job:
    """One batch: where its result goes, what is asked, how often that killed a replica."""

    place: int
    arguments: Sequence[Any]
    deaths: int = 0


class Replicas:
    """The actors of one model. Threads may share them.

    Attributes:
        options: how many, how large.
        about: name, kind and mask token of the model.
        deaths: replicas that died so far.
    """

    def __init__(self, spec: str, model_options: JSON, options: RayOptions) -> None:
        """Start all replicas and wait for them.

        Raises:
            ExtraMissingError: ray is not installed.
            ModelError: the model cannot be loaded, replicas died or did not start in time.
        """
        self.ray = connect(options)
        self.options = options
        self.spec, self.model_options = spec, model_options
        self.deaths = 0
        self._failed_starts = 0
        self._changed = threading.Condition(threading.RLock())
        self.replicas: list[Replica] = []
        with self._changed:
            for _ in range(options.replicas):
                self._spawn()
            while any(r.state == "starting" for r in self.replicas):
                self._admit(POLL)
        abouts = [r.about for r in self.replicas if r.about is not None]
        names = sorted({str(about["name"]) for about in abouts})
        if len(names) != 1:
            raise ModelError(
                f"model {spec!r}: the replicas loaded different models: {names}; expected one: "
                "give a revision, or the same folder on every machine"
            )
        self.about = {k: v for k, v in abouts[0].items() if k != "pid"}

    def _spawn(self) -> None:
        """Start one more actor; the lock is held."""
        options = self.options
        threads = max(1, int(options.cpus_per_replica + 0.999))
        remote = self.ray.remote(Worker).options(
            num_cpus=0 if is_own(self.ray) else options.cpus_per_replica,
            num_gpus=options.gpus_per_replica,
            max_restarts=0,
            max_concurrency=1,
        )
        actor = remote.remote()
        born = actor.start.remote(self.spec, self.model_options, options.gpus_per_replica, threads)
        self.replicas.append(Replica(actor, born, since=time.monotonic()))

    def _admit(self, seconds: float) -> None:
        """Let those in that have started, within so many seconds; the lock is held.

        Raises:
            ModelError: a replica could not load the model, or none is left that could start.
        """
        starting = {r.born: r for r in self.replicas if r.state == "starting"}
        if not starting:
            return
        done, _ = self.ray.wait(list(starting), num_returns=1, timeout=seconds)
        for ref in done:
            replica = starting[ref]
            try:
                replica.about = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                self._drop(replica)
                raise cause_of(error) from None
            except self.ray.exceptions.RayError as error:
                self._failed_starts += 1
                self.bury(replica, error)
                continue
            self._failed_starts = 0
            replica.state = "idle"
            self._changed.notify_all()
        late = time.monotonic() - self.options.start_timeout
        for replica in starting.values():
            if replica.state == "starting" and replica.since < late:
                self._drop(replica)
                raise ModelError(
                    f"model {self.spec!r}: a replica did not start in "
                    f"{self.options.start_timeout:g} s; it needs {self.options.cpus_per_replica:g} "
                    f"CPUs and {self.options.gpus_per_replica:g} GPUs, the cluster has "
                    f"{self._free()} free; ask for fewer replicas, or give start_timeout"
                )

    def _free(self) -> str:
        found = self.ray.available_resources()
        return f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"

    def _drop(self, replica: Replica) -> None:
        """Take a replica out, and make sure that it is gone."""
        replica.state = "dead"
        if replica in self.replicas:
            self.replicas.remove(replica)
        self.ray.kill(replica.actor)

    def bury(self, replica: Replica, error: Exception) -> None:
        """Replace a replica that died.

        Raises:
            ModelError: replicas die while they load the model, one after the other.
        """
        with self._changed:
            if replica.state == "dead":
                return
            self._drop(replica)
            self.deaths += 1
            if self._failed_starts > self.options.retries:
                raise ModelError(
                    f"model {self.spec!r}: {self._failed_starts} replicas in a row died while they "
                    f"loaded it; the last: {first_line(error)}"
                )
            self._spawn()
            self._changed.notify_all()

    def run(self, method: str, batches: Sequence[Sequence[Any]]) -> list[Any]:
        """Call a method of the model once a batch, spread over the replicas.

        Args:
            method: its name.
            batches: the arguments of every call.

        Returns:
            The results in the order of the batches; `Lost` for one that outlived no replica.

        Raises:
            PromptGymError: what the method raised.
        """
        jobs = deque(_Job(i, arguments) for i, arguments in enumerate(batches))
        out: list[Any] = [None] * len(batches)
        flying: dict[Any, tuple[_Job, Replica, float]] = {}
        try:
            while jobs or flying:
                while jobs and (replica := self._least_busy()) is not None:
                    job = jobs.popleft()
                    ref = replica.actor.call.remote(method, job.arguments)
                    flying[ref] = job, replica, time.monotonic()
                self._wait(list(flying), idle=not jobs)
                done, _ = (
                    self.ray.wait(list(flying), num_returns=len(flying), timeout=0)
                    if (flying)
                    else ([], [])
                )
                for ref in done:
                    job, replica, since = flying.pop(ref)
                    self._finish(ref, job, replica, since, jobs, out)
        finally:
            for _, replica, since in flying.values():
                self._release(replica, since)
        return out

    def _least_busy(self) -> Replica | None:
        """Take the idle replica that has worked least; None if all are busy."""
        with self._changed:
            self._admit(0)
            idle = [r for r in self.replicas if r.state == "idle"]
            if not idle:
                return None
            replica = min(idle, key=lambda r: r.worked)
            replica.state = "busy"
            return replica

    def _release(self, replica: Replica, since: float) -> None:
        """Give a replica back."""
        with self._changed:
            replica.worked += time.monotonic() - since
            if replica.state == "busy":
                replica.state = "idle"
            self._changed.notify_all()

    def _wait(self, flying: list[Any], *, idle: bool) -> None:
        """Wait until a batch is answered or, unless there is no more to send, a replica is free."""
        with self._changed:
            starting = [] if idle else [r.born for r in self.replicas if r.state == "starting"]
            if not flying and not starting:
                self._changed.wait(POLL)  # other threads have all replicas
                return
        self.ray.wait([*flying, *starting], num_returns=1, timeout=POLL)

    def _finish(
        self,
        ref: Any,
        job: _Job,
        replica: Replica,
        since: float,
        jobs: deque[_Job],
        out: list[Any],
    ) -> None:
        """Take the result of a batch, or queue it again if its replica died."""
        try:
            out[job.place] = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            self._release(replica, since)
            raise cause_of(error) from None
        except self.ray.exceptions.RayError as error:
            job.deaths += 1
            if job.deaths <= self.options.retries:
                jobs.appendleft(job)
            else:
                out[job.place] = Lost(
                    f"{job.deaths} replicas died of this batch; the last: {first_line(error)}"
                )
            self.bury(replica, error)
        else:
            self._release(replica, since)
