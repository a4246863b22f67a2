"""The JSON schema of a study and the reference page that lists every key, both generated from the types."""

from __future__ import annotations

import json
from typing import Any

from hardscale.settings.study import Study

#: Between alternatives of a type in a cell of a table.
_OR = " \\| "


def study_schema() -> dict[str, Any]:
    """JSON schema of a study file, for editors and for validation outside Python."""
    schema = Study.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(study_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def reference_page() -> str:
    """Every block of a study with its keys, types, defaults and meanings, as Markdown."""
    schema = study_schema()
    blocks = {"Study": schema, **schema["$defs"]}
    lines = [
        "# Study files",
        "",
        "Generated from the types by `make schema`; a test keeps it equal. Unknown keys are refused. Defaults are the",
        "constants of the paper unless said otherwise. `extends: other.yaml` takes another study as the defaults:",
        "mappings merge key by key, everything else is replaced. A block inside of another keeps what the outer one",
        "has for it by default in every key that is not given: `optimizer: {learning_rate: 1e-4}` changes one number.",
        "",
        "YAML is read strictly, before Snakemake opens the file: a plain value is null, true or false (yes, no, on,",
        "off), a decimal number (`1e-3` too) or text; `010`, `1:30` and dates are text. A key twice in a mapping,",
        "tags, templates and numbers that are not finite are refused. Every number has bounds (in",
        "workflow/schemas/study.schema.json), every list names each thing once, and every cell's settings are checked",
        "as they hold there, overrides applied.",
    ]
    for name, block in blocks.items():
        if "properties" not in block:
            continue
        lines += [
            "",
            f"## {name}",
            "",
            _one_line(block.get("description", "")),
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        required = set(block.get("required", ()))
        for key, value in block["properties"].items():
            default = (
                "required" if key in required else _code(json.dumps(value.get("default"))) if "default" in value else ""
            )
            lines.append(f"| `{key}` | {_type(value)} | {default} | {_one_line(value.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in value:
        return _OR.join(_code(json.dumps(item)) for item in value["enum"])
    if "const" in value:
        return _code(json.dumps(value["const"]))
    for several in ("anyOf", "oneOf"):
        if several in value:
            return _OR.join(_type(item) for item in value[several])
    if value.get("type") == "array":
        kinds = _type(value["items"]).split(_OR) if "items" in value else []
        return _OR.join(f"list of {kind}" for kind in kinds) or "list"
    if value.get("type") == "object":
        inner = value.get("additionalProperties") or next(iter(value.get("patternProperties", {}).values()), None)
        return f"mapping to {_type(inner)}" if isinstance(inner, dict) else "mapping"
    return str(value.get("type", "any"))


def _code(text: str) -> str:
    short = text if len(text) <= 60 else "see block"
    return f"`{short}`".replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
