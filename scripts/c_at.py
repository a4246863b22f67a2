"""Train a classifier against attacks on its embeddings, publish its stages. Every rank is a process; this one waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("c_at")
