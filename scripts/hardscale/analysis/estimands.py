"""What a 95 % interval is about. Every table says it in these words beside the interval.

* :data:`THESE`: these very models, trained once. The interval says how far the examples that happened to be drawn may
  have moved the estimate from what infinitely many of their kind would give. It says nothing
  about other seeds.
* :data:`ALIKE`: models like them. New seeds of a scale, or, for a line over scales, new scales, drawn as these were:
  the interval is about the line or the rate of that population, and so contains the choice of examples too.
* :data:`CROSSED`: the line through the crossings of rounds that the attack does break, as the paper fits it. Where
  some rounds are not broken, it is not the line of all.
"""

from __future__ import annotations

THESE = "these models"
ALIKE = "models like them"
CROSSED = "rounds that are broken"

#: Seeds of a scale from which on their differences are measured well enough for :data:`ALIKE`.
ENOUGH_SEEDS = 5
#: Scales from which on a line over scales is about :data:`ALIKE`: two always lie on a line.
ENOUGH_SCALES = 3
