"""Specs of jobs: keys and settings, checked before anything is loaded."""

import sys
from types import SimpleNamespace

import pytest

from hardscale.errors import StudyError
from hardscale.evaluation.spec_check import check_keys, check_settings
from hardscale.models.window import window
from hardscale.settings.perturbation import Perturbation

KEYS = frozenset({"cell", "settings"})


def test_keys_are_exactly_those_expected():
    check_keys({"cell": "a", "settings": {}}, KEYS)
    with pytest.raises(StudyError, match=r"missing key\(s\) settings; allowed: cell, instruction_set, settings"):
        check_keys({"cell": "a"}, KEYS)
    with pytest.raises(StudyError, match=r"unknown key\(s\) sede; allowed: cell, instruction_set, settings"):
        check_keys({"cell": "a", "settings": {}, "sede": 1}, KEYS)


def test_settings_are_parsed_or_named():
    assert check_settings({"cell": "a", "settings": {"eps": 0.1}}, KEYS, Perturbation).eps == 0.1
    with pytest.raises(
        StudyError, match=r"--spec: settings\.eps: found -1, expected a number of at least 1e-12 .*; see docs/study.md"
    ):
        check_settings({"cell": "a", "settings": {"eps": -1}}, KEYS, Perturbation)


@pytest.mark.parametrize(("config", "expected"), [({"max_position_embeddings": 12}, 12), ({}, sys.maxsize)])
def test_how_much_a_model_reads(config, expected):
    assert window(SimpleNamespace(config=SimpleNamespace(to_dict=lambda: config))) == expected
