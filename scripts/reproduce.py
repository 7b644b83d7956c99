#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the rows of one of the paper's tables, and write it as Markdown, JSON and a plot.

Every run is a process of its own under OUT/TABLE/ROW-seedN, one at a time unless --jobs says more; finished
runs are kept, a stopped one goes on where it was. OUT/TABLE/table.json keeps what a table needs of each run:
runs that it lists are not trained again, also where their folders are gone. Accuracy is the mean and standard
deviation over the seeds. Computation is MACs x bits x bits / 1024 of all that was executed, the final test
apart; energy is modelled, and its factors by technique are in the JSON, with the hashes of the weights of
each run.

With --choose, the settings that a row lists as tried are trained on a part of the training images and
tested on the rest, under OUT/TABLE/choices/ROW; the table tells how many there are. What else lies there as
a finished run with a validation share is counted too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from e2train.train import PRESETS, DataError, RunConfig, TrainError, read_config, read_run
from e2train.train.resources import load_split
from paper_tables import TABLES, Settings, Table, slug
from table_files import Record, is_priced_alike, read_records, record, write_choices, write_table

Run = tuple[RunConfig, Path]
VALIDATION = 0.1  # share of the training images that --choose holds out


def main() -> int:
    options = parse()
    check(options)
    os.nice(options.nice)
    table, out = TABLES[options.table], options.out / options.table
    choices = out / "choices"
    if options.steps:
        table = shortened(table, options.steps)
        out = options.out / f"{options.table}-{options.steps}steps"
    names = options.rows or list(table.rows)
    if unknown := set(names) - set(table.rows):
        sys.exit(f"no rows {', '.join(sorted(unknown))}; there are: {', '.join(table.rows)}")
    KEPT.extend(read_records(out))
    check_images(table, options.data, out, choices)
    if options.choose:
        failures = train(candidates(table, names, choices, options), jobs=options.jobs)
        print(write_choices(choices, table))
    else:
        own = int(table.common.get("threads", PRESETS[table.preset].threads))
        # Earlier records do not name their threads.
        KEPT[:] = [{**one, "threads": one.get("threads", own)} for one in KEPT]
        planned = {name: seeds(table, name, out, options) for name in table.rows}
        asked = {name: options.seeds or table.rows[name].seeds for name in names}
        runs = [
            planned[name][seed] for seed in range(max(asked.values())) for name in names if seed < asked[name]
        ]

        def write() -> None:
            found = {name: [r for run in of if (r := finished(*run))] for name, of in planned.items()}
            if any(found.values()):
                others = [one for one in KEPT if not any(one in records for records in found.values())]
                write_table(out, table, found, choices=choices, others=others)

        failures = train(runs, jobs=options.jobs, ended=write)
        if (out / "table.md").exists():
            print((out / "table.md").read_text(encoding="utf-8"))
    for failure in failures:
        print(failure, file=sys.stderr)
    return int(bool(failures))


def shortened(table: Table, steps: int) -> Table:
    """A table of so many steps; rows and choices that have other numbers of them keep their ratio."""
    whole = int(table.common.get("steps", PRESETS[table.preset].steps))

    def fewer(settings: Settings) -> Settings:
        own = {"steps": max(1, int(settings["steps"]) * steps // whole)} if "steps" in settings else {}
        return {**settings, **own}

    rows = {
        name: replace(row, settings=fewer(row.settings), tried=tuple(map(fewer, row.tried)))
        for name, row in table.rows.items()
    }
    return replace(table, common={**table.common, "steps": steps}, rows=rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--seeds", type=int, help="seeds of every row; each row's own number by default")
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="some of the rows; all by default")
    parser.add_argument(
        "--steps", type=int, help="another number of scheduled steps, in OUT/TABLE-Nsteps: a shorter version"
    )
    parser.add_argument("--choose", action="store_true", help="try settings on held-out training images")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; 1 by default")
    parser.add_argument("--nice", type=int, default=0, help="how far to stand back behind other processes")
    parser.add_argument("--host", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="threads of a run; those of the table by default")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """End with one line where an option makes no sense."""
    if not Path(options.data).is_dir():
        sys.exit(f"no folder {options.data}: give the one that holds the data set with --data")
    for name in ("seeds", "steps", "jobs", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            sys.exit(f"--{name} must be at least 1, not {value}")


def check_images(table: Table, data: str, out: Path, choices: Path) -> None:
    """End with one line where what is there of the table was trained on other images; old runs do not say."""
    try:
        images = load_split(table.config(next(iter(table.rows)), {}, data=data)).sha256
    except DataError as error:
        sys.exit(str(error))
    configs = sorted({*out.rglob("config.toml"), *choices.rglob("config.toml")})
    had = [(str(file.parent), read_config(file).data_sha256) for file in configs]
    had += [(f"a run of {out / 'table.json'}", one.get("data_sha256", "")) for one in KEPT]
    for where, sha256 in had:
        if sha256 not in ("", images):
            sys.exit(
                f"{where} was trained on images with SHA-256 {sha256[:12]}..., {data} has those with "
                f"{images[:12]}...; give their folder with --data, or another --out"
            )


def seeds(table: Table, name: str, out: Path, options: argparse.Namespace) -> list[Run]:
    """The runs of a row, with those that it may have from before."""
    own = table.rows[name].seeds
    return [
        (
            table.config(name, {"seed": seed, **computed(options)}, data=options.data),
            out / f"{slug(name)}-seed{seed}",
        )
        for seed in range(max(own, options.seeds or own))
    ]


def computed(options: argparse.Namespace) -> Settings:
    """Where runs are computed; a run that was computed otherwise counts as well."""
    threads = {"threads": options.threads} if options.threads else {}
    return {"host": options.host, **threads}


def candidates(table: Table, names: Sequence[str], choices: Path, options: argparse.Namespace) -> list[Run]:
    """The runs that rows' settings are chosen by."""
    runs = []
    for name in names:
        for tried in table.rows[name].tried:
            changes = {**tried, **computed(options), "validation": VALIDATION}
            config = table.config(name, changes, data=options.data)
            tried_text = " ".join(f"{key} {value}" for key, value in tried.items())
            runs.append((config, choices / slug(name) / slug(f"{tried_text} {config.steps} steps")))
    return runs


def train(runs: Sequence[Run], *, jobs: int, ended: Callable[[], None] = lambda: None) -> list[str]:
    """Train what is not there yet, and call ``ended`` after each; a failure does not stop the others."""
    failures = []
    under_way: set[subprocess.Popen[bytes]] = set()
    missing = [one for one in runs if finished(*one) is None]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [pool.submit(run, *one, under_way) for one in missing]
        with stopping(futures, under_way):
            for each in as_completed(futures):
                if failure := each.result():
                    failures.append(failure)
                else:
                    ended()
    ended()
    return failures


@contextmanager
def stopping(
    futures: Sequence[Future[str | None]], under_way: set[subprocess.Popen[bytes]]
) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, let the runs under way save what they have, and start no others."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        waiting = [future for future in futures if not future.cancel()]
        asked: set[subprocess.Popen[bytes]] = set()
        while wait(waiting, timeout=0.5).not_done:
            for process in under_way - asked:
                process.terminate()
            asked |= under_way
        sys.exit("stopped; start again to go on")
    finally:
        signal.signal(signal.SIGTERM, before)


def run(settings: RunConfig, where: Path, under_way: set[subprocess.Popen[bytes]]) -> str | None:
    """Train in a process of its own; what went wrong, if anything did."""
    begun, file = where / "config.toml", where.parent / f"{where.name}.toml"
    where.parent.mkdir(parents=True, exist_ok=True)
    if begun.exists() and (where / "checkpoint.pt").exists():  # it goes on as it was begun
        before = read_config(begun)
        there = settings.changed(host=before.host, threads=before.threads)
        settings = there if there.hash == before.hash else settings
    file.write_text(settings.to_toml(), encoding="utf-8")
    same = begun.exists() and read_config(begun).hash == settings.hash
    options = ["--resume"] if same and (where / "checkpoint.pt").exists() else ["--overwrite"]
    print(f"{where}", flush=True)
    command = [sys.executable, "-m", "e2train", "train", str(file), "--out", str(where), *options]
    # In a session of its own, where Ctrl-C reaches it once: from here.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    under_way.add(process)
    code = process.wait()
    under_way.discard(process)
    return f"{where}: the run ended with exit code {code}" if code else None


RECORDS: dict[tuple[Path, str], Record] = {}
KEPT: list[Record] = []  # of runs that the table has listed before


def finished(settings: RunConfig, where: Path) -> Record | None:
    """What is known of a run, if it has ended and was set so."""
    key = where, settings.hash
    if key not in RECORDS:
        kept = [one for one in KEPT if is_priced_alike(one)]
        try:
            found = [record(read_run(where)), *kept]
        except TrainError:
            found = kept
        for one in found:
            if one["config_sha256"] == settings.changed(host=one["host"], threads=one.get("threads")).hash:
                RECORDS[key] = one
                break
    return RECORDS.get(key)


if __name__ == "__main__":
    sys.exit(main())
