"""Train a block of adversarial rounds and publish each of them. Every rank is a process; this one only waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("adversarial_rounds")
