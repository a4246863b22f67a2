"""Imported before all else by entries whose numbers are the same on every processor whatever a study says.

Tables, fits and figures take seconds: nothing is gained there by a processor's own best instructions.
"""

from hardscale.runtime.instruction_set import PORTABLE, settle

settle(PORTABLE, quiet=True)  # the controller has said what this machine cannot have
