"""A training rank killed inside a run: the next run goes on, and ends with the same tables."""

import shutil

TABLES = ["results/tickets/tables/runs.parquet", "results/tickets/tables/runs.csv"]
MODEL = "models/tickets/mine/small/s0/none/r00"
EQUAL = [
    "tables/runs.parquet",
    "tables/runs.csv",
    f"{MODEL}/model/model.safetensors",
    f"{MODEL}/metrics.parquet",
    "attacks/tickets/mine/small/s0/none/r00/gcg/attack.parquet",
]


def test_a_killed_distributed_job_leaves_nothing_half_done_and_the_next_run_gives_the_same_tables(tickets, tmp_path):
    shutil.copytree(tickets.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    again = tickets.elsewhere(tmp_path)
    for name in ("models", "attacks", "tables", "figures"):  # what was prepared stays
        shutil.rmtree(again.results / name)

    broken = again.snakemake(*TABLES, HARDSCALE_FAULT="kill:finetune:step=9")
    broken.refused("rank 0", "died", "finetune tickets/mine/small/s0")
    assert not (again.results / MODEL).exists()
    assert (again.results / "state/tickets/mine/small/s0/none").is_dir()

    # Told to stop in the middle, the distributed job saves its state, ends, and is started again.
    resumed = again.snakemake(*TABLES, HARDSCALE_FAULT="usr2:finetune:step=9")
    assert resumed.status == 0, resumed.text
    assert "stopped at step 9 of 24; the state is saved" in resumed.text
    assert "resuming after step 9 of 24" in resumed.text
    assert "prepare task" not in resumed.text
    assert [path.name for path in (again.results / "state/tickets/mine/small/s0/none").iterdir()] == ["published.json"]
    for name in EQUAL:
        assert (again.results / name).read_bytes() == (tickets.results / name).read_bytes(), name
