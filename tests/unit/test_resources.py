"""What jobs ask of a cluster, and how distributed jobs are started."""

from types import SimpleNamespace

import pytest

from hardscale.errors import StudyError
from hardscale.ops.preflight import check_plan, optimizer_problems
from hardscale.plan import table
from hardscale.plan.estimates import ResourceEstimates, n_moments, n_parameters, training_bytes, zero_stage
from hardscale.plan.jobs import Jobs
from hardscale.plan.launching import Launch
from hardscale.plan.site import Correction, Site, read_site
from hardscale.settings.models import FamilySettings
from hardscale.settings.study import parse_study
from hardscale.settings.training import OptimizerSettings

STUDY = parse_study(
    {
        "name": "s",
        "ranks": {"default": 1, "6.9b": 4, "12b": 8},
        "tasks": {"password_match": {}},
        "families": {"pythia": {}},
        "grid": [{"tasks": ["password_match"], "families": ["pythia"], "seeds": [0]}],
        "attacks": {"gcg": {"kind": "gcg"}},
        "evaluate": [{"attacks": ["gcg"], "defenses": ["none"]}],
    },
    "s.yaml",
)


def cell(scale):
    return SimpleNamespace(cell=f"password_match/pythia/{scale}/s0")


def attack(scale):
    return SimpleNamespace(lineage=f"password_match/pythia/{scale}/s0/none", round="00", part="gcg")


def estimates(study, site):
    """Of finetuning."""
    return ResourceEstimates(study, table.FINETUNE, site)


def test_training_bytes_with_two_moments_are_sixteen_a_parameter_shared_by_stage():
    assert training_bytes(1_000, 1, 0, 2) == 16_000
    assert training_bytes(1_000, 4, 0, 2) == 16_000
    assert training_bytes(1_000, 4, 1, 2) == 8_000 + 2_000
    assert training_bytes(1_000, 4, 2, 2) == 4_000 + 3_000
    assert training_bytes(1_000, 4, 3, 2) == 4_000
    assert all(training_bytes(1_000, 1, stage, 2) == 16_000 for stage in range(4))


def test_training_bytes_follow_the_optimizer():
    kept = [OptimizerSettings(kind="adamw"), OptimizerSettings(), OptimizerSettings(factored=False)]
    assert [training_bytes(1_000, 4, 0, n_moments(settings)) for settings in kept] == [16_000, 8_000, 12_000]
    assert [training_bytes(1_000, 4, 1, n_moments(settings)) for settings in kept] == [10_000, 8_000, 9_000]


@pytest.mark.parametrize(
    ("n_params", "ranks", "stage"),
    [(10**9, 4, 0), (6 * 10**9, 8, 1), (12 * 10**9, 8, 2), (20 * 10**9, 8, 3), (10**12, 8, 3), (10**12, 1, 0)],
)
def test_the_smallest_stage_that_fits_is_taken(n_params, ranks, stage):
    assert zero_stage(n_params, ranks, 80e9, 2) == stage


OVERRIDE = {"where": {"scale": ["12b"]}, "set": {"optimizer": {"kind": "adamw"}}}


def large(optimizer=None, overrides=(), **finetune):
    """The study with a defense and other optimizers."""
    block = {"optimizer": optimizer or {}, "overrides": list(overrides)}
    values = {
        **STUDY.model_dump(exclude_unset=True),
        "finetune": {**block, **finetune},
        "defenses": {"rounds": {"rounds": 1, "attack": {"kind": "gcg"}, **block}},
        "evaluate": [{"attacks": ["gcg"], "defenses": ["none", "rounds"]}],
    }
    return parse_study(values, "s.yaml")


def test_the_stage_follows_the_optimizer_of_the_phase_and_the_cell():
    kinds = ("adamw", "adafactor")
    stages = [estimates(large({"kind": kind}), Site()).zero_stage(cell("6.9b")) for kind in kinds]
    assert stages == [1, 0]  # 110 and 55 GB
    needs = estimates(large(overrides=[OVERRIDE]), Site())
    assert [needs.optimizer(cell(scale)).kind for scale in ("6.9b", "12b")] == ["adafactor", "adamw"]
    defended = SimpleNamespace(lineage="password_match/pythia/12b/s0/rounds")
    rounds = needs.of(table.ROUNDS)
    assert (rounds.optimizer(defended).kind, rounds.zero_stage(defended)) == ("adamw", 2)
    model = SimpleNamespace(family="pythia", scale="12b")
    assert needs.of(table.PRETRAIN).optimizer(model).kind == "adamw"  # language modeling


SLURM = Launch("slurm")


@pytest.mark.parametrize(
    ("study", "site", "launch", "refused"),
    [
        (large(), Site(), SLURM, ["finetune", "defenses.rounds"]),
        (large(optimizer={"factored": False}), Site(), SLURM, []),
        (large(overrides=[OVERRIDE]), Site(), SLURM, []),
        (large(), Site(gpu_memory_gb=141), SLURM, []),
        (large(), Site(gpus_per_node=0), SLURM, []),
        (large(), Site(), Launch(), []),
        (STUDY.model_copy(update={"ranks": 1}), Site(), SLURM, []),
    ],
)
def test_factored_adafactor_that_needs_zero_is_refused_before_any_job(study, site, launch, refused, capsys):
    jobs = Jobs(study, site)
    if not refused:
        check_plan(jobs, launch)
        return
    with pytest.raises(SystemExit) as left:
        check_plan(jobs, launch)
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == 1
    assert [line.split(".optimizer")[0] for line in lines] == [f"error: {block}" for block in refused]
    for word in (
        "pythia 12b",
        "optimizer.factored",
        "kind: adamw",
        "factored: false",
        "at least 110",
        "HARDSCALE_SITE",
    ):
        assert word in lines[0]


def test_a_corrected_stage_is_refused_and_may_be_corrected_back():
    def corrected(*stages):
        where = {"scale": ["1b"]}
        rules = [Correction.model_validate({"where": where, "set": {"zero_stage": stage}}) for stage in stages]
        return optimizer_problems(Jobs(STUDY, Site(gpu_memory_gb=141, corrections=rules)))

    [line] = corrected(1)
    assert "pythia 1b" in line and "the correction zero_stage: 0" in line
    assert corrected(1, 0) == []


def test_geometry_follows_size_ranks_and_site():
    needs = estimates(STUDY, Site())
    assert [needs.gpu(cell(scale)) for scale in ("14m", "1b", "6.9b", "12b")] == [1, 1, 4, 8]
    assert [needs.nodes(cell(scale)) for scale in ("14m", "12b")] == [1, 1]
    assert needs.of(table.ATTACK).gpu(attack("12b")) == 1
    small = estimates(STUDY, Site(gpus_per_node=4))
    assert small.nodes(cell("12b")) == 2
    assert (
        estimates(STUDY, Site(gpus_per_node=3)).nodes(cell("12b")) == 4
    )  # eight ranks on three a node: two on each of four
    bare = estimates(STUDY, Site(gpus_per_node=0))
    assert (bare.gpu(cell("12b")), bare.nodes(cell("12b")), bare.zero_stage(cell("12b"))) == (0, 1, 0)
    assert estimates(STUDY, Site(gpus_per_node=0, ranks_per_node=1)).nodes(cell("12b")) == 8


def test_a_retry_asks_for_half_as_much_again():
    needs = estimates(STUDY, Site())
    assert needs.mem_mb(cell("1b"), 2) == int(needs.mem_mb(cell("1b"), 1) * 1.5)
    assert needs.runtime(cell("1b"), 3) == int(needs.runtime(cell("1b"), 1) * 2.25)


def test_corrections_are_for_what_they_name_and_the_last_wins():
    rules = [
        {"where": {"phase": ["finetune"]}, "set": {"runtime": 10}},
        {"where": {"phase": ["finetune"], "scale": ["12b"]}, "set": {"runtime": 99, "gpu": 16}},
    ]
    needs = estimates(STUDY, Site(corrections=[Correction.model_validate(rule) for rule in rules]))
    plain = estimates(STUDY, Site())
    assert (needs.runtime(cell("1b"), 1), needs.runtime(cell("12b"), 1), needs.gpu(cell("12b"))) == (10, 99, 16)
    assert needs.of(table.ATTACK).runtime(attack("12b"), 1) == plain.of(table.ATTACK).runtime(attack("12b"), 1)
    assert needs.mem_mb(cell("12b"), 1) == plain.mem_mb(cell("12b"), 1)


def test_pretraining_is_corrected_apart_from_preparing_the_model():
    rules = [
        {"where": {"phase": ["pretrain"]}, "set": {"runtime": 77}},
        {"where": {"phase": ["prepare_model"]}, "set": {"runtime": 5}},
    ]
    site = Site(corrections=[Correction.model_validate(rule) for rule in rules])
    needs = ResourceEstimates(STUDY, table.PREPARE_MODEL, site)
    pretrain = needs.of(table.PRETRAIN)
    model = SimpleNamespace(family="pythia", scale="1b")  # the wildcards of both rules
    assert (needs.runtime(model, 1), pretrain.runtime(model, 1)) == (5, 77)
    assert pretrain.optimizer(model).kind == "adamw"
    assert pretrain.gpu(model) == needs.gpu(model) == 1


def test_utility_is_one_process_however_many_ranks_train():
    measured = SimpleNamespace(lineage="password_match/pythia/12b/s0/none", round="00")
    assert ResourceEstimates(STUDY, table.UTILITY, Site()).gpu(measured) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [("gpus_per_nod: 4", "gpus_per_nod"), ("gpus_per_node: many", "many"), ("[", "not valid YAML")],
)
def test_a_wrong_site_file_is_refused(text, words, tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        read_site(path)


def test_a_site_file_corrects_the_phases_of_the_job_table_and_no_others():
    for kind in table.TABLE.values():
        if kind.estimates:
            assert Correction.model_validate({"where": {"phase": [kind.estimates]}, "set": {"gpu": 1}})
    with pytest.raises(ValueError, match="found 'finetuning', allowed are prepare_model, pretrain, finetune"):
        Correction.model_validate({"where": {"phase": ["finetuning"]}, "set": {"gpu": 1}})


def test_the_example_site_is_valid(request):
    assert read_site(request.config.rootpath / "profiles/slurm/site.example.yaml")


def test_distributed_jobs_take_their_site_from_the_profile():
    assert Launch.of_profile(None) == Launch()
    profile = {"launch": "slurm", "slurm_partition": "gpu", "slurm_account": "'a'", "distributed_partition": "big"}
    launch = Launch.of_profile({**profile, "distributed_extra": "--constraint=a100 --exclusive"})
    assert launch.how == "slurm"
    assert launch.site == {
        "partition": "big",
        "account": "a",
        "extra": {"constraint": "a100", "exclusive": True},
    }
    with pytest.raises(StudyError, match="allowed are local, slurm"):
        Launch.of_profile({"launch": "pbs"})


def test_former_names_of_a_profile_still_count_and_are_said():
    launch = Launch.of_profile({"launch": "slurm", "gang_partition": "big", "gang_extra": "--exclusive"})
    assert launch.site == {"partition": "big", "extra": {"exclusive": True}}
    assert [line.split()[2:6] for line in launch.renamed] == [
        ["gang_partition", "is", "now", "distributed_partition;"],
        ["gang_extra", "is", "now", "distributed_extra;"],
    ]
    both = Launch.of_profile({"launch": "slurm", "gang_partition": "old", "distributed_partition": "new"})
    assert both.site == {"partition": "new"}


def test_ranks_are_one_number_or_by_scale():
    assert [STUDY.ranks_of(scale) for scale in ("14m", "6.9b", "12b")] == [1, 4, 8]
    assert parse_study({**STUDY.model_dump(exclude_unset=True), "ranks": 2}, "s.yaml").ranks_of("12b") == 2


@pytest.mark.parametrize(
    ("scale", "described", "wanted"),
    [
        ("7b", {"hub": "org/zephyr"}, 7_000_000_000),
        ("135m", {"path": "m"}, 135_000_000),
        ("it", {"hub": "org/gemma-1.1-2b-it"}, 2_000_000_000),
        ("mini", {"hub": "org/mini", "n_params": 3_800_000_000}, 3_800_000_000),
        ("mini", {"hub": "org/mini-4k"}, 500_000_000),
        ("base", {"hub": "EleutherAI/pythia-14m"}, 7_629_056),
    ],
)
def test_the_size_of_a_described_model(scale, described, wanted):
    study = large()
    families = {"mine": {"source": "models", "scales": {scale: described}}}
    found = study.model_copy(update={"families": {"mine": FamilySettings.model_validate(families["mine"])}})
    assert n_parameters(found, "mine", scale) == wanted
