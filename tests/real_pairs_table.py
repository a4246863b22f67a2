"""Print a table of every attack on every real pair of tokenizer and template, at every position.

``HARDSCALE_TOKENIZERS=folder python tests/real_pairs_table.py [pair ...]``
"""

from __future__ import annotations

import sys
import time

from real_attacks import ATTACKS, POSITIONS, measure
from real_pairs import ALL_PAIRS, FOLDER


def main(names: list[str]) -> int:
    if not FOLDER:
        print("HARDSCALE_TOKENIZERS names no folder; set it to one with gpt_neox, llama2, gemma3 and qwen3")
        return 2
    print("| pair | position | attack | start | survive | retokenized | re-scored | s |")
    print("|---|---|---|---|---|---|---|---|")
    n_bad = n_rows = 0
    for pair in ALL_PAIRS:
        for position in POSITIONS if not names or pair.name in names else ():
            for kind in ATTACKS:
                began, n_rows = time.monotonic(), n_rows + 1
                try:
                    found = measure(pair, position, kind)
                except Exception as error:  # an abort is a row of the table
                    n_bad += 1
                    print(
                        f"| {pair.name} | {position} | {kind} | aborted: {type(error).__name__}: {error} | | | | |",
                        flush=True,
                    )
                    continue
                start = ", ".join(f"{name} {n}" for name, n in found.starts.items())
                shares = ["" if share is None else f"{share:.2f}" for share in (found.survived, found.retokenized)]
                agrees = "yes" if found.agrees else "NO"
                n_bad += agrees == "NO"
                row = [pair.name, position, kind, start, *shares, agrees, f"{time.monotonic() - began:.1f}"]
                print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{n_bad} of {n_rows} rows aborted or differ")
    return int(n_bad > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
