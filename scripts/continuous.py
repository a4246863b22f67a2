"""Train a chat model against attacks on its embeddings. Every rank is a process; this one only waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("continuous")
