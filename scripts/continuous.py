"""Train a defense that publishes one model. Every rank is a process; this one only waits."""

from hardscale.launch.driver import drive

if __name__ == "__main__":
    drive("continuous")
