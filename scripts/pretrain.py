"""Pretrain a scratch family's language model on task texts. Every rank is a process; this one only waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("pretrain")
