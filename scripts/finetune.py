"""Finetune a classifier (round 0 of a cell). Every rank is a process; this one only waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("finetune")
