"""Faults at random moments of many runs; at the end the rows are those of an undisturbed run.

    python workflows/chaos.py                            # 100 runs
    python workflows/chaos.py --runs 10 --seed 3 --captions 200
    python workflows/chaos.py --results chaos.jsonl      # goes on where it was stopped

A run is the command `parsing/run.py`, with parsers that need no model. Most runs use one Ray cluster
of a head and two nodes on this machine, started and stopped here; some start a Ray of their own. One
kind of fault strikes each run, once or twice, at moments drawn by lot from --seed. After every fault
the same command goes on, until it ends with success. Needs root, for a small file system that fills
up. Results are printed as a table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.flags import setting
from workflows.chaos_faults import FAULTS, POISON, Fault, Scene, environment_of
from workflows.chaos_report import Outcome, Results, compare, report
from workflows.command import at_least, run_command
from workflows.listening import Listener
from workflows.local_cluster import (
    LocalCluster,
    clean_environment,
    kill,
    local_cluster,
    wait_for,
    with_variable,
)

ROOT = Path(__file__).resolve().parents[1]
MOST_STARTS = 8  # of the same command, before a run counts as not survived
DISK = "24m"
# That processes may take to end after their run. Ray's agents of a driver that was killed while it
# started look for its GCS for about a minute before they go.
ORPHAN_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """How much is tried.

    Raises:
        UserError: a number below 1, or a fault that there is not.
    """

    runs: int = setting(100, "each with one kind of fault", metavar="N")
    seed: int = setting(0, "of the faults, their order and their moments", metavar="N")
    captions: int = setting(400, "of each run", metavar="N")
    shard_size: int = setting(10, "captions of a shard", metavar="N")
    seconds: float = setting(0.05, "of the fake for a caption", metavar="S")
    hold: float = setting(15.0, "seconds after which a stop or a full disk passes", metavar="S")
    patience: float = setting(400.0, "seconds that one start of a run may take", metavar="S")
    only: str | None = setting(None, "faults whose names hold this", metavar="WORD")
    results: str | None = setting(
        None,
        "keep what came of each run here, and leave out the runs that are here",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        at_least(self, runs=1, captions=20, shard_size=1)
        if not self.faults():
            raise UserError(f"no fault is called '{self.only}'")

    def faults(self) -> list[Fault]:
        return [fault for fault in FAULTS if (self.only or "") in fault.name]

    @property
    def shards(self) -> int:
        return -(-self.captions // self.shard_size)

    def of_a_run(self) -> dict[str, Any]:
        """What decides how a run of a given number goes."""
        return {k: v for k, v in asdict(self).items() if k not in ("runs", "results")}


class Campaign:
    """One cluster, one input, and what is expected of every run over it."""

    def __init__(self, settings: Settings, cluster: LocalCluster, folder: Path, disk: Path):
        self._settings, self._cluster = settings, cluster
        self._folder, self._disk = folder, disk
        self._captions = folder / "captions.tsv"
        lines = [f"https://a/{n}\ta green house number {n}" for n in range(settings.captions)]
        lines[settings.captions // 3] += f" and a {POISON} tree"
        self._captions.write_text("\n".join(lines) + "\n")
        self._expected: dict[str, pa.Table] = {}

    def run(self, done: Container[int] = ()) -> Iterator[Outcome]:
        """Every kind of fault as often as any other, in an order drawn by lot; without what is done."""
        order: list[Fault] = []
        random = Random(self._settings.seed)
        while len(order) < self._settings.runs:
            order += random.sample(self._settings.faults(), len(self._settings.faults()))
        for number, fault in enumerate(order[: self._settings.runs]):
            if number not in done:
                yield self._one(number, fault, Random(f"{self._settings.seed} {number}"))

    def _one(self, number: int, fault: Fault, random: Random) -> Outcome:
        outcome = Outcome(fault.name, number, lasting=fault.strike is None)
        kind = "endpoint" if fault.weather else "fake"
        if kind not in self._expected:
            self._expected[kind] = self._undisturbed(kind)
        mark = f"{os.getpid()}-{number}"
        output = self._disk / f"run-{number}"
        times = 0 if fault.strike is None else random.randint(1, 2)
        began = time.monotonic()
        with self._server(fault.weather, number) as flags:
            for _ in range(MOST_STARTS):
                outcome.starts += 1
                code = self._start(fault, times, outcome, random, mark, output, flags)
                if code == 0:
                    break
        outcome.seconds = time.monotonic() - began
        outcome.ended = code == 0
        outcome.left = self._left(mark)
        compare(outcome, self._expected[kind], _rows(output), fault.flags[-1:] == (POISON,))
        while len(self._cluster.nodes) > 2:
            self._cluster.remove(self._cluster.nodes[-1])
        subprocess.run(["rm", "-rf", str(output)], check=True)
        return outcome

    def _start(
        self,
        fault: Fault,
        times: int,
        outcome: Outcome,
        random: Random,
        mark: str,
        output: Path,
        flags: Sequence[str],
    ) -> int:
        """One start of the command, struck until it has been `times` times in all starts together.

        Returns:
            its exit code, or -1 where it did not end in time.
        """
        hold = self._settings.hold
        url = f"lying://{output}" if fault.lying else str(output)
        told = [each.format(half_hold=hold / 120) for each in fault.flags]
        command = self._command(fault.own_ray, url, fault.lying) + [*flags, *told]
        environment = clean_environment() | {"TAGALIGN_CHAOS": mark}
        environment |= environment_of(fault, random.randrange(1 << 30), hold)
        driver = psutil.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        listener = Listener(driver.stdout)
        end = time.monotonic() + self._settings.patience
        cluster = None if fault.own_ray else self._cluster
        scene = Scene(driver, cluster, self._disk, output, random, hold)
        try:
            while outcome.times < times:
                self._wait_for_moment(driver, random, output, again=bool(outcome.moments))
                moment = _committed(output) / self._settings.shards
                if driver.poll() is not None or not fault.strike(scene):
                    break
                outcome.moments.append(round(moment, 3))
            code = driver.wait(timeout=max(1.0, end - time.monotonic()))
        except psutil.TimeoutExpired:
            code = -1
        finally:  # also where the campaign is stopped
            kill([driver] if driver.poll() is None else [])
        outcome.silence = max(outcome.silence, listener.finish())
        outcome.said += listener.lines
        outcome.ends.append(f"{code}: {''.join(listener.lines[-1:])}")
        return code

    def _wait_for_moment(
        self, driver: psutil.Popen, random: Random, output: Path, again: bool
    ) -> None:
        """A fifth is struck while the run starts, the others after a number of commits drawn by lot.

        Args:
            again: a second strike of the same run comes after more commits, where some are left.
        """
        shards, committed = self._settings.shards, _committed(output)
        wanted = random.randrange(min(committed, shards - 2) if again else -shards // 4, shards - 1)
        if wanted < 0:
            time.sleep(random.uniform(0, 8))
            return
        while driver.poll() is None and _committed(output) < wanted:
            time.sleep(0.05)

    def _command(self, own_ray: bool, output: str, lying: bool) -> list[str]:
        program = "workflows/lying_files.py" if lying else "parsing/run.py"
        command = [sys.executable, program, "--captions", str(self._captions), "--output", output]
        command += ["--shard-size", str(self._settings.shard_size), "--wait-for-room", "5"]
        return [*command, "--address", "local" if own_ray else self._cluster.address]

    def _server(self, weather: dict[str, float] | None, seed: int):
        """Flags of the parser: of the fake, or of an endpoint that goes wrong now and then."""
        if not weather:
            return contextlib.nullcontext(
                ["--parser", "fake", "--fake-seconds", str(self._settings.seconds)]
            )
        return _endpoint(weather, seed)

    def _undisturbed(self, kind: str) -> pa.Table:
        output = self._folder / f"undisturbed-{kind}"
        calm = {"calm": 0.0} if kind == "endpoint" else None
        with self._server(calm, 0) as flags:
            done = subprocess.run(
                [*self._command(False, str(output), False), *flags],
                cwd=ROOT,
                env=clean_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise UserError(f"the undisturbed run failed: {done.stdout}{done.stderr}")
        return _rows(output)

    def _left(self, mark: str) -> list[str]:
        """Names of processes that outlive their run, and of actors that outlive their driver."""

        def left() -> list[psutil.Process]:
            return with_variable("TAGALIGN_CHAOS", mark) + self._cluster.processes("ray::Worker")

        try:
            wait_for(lambda: not left(), "all processes of a run are gone", ORPHAN_SECONDS)
        except TimeoutError:
            return [str(each) for each in left()]
        return []


def _endpoint(weather: dict[str, float], seed: int):
    """Flags for a server of the tests, which goes wrong as the weather says."""
    from tests.parsing.endpoint.faulty_server import FaultyServer

    @contextlib.contextmanager
    def serving():
        server = FaultyServer(weather, seed)
        try:
            flags = ["--endpoint", f"{server.url}/v1", "--endpoint-model", "any"]
            yield [*flags, "--batch", "8", "--endpoint-timeout", "10"]
        finally:
            server.shutdown()
            server.server_close()

    return serving()


def _committed(output: Path) -> int:
    return len(list(output.glob("part-*.json")))


def _rows(output: Path) -> pa.Table | None:
    parts = sorted(output.glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts]) if parts else None


def work(settings: Settings) -> str:
    """Runs the campaign; returns its table.

    Raises:
        UserError: this machine lets nobody mount a file system, or --results is of another campaign.
    """
    results = Results(settings.results, settings.of_a_run())
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as folder:
        disk = Path(folder) / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise UserError("a small file system must be mounted, which needs root")
        try:
            with local_cluster() as cluster:
                for _ in range(2):
                    cluster.add()
                campaign = Campaign(settings, cluster, Path(folder), disk)
                for outcome in campaign.run(results.outcomes.keys()):
                    results.add(outcome)
                    print(outcome.line(), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("stopped; the table is of the runs so far", file=sys.stderr)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    return report([*results.outcomes.values()])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nodes and mounts must go with it
    sys.exit(run_command(__doc__, Settings, work))
