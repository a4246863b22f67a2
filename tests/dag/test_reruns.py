"""Partial reruns: the exact jobs that follow from one deletion, one setting, one line of code."""

CELL = "password_match/nano"
RESULTS = "results/reruns"
TABLES = {"collect all runs", "fit scaling laws", "test the study's claims", "summarize the study"}
FIGURES = {
    f"draw {name}"
    for name in (
        "asr_vs_parameters",
        "attack_scaling",
        "attack_comparison",
        "asr_by_round",
        "defense_scaling",
        "offense_defense",
        "clean_accuracy",
    )
}
AFTER = TABLES | FIGURES
AFTER_TRAINING = AFTER | {"add up the cost of the defenses"}


def attacks(scale, defense, rounds, names=("gcg", "rt")):
    return {f"attack {CELL}/{scale}/s0/{defense} round {n:02d} with {a}" for n in rounds for a in names}


def training(scale, defense, *rounds):
    return {f"adversarial rounds {n} to {n} of {CELL}/{scale}/s0/{defense}" for n in rounds}


def test_nothing_to_do_after_a_run(checkout):
    assert checkout.jobs() == set()


def test_a_deleted_figure_is_drawn_again_alone(checkout):
    checkout.path(f"{RESULTS}/figures/asr_by_round.svg").unlink()
    assert checkout.jobs() == {"draw asr_by_round"}


def test_a_deleted_attack_result_is_made_again_with_the_tables(checkout):
    checkout.path(f"{RESULTS}/attacks/{CELL}/a/s0/none/r00/rt/manifest.json").unlink()
    assert checkout.jobs() == attacks("a", "none", [0], ["rt"]) | AFTER


def test_a_deleted_round_reruns_its_block_and_what_depends_on_it(checkout):
    checkout.path(f"{RESULTS}/models/{CELL}/a/s0/gcg-rounds/r01/manifest.json").unlink()
    wanted = training("a", "gcg-rounds", 1, 2) | attacks("a", "gcg-rounds", [1, 2]) | AFTER_TRAINING
    assert checkout.jobs() == wanted


def test_a_deleted_last_round_leaves_the_first(checkout):
    checkout.path(f"{RESULTS}/models/{CELL}/a/s0/gcg-rounds/r02/manifest.json").unlink()
    assert checkout.jobs() == training("a", "gcg-rounds", 2) | attacks("a", "gcg-rounds", [2]) | AFTER_TRAINING


def test_attack_iterations_train_nothing(checkout):
    checkout.edit(
        "tests/data/reruns.yaml",
        "rt: {kind: random_token, n_iterations: 2}",
        "rt: {kind: random_token, n_iterations: 3}",
    )
    wanted = AFTER.copy()
    for scale in "ab":
        wanted |= attacks(scale, "none", [0], ["rt"])
        wanted |= attacks(scale, "gcg-rounds", [1, 2], ["rt"]) | attacks(scale, "rt-rounds", [1, 2], ["rt"])
    assert checkout.jobs() == wanted


def test_one_scales_learning_rate_reruns_only_its_cells(checkout):
    checkout.edit("tests/data/reruns.yaml", "learning_rate: 0.001", "learning_rate: 0.002")
    wanted = {f"finetune {CELL}/b/s0"} | attacks("b", "none", [0]) | AFTER_TRAINING
    for defense in ("gcg-rounds", "rt-rounds"):
        wanted |= training("b", defense, 1, 2) | attacks("b", defense, [1, 2])
    assert checkout.jobs() == wanted


def test_comments_and_docstrings_rerun_nothing(checkout):
    for name in ("attacks/gcg.py", "training/finetune.py", "tasks/build.py", "figures/style.py"):
        path = checkout.path(f"scripts/hardscale/{name}")
        text = path.read_text()
        first = text.index('"""')
        path.write_text(text[: first + 3] + "Another first line.\n" + text[first + 3 :] + "\n# a comment\n")
    assert checkout.jobs() == set()


def test_the_gcg_module_reruns_gcg_attacks_and_gcg_trained_rounds(checkout):
    path = checkout.path("scripts/hardscale/attacks/gcg.py")
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    wanted = AFTER_TRAINING.copy()
    for scale in "ab":
        wanted |= attacks(scale, "none", [0], ["gcg"]) | attacks(scale, "rt-rounds", [1, 2], ["gcg"])
        wanted |= training(scale, "gcg-rounds", 1, 2) | attacks(scale, "gcg-rounds", [1, 2])
    assert checkout.jobs() == wanted


def test_the_module_of_a_constructed_task_reruns_that_task_and_not_the_others(checkout):
    other = checkout.path("scripts/hardscale/tasks/word_length.py")
    other.write_text(other.read_text() + "\n_EDITED = 1\n")
    assert checkout.jobs() == set()
    own = checkout.path("scripts/hardscale/tasks/password_match.py")
    own.write_text(own.read_text() + "\n_EDITED = 1\n")
    assert {"prepare task password_match"} | attacks("a", "none", [0]) | AFTER <= checkout.jobs()


def test_another_version_of_a_library_reruns_what_imports_it(checkout):
    checkout.install("deepspeed", "99.1")
    trained = AFTER_TRAINING.copy()
    for scale in "ab":
        trained |= {f"finetune {CELL}/{scale}/s0"} | attacks(scale, "none", [0])
        for defense in ("gcg-rounds", "rt-rounds"):
            trained |= training(scale, defense, 1, 2) | attacks(scale, defense, [1, 2])
    assert checkout.jobs() == trained


def test_another_version_of_the_plotting_library_redraws_the_figures(checkout):
    checkout.install("matplotlib", "99.1")
    assert checkout.jobs() == FIGURES


def test_a_figure_module_redraws_that_figure(checkout):
    path = checkout.path("scripts/hardscale/figures/asr_by_round.py")
    path.write_text(path.read_text() + "\n_EDITED = 1\n")
    assert checkout.jobs() == {"draw asr_by_round"}


def test_threads_memory_and_launcher_rerun_nothing(checkout):
    done = checkout.snakemake("-n", "--set-resources", "finetune:mem_mb=9", "finetune:launch=debug", "attack:runtime=1")
    assert "Nothing to be done" in done.stdout + done.stderr
