"""Attacks, defenses and tasks that are put together fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.chat import ChatTaskSettings
from hardscale.settings.checks.finals import every_final, finals, row_cells, trained_cells
from hardscale.settings.defenses import training_attack
from hardscale.settings.perturbation import BALL
from hardscale.settings.selection import UNDEFENDED
from hardscale.settings.words import quoted

if TYPE_CHECKING:
    from hardscale.settings.study import Cell, Study


def check_pairs(study: Study) -> None:
    """Attacks and defenses of a row are for its kind of model."""
    for i, row in enumerate(study.evaluate):
        for task in sorted({cell.task for cell in row_cells(study, row)}):
            what = "a chat task" if study.is_chat(task) else "a classification task"
            for attack in row.attacks:
                if not study.fits(task, attack):
                    raise ValueError(
                        f"evaluate.{i}.attacks: {attack!r} ({study.attacks[attack].kind}) is for chat models, "
                        f"{task!r} is {what}; choose tasks by `where`"
                    )
            for defense in row.defenses:
                if not study.fits(task, defense=defense):
                    raise ValueError(
                        f"evaluate.{i}.defenses: {defense!r} ({study.defenses[defense].kind}) does not train models "
                        f"of {task!r}, which is {what}; choose tasks by `where`"
                    )


def check_positions(study: Study) -> None:
    """Attacks on chat models write before or after a request: nothing stands apart in the middle of one."""
    for key, form, cells in every_final(study):
        chats = [cell for cell in cells if study.is_chat(cell.task)]
        if chats and getattr(form, "position", None) == "infix90":
            raise ValueError(f"{key}.position: found infix90 for {chats[0].key}, a chat model; give suffix or prefix")


def check_balls(study: Study) -> None:
    """Attacks with the ball of a training name none of their own and stay with models that were trained in one."""
    for i, row in enumerate(study.evaluate):
        cells = row_cells(study, row)
        for name in row.attacks:
            for form, some in finals(study, f"attacks.{name}", cells):
                if isinstance(form, EmbeddingAttack) and form.ball == "training":
                    _must_have_balls(study, f"evaluate.{i}", name, form, row.defenses, some)


def _must_have_balls(
    study: Study, key: str, name: str, attack: EmbeddingAttack, defenses: Sequence[str], cells: Sequence[Cell]
) -> None:
    own = attack.perturbation.model_fields_set if "perturbation" in attack.model_fields_set else set()
    if given := [setting for setting in BALL if setting in own]:
        raise ValueError(
            f"attacks.{name}.perturbation.{given[0]}: given beside ball: training, which takes it from each "
            "model's training; leave it out, or use ball: own"
        )
    for defense in defenses:
        trained = [] if defense == UNDEFENDED else [form for form, _ in finals(study, f"defenses.{defense}", cells)]
        attacks = [training_attack(form) for form in trained]
        if not all(attacks) or not trained:
            raise ValueError(
                f"{key}.attacks: {name!r} takes its ball from the training (ball: training), and {defense!r} has "
                "no attack on embeddings there; give those models one with its own eps, in another row"
            )
        for training in attacks:
            if training and training.eps is None and attack.perturbation.needs_ball:
                raise ValueError(
                    f"{key}.attacks: {name!r} takes its ball from the training (ball: training), and that of "
                    f"{defense!r} has eps: null; its start or its steps need one"
                )


def check_chat_training(study: Study) -> None:
    """Chat tasks whose models are trained hold what the training needs."""
    for name, defense in study.defenses.items():
        key = f"defenses.{name}"
        used = any(name in row.defenses for row in study.evaluate)
        if not used or defense.victims != "chat" or defense.trainer is None:
            continue
        for form, cells in finals(study, key, trained_cells(study, name)):
            for task_name in sorted({cell.task for cell in cells}):
                task = study.tasks[task_name]
                assert isinstance(task, ChatTaskSettings)  # the pairs were checked
                if task.train is None:
                    raise ValueError(f"tasks.{task_name}.train: absent, and {key} trains on it; give its behaviors")
                if task.utility is None and (share := _without_chats(form)):
                    raise ValueError(
                        f"tasks.{task_name}.utility: absent, and {key} trains on ordinary chat, too; give it, or "
                        f"{key}.{share}"
                    )


def check_losses(study: Study) -> None:
    """A training minimizes something, by weights that can change."""
    for key, form, cells in every_final(study):
        weights = [name for name in type(form).model_fields if name.endswith("_weight") and name != "loss_rank_weight"]
        if weights and not any(getattr(form, name) for name in weights):
            raise ValueError(
                f"{key}.{weights[0]}: found 0 for {cells[0].key}, as for {quoted(weights[1:])}; give one above 0"
            )
        if getattr(form, "quantize", None) is not None and form.lora is None:
            raise ValueError(f"{key}.quantize: found {form.quantize} beside lora: null; 4-bit weights are not trained")


def _without_chats(form: Any) -> str:
    """The setting by which a training on ordinary chat would not; empty where it does not."""
    has = vars(form)
    if "adversarial_share" in has:
        return "adversarial_share: 1" if has["adversarial_share"] < 1 else ""
    return "utility_weight: 0" if has.get("utility_weight") else ""
