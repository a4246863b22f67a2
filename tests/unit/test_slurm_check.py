"""The parts of the preflight that need no Slurm: its notation, and the study's largest jobs."""

from dataclasses import replace

import pytest

from hardscale.errors import StudyError
from hardscale.ops.cluster import Node, Partition, demands, disk_mb, gpus_of, minutes
from hardscale.ops.profile import Profile, read_profile
from hardscale.ops.slurm_check import CheckedSetup, fail, misfits, ok, optimizers, requeue, settings, verdict, warn
from hardscale.settings.blocks import deep_merge
from hardscale.settings.study import parse_study

SLURM = {"executor": "slurm", "default-resources": {"launch": "slurm", "slurm_partition": "batch"}}
STUDY = {
    "name": "two",
    "ranks": {"default": 1, "410m": 4},
    "tasks": {"password_match": {"n_train": 100, "n_validation": 10}},
    "families": {"pythia": {"source": "builtin", "scales": ["14m", "410m"]}},
    "grid": [{"tasks": ["password_match"], "families": ["pythia"], "seeds": [0, 1]}],
    "defenses": {"adversarial-rounds": {"rounds": 2, "attack": {"kind": "gcg", "n_iterations": 1}}},
    "attacks": {"gcg": {"kind": "gcg", "n_iterations": 1}},
    "evaluate": [{"attacks": ["gcg"], "defenses": ["none", "adversarial-rounds"], "n_examples": 1}],
}


@pytest.fixture(autouse=True)
def no_site(monkeypatch):
    monkeypatch.delenv("HARDSCALE_SITE", raising=False)


def study(**changes):
    return parse_study(deep_merge(STUDY, changes), "two.yaml")


def profile(tmp_path, **changes):
    return Profile(tmp_path / "config.yaml", deep_merge(SLURM, changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UNLIMITED", None),
        ("3-00:00:00", 4320),
        ("1-02:03:04", 1563),
        ("02:30:00", 150),
        ("45:00", 45),
        ("7-12", 10800),
    ],
)
def test_times_of_slurm(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(null)", 0),
        ("gpu:2", 2),
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:a100:4,gpu:h100:8(S:0),shard:80", 12),
        ("mps:400", 0),
    ],
)
def test_gpus_in_a_list_of_resources(text, expected):
    assert gpus_of(text) == expected


def test_the_largest_job_of_each_rule_and_partition(tmp_path):
    found = {demand.rule: demand for demand in demands(study(), profile(tmp_path))}
    assert sorted(found) == ["adversarial_rounds_01_02", "attack", "finetune"]
    finetune, attack = found["finetune"], found["attack"]
    assert finetune.label == "password_match/pythia/410m/s0"
    assert (finetune.nodes, finetune.tasks, finetune.gpus) == (1, 4, 4)
    assert (attack.nodes, attack.tasks, attack.gpus) == (1, 1, 1)
    assert finetune.mem_mb == 4 * attack.mem_mb
    assert "--partition=batch" in attack.options()
    assert "--gpus-per-node=1" in attack.options()


def test_models_beside_the_victim_count_and_measures_are_jobs_of_the_cluster(tmp_path):
    files = {"behaviors": "test.csv"}
    scales = {"1b": {"hub": "org/victim-1b"}}
    others = {"7b": {"hub": "org/attacker-7b"}, "13b": {"hub": "org/judge-13b"}, "3b": {"hub": "org/rater-3b"}}
    chats = {
        "name": "chats",
        "tasks": {"apples": {"kind": "behaviors", "test": files, "train": files}},
        "families": {"a": {"source": "models", "scales": scales}, "others": {"source": "models", "scales": others}},
        "grid": [{"tasks": ["apples"], "families": ["a"], "seeds": [0]}],
        "attacks": {
            "direct": {"kind": "direct"},
            "pair": {"kind": "pair", "attacker": {"family": "others", "scale": "7b"}},
        },
        "evaluate": [{"attacks": ["direct", "pair"], "n_examples": 1}],
        "utility": {"mt_bench": {"questions": "q.jsonl", "judge": {"family": "others", "scale": "3b"}}},
    }
    judges = [{"kind": "rules"}, {"kind": "harmbench", "wording": "own", "model": {"family": "others", "scale": "13b"}}]

    def memory(study, rule):
        return max(d.mem_mb for d in demands(parse_study(study, "c.yaml"), profile(tmp_path)) if d.rule == rule)

    assert memory(chats, "attack") == 3_000 + 8 * (1_000 + 7_000)
    assert memory({**chats, "judges": judges}, "attack") == 3_000 + 8 * (1_000 + 7_000 + 13_000)
    assert memory(chats, "utility") == 3_000 + 8 * 1_000
    assert memory(chats, "mt_bench") == 3_000 + 8 * (1_000 + 3_000)


def test_the_profile_wins_over_the_estimate(tmp_path):
    changes = {
        "default-resources": {
            "distributed_partition": "large",
            "slurm_account": "us",
            "distributed_extra": "--constraint=a100",
        },
        "set-resources": {"attack": {"gres": "gpu:a100:1", "mem_mb": 12345}, "finetune": {"runtime": 77}},
    }
    found = {demand.rule: demand for demand in demands(study(), profile(tmp_path, **changes))}
    assert "--gres=gpu:a100:1" in found["attack"].options()
    assert not any("gpus-per-node" in option for option in found["attack"].options())
    assert found["attack"].mem_mb == 12345
    assert found["finetune"].minutes == 77
    assert {"--partition=large", "--account=us", "--constraint=a100"} <= set(found["finetune"].options())


def test_pretraining_asks_for_what_the_site_file_says_of_it(tmp_path, monkeypatch):
    site = tmp_path / "site.yaml"
    site.write_text("corrections: [{where: {phase: [pretrain]}, set: {runtime: 77}}]\n")
    monkeypatch.setenv("HARDSCALE_SITE", str(site))
    shape = {"n_layers": 2, "width": 32, "n_heads": 4}
    own = {"source": "scratch", "scales": {"30k": shape}, "pretrain": {"steps": 1}}
    cells = [{"tasks": ["password_match"], "families": ["own"], "seeds": [0]}]
    found = {demand.rule: demand for demand in demands(study(families={"own": own}, grid=cells), profile(tmp_path))}
    assert (found["pretrain"].minutes, found["finetune"].minutes) == (77, 60)


def test_a_local_profile_asks_slurm_for_nothing(tmp_path):
    assert demands(study(), Profile(tmp_path / "config.yaml", {"cores": 2})) == []


def test_later_attempts_ask_for_more(tmp_path):
    first, third = (demands(study(), profile(tmp_path), attempt)[0] for attempt in (1, 3))
    assert third.mem_mb / first.mem_mb == pytest.approx(2.25, rel=1e-3)


def test_disk_is_that_of_every_training_job():
    both, one = disk_mb(study()), disk_mb(study(families={"pythia": {"source": "builtin", "scales": ["14m"]}}))
    assert both > 10 * one > 0


def test_too_few_nodes_of_the_size_is_one_reason(tmp_path):
    demand = next(d for d in demands(study(), profile(tmp_path)) if d.rule == "finetune")
    large = Node("a", "idle", 64, 500_000, 8)
    batch = Partition("batch", "UP", None, "OFF", (large, Node("b", "down", 64, 500_000, 8)))
    assert misfits(demand, batch) == []
    (reason,) = misfits(replace(demand, nodes=2), batch)
    assert "asks for 2 nodes" in reason[0]
    assert "batch has 1" in reason[0]


def test_the_verdict_counts():
    assert verdict([ok("a", "b")]) == "slurm-check: ready (1 ok)"
    assert verdict([ok("a", "b"), warn("c", "d")]) == "slurm-check: ready (1 ok, 1 to know about)"
    assert verdict([fail("a", "b"), ok("c", "d")]) == "slurm-check: 1 thing to fix before a study can run here"
    assert str(fail("a", "two\nlines")) == "FAIL  a: two lines"


def test_an_expression_that_fails_names_the_profile(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("__use_yte__: true\njobs: ?1 / 0\n")
    with pytest.raises(StudyError, match=r"config.yaml: an expression failed: .*division by zero"):
        read_profile(tmp_path)


def test_what_happens_to_lost_and_preempted_jobs(tmp_path):
    scavenge = Partition("scavenge", "UP", None, "CANCEL", ())
    now = CheckedSetup(study(), profile(tmp_path), {"JobRequeue": "0"}, {"scavenge": scavenge, "": scavenge})
    lost, preempted = requeue(now)
    assert (lost.level, preempted.level) == ("warn", "warn")
    assert "slurm-requeue: true" in lost.text
    now.profile.values["slurm-requeue"] = True
    assert [finding.level for finding in requeue(now)] == ["ok", "warn"]


def test_a_profile_that_asks_for_arrays_fails(tmp_path):
    (found,) = settings(CheckedSetup(study(), profile(tmp_path, **{"slurm-array-jobs": "attack"})))
    assert (found.level, found.topic) == ("FAIL", "profile")
    assert f"{tmp_path}/config.yaml: slurm-array-jobs: " in found.text
    assert list(settings(CheckedSetup(study(), profile(tmp_path)))) == []


def test_an_optimizer_that_the_gpus_can_not_run_fails(tmp_path, monkeypatch):
    site = tmp_path / "site.yaml"
    site.write_text("gpu_memory_gb: 3\n")  # of 410m in float32, weights and gradients take 2.8
    monkeypatch.setenv("HARDSCALE_SITE", str(site))
    found = list(optimizers(CheckedSetup(study(), profile(tmp_path))))
    assert [finding.topic for finding in found] == ["optimizer"] * 2
    assert "pythia 410m" in found[0].text and "optimizer.factored" in found[0].text
    local = profile(tmp_path, **{"default-resources": {"launch": "local"}})
    assert list(optimizers(CheckedSetup(study(), local))) == []
