"""Low-rank adapters: putting them into a language model, saving them, merging them into its weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hardscale.errors import TrainingError
from hardscale.models.load import MODEL, read_config

if TYPE_CHECKING:
    from hardscale.settings.defenses import LoraSettings

#: Folder of the adapter inside a ``model`` artifact, in PEFT's own format.
ADAPTER = "adapter"


def add_lora(lm: Any, settings: LoraSettings, seed: int) -> Any:
    """Put fresh adapters into ``lm`` in place; everything else wants no gradient from now on.

    Args:
        lm: a transformers causal language model.
        settings: rank, scale, dropout and the layers that get one.
        seed: of the adapters' weights; equal seeds give equal adapters whatever the global random state.

    Returns:
        PEFT's handle of the adapters; ``lm`` stays the model to call.

    Raises:
        TrainingError: no layer has such a name.
    """
    from peft import LoraConfig, get_peft_model

    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(lm, config)
        except ValueError as error:
            reason = " ".join(str(error).split())[:160]
            raise TrainingError(
                f"lora.targets: found {targets} ({reason}); name layers of {type(lm).__name__}"
            ) from error


def save_adapter(handle: Any, folder: Path) -> None:
    """Write adapters as PEFT reads them; equal adapters give equal bytes, wherever their base model lay."""
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    config = handle.peft_config["default"]
    config.base_model_name_or_path = None
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)  # a set, written in another order by every process
    config.save_pretrained(folder)
    state = get_peft_model_state_dict(handle, save_embedding_layers=False)
    save_file(
        {name: weight.contiguous() for name, weight in sorted(state.items())}, folder / "adapter_model.safetensors"
    )
    (folder / "adapter_model.safetensors").chmod((folder / "adapter_config.json").stat().st_mode & 0o777)


def merged(handle: Any) -> Any:
    """The language model with its adapters added into its weights, without adapters."""
    return handle.merge_and_unload()


def load_nf4(folder: Path, device: torch.device) -> Any:
    """The language model of an artifact with its weights in four bits (NF4, computing in bfloat16), in training mode.

    Raises:
        TrainingError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingError("quantize: found nf4, but bitsandbytes is not installed; pip install bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=False,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    inner = Path(folder) / MODEL
    return AutoModelForCausalLM.from_pretrained(
        inner,
        config=read_config(inner),
        quantization_config=how,
        device_map={"": device},
        dtype=torch.bfloat16,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    ).train()


def trained_weights(module: torch.nn.Module, zero_stage: int) -> dict[str, Tensor]:
    """Whole values of the parameters that are trained, by name, on the CPU. Every rank calls it."""
    found = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            found[name] = _whole(parameter, zero_stage)
    return found


def _whole(parameter: torch.nn.Parameter, zero_stage: int) -> Tensor:
    if zero_stage < 3:
        return parameter.detach().to("cpu", copy=True)
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().to("cpu", copy=True)


def put_weights(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Set parameters by name.

    Raises:
        KeyError: one of ``weights`` is no parameter of ``module``.
    """
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
