"""Errors that a user can act on: one line that names what is wrong, what is allowed and the next step."""


class HardscaleError(Exception):
    """Base of every error whose message is meant for the user and is complete without a traceback."""


class StudyError(HardscaleError):
    """A study file is wrong: names the key, the value found and what is allowed."""


class DataError(HardscaleError):
    """A data file is missing, malformed or inconsistent with its description."""


class ModelError(HardscaleError):
    """A model folder or hub model cannot be used."""


class ArtifactError(HardscaleError):
    """A published artifact is missing, incomplete or differs from its manifest."""


class TrainingError(HardscaleError):
    """Training cannot continue: a non-finite loss, a rank that vanished, a state that does not fit."""


class AttackError(HardscaleError):
    """An attack cannot run with the settings or the prompts that it was given."""
